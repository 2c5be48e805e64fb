"""The senses as training computes them are the senses of transformers' classes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch
from tokenizers import Tokenizer

from pico import hearing, prompts
from pico.evaluate import SHIPPED
from pico.gallery import make_picture
from pico.lessons import Lesson
from pico.omni import BANDS, build_ears, build_eyes, build_thinker, make_embeddings_louder
from pico.pictures import PLAIN, draw
from pico.prompts import Rows, examples
from pico.recordings import record
from pico.scenes import random_scene
from pico.sensing import AUDIO, IMAGE
from pico.sight import cut, see
from pico.spoken import draw_spoken
from pico.thinker import Thinker
from pico.values import LANGS, Message


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))


def test_the_ears_hear_a_batch_as_transformers_does() -> None:
    ears = build_ears(0).eval()
    mels = [torch.randn(BANDS, n) for n in (333, 400, 57, 128)]
    heard = hearing.stack(mels)
    after, rows = ears._get_feat_extract_output_lengths(heard.lengths)
    with torch.no_grad():
        ours = hearing.hear(ears, heard)
        theirs = ears(torch.cat(mels, 1), feature_lens=heard.lengths, aftercnn_lens=after).last_hidden_state
    assert heard.rows.tolist() == rows.tolist()
    for one, other in zip(ours, theirs.split(rows.tolist()), strict=True):
        torch.testing.assert_close(one[: len(other)], other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(112, 112), (640, 480), (56, 56), (50, 100)])
def test_the_eyes_see_a_batch_as_transformers_does(size: tuple[int, int]) -> None:
    eyes, rng = build_eyes(0).eval(), Random(0)
    cuts = [cut(draw(rng, random_scene(rng), replace(PLAIN, size=size))) for _ in range(2)]
    grid = cuts[0][1]
    with torch.no_grad():
        ours = see(eyes, torch.stack([patches for patches, _ in cuts]), grid)
        grids = torch.tensor([[1, 2 * grid[0], 2 * grid[1]]] * 2)
        theirs = eyes(torch.cat([patches for patches, _ in cuts]), grid_thw=grids).pooler_output
    torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def lesson(tokenizer: Tokenizer) -> Lesson:
    """Two pictures with a recording each."""
    rng = Random(1)
    pictures = [make_picture(rng, random_scene(rng), (96, 96)) for _ in range(2)]
    recordings = [record(rng, draw_spoken(rng, lang, "train")) for lang in LANGS]
    heard = hearing.stack([r.mel for r in recordings if r])
    messages = [(Message("user", f"{IMAGE}what is{AUDIO}"), Message("assistant", "a"))] * 2
    grid = pictures[0].grid
    batch = prompts.stack(examples(tokenizer, messages, [Rows(int(n), grid) for n in heard.rows]))
    return Lesson("", batch, heard, pictures=torch.stack([p.patches for p in pictures]), grid=grid)


def test_louder_embeddings_change_no_answer(tokenizer: Tokenizer, lesson: Lesson) -> None:
    torch.manual_seed(0)
    model = Thinker(build_thinker(tokenizer, {}).eval(), tokenizer)
    with torch.no_grad():
        model.thinker.model.embed_tokens.weight.normal_(0, 0.2)  # as trained: norms' epsilons do not matter
        before = model(lesson)
        logits = model.thinker.lm_head(before)
        make_embeddings_louder(model.thinker, 4.0)
        after = model(lesson)
        torch.testing.assert_close(model.thinker.lm_head(after), logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(4 * after, before, atol=1e-3, rtol=1e-3)


def test_the_thinker_thinks_of_a_batch_as_transformers_does(tokenizer: Tokenizer, lesson: Lesson) -> None:
    torch.manual_seed(0)
    model = Thinker(build_thinker(tokenizer, {}).eval(), tokenizer)
    batch, heard, grid = lesson.sequences, lesson.heard, lesson.grid
    assert heard is not None and lesson.pictures is not None
    with torch.no_grad():
        ours = model.thinker.lm_head(model(lesson))
        for row in range(2):
            length = int((batch.ids[row] != 0).sum())
            ids = batch.ids[row : row + 1, :length]
            mask = torch.zeros(1, heard.mels.shape[2], dtype=torch.long)
            mask[0, : heard.lengths[row]] = 1
            theirs = model.thinker(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=lesson.pictures[row],
                image_grid_thw=torch.tensor([[1, 2 * grid[0], 2 * grid[1]]]),
                input_features=heard.mels[row : row + 1], feature_attention_mask=mask,
            ).logits  # fmt: skip
            torch.testing.assert_close(ours[row, :length], theirs[0], atol=1e-4, rtol=1e-3)
