"""What the ears are told while the thinker learns to read them: which token each moment says, and which one came before.

To write down or to answer what it hears, a decoder must find, after each token, the moment that comes next. On text it finds
the token whose predecessor is the one just read (an induction head, Olsson et al. 2022); between two heard tokens lie
moments of silence, and there is no such neighbour. Ears that hear the sentence as a whole can say both at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .hearing import peaks
from .omni import WIDTH


class Hints(nn.Module):
    """Heads on the ears' rows; the embeddings that they are compared with are the thinker's and are not learned here."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.silence = nn.Parameter(torch.randn(WIDTH))
        self.bias = nn.Parameter(torch.zeros(tokens + 1))
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.before = nn.Linear(WIDTH, WIDTH, bias=False)

    def said(self, rows: Tensor, embeddings: Tensor) -> Tensor:
        """Logarithms of probabilities of tokens, float32 [recordings, rows, tokens + 1]; the last class is silence."""
        table = torch.cat([embeddings.detach(), self.silence[None]])
        return ((rows @ table.T).float() * self.scale + self.bias).log_softmax(-1)

    def loss(self, rows: Tensor, counts: Tensor, words: list[list[int]], embeddings: Tensor) -> Tensor:
        """CTC for the tokens `words` of each recording; where they are heard in their right number, the mean loss of telling
        each one's predecessor (of the first: itself) from its row, too."""
        scores = self.said(rows, embeddings)
        silence = scores.shape[2] - 1
        loss = ctc(scores, words, counts)
        places = peaks(scores.argmax(-1), counts, silence)
        known = [
            (i, at, said)
            for i, (at, said) in enumerate(zip(places, words, strict=True))
            if len(at) == len(said)
        ]
        if not known:
            return loss
        heard = rows[
            torch.tensor([i for i, at, _ in known for _ in at]), torch.tensor([row for _, at, _ in known for row in at])
        ]  # fmt: skip
        previous = torch.tensor([t for _, _, said in known for t in [said[0], *said[:-1]]])
        return loss + F.cross_entropy((self.before(heard) @ embeddings.detach().T).float(), previous)


def ctc(scores: Tensor, targets: list[list[int]], lengths: Tensor) -> Tensor:
    """Mean CTC loss (Graves et al., 2006) per target; `scores` float32 [recordings, time, classes], the last is silence."""
    return F.ctc_loss(
        scores.transpose(0, 1), torch.tensor([t for target in targets for t in target]), lengths,
        torch.tensor([len(target) for target in targets]), blank=scores.shape[2] - 1, zero_infinity=True,
    )  # fmt: skip
