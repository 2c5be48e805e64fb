"""A model that always says the same: it thinks, then calls a tool. Real weights, one successor for each token.

Its layers add nothing, so what follows a token is decided by the token alone; what it says are tokens of their own.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
import transformers

from tests.models.checkpoints import BASE, CHAT_TEMPLATE, EOS, VOCAB, add_tokenizer

THOUGHT = "Let me look."
CALL = '<tool_call>\n{"name": "look", "arguments": {"where": "up", "times": 2}}\n</tool_call>'
SAYS = ("<think>\n", THOUGHT, "</think>\n\n", CALL)
_NEWLINE = ord("\n")
_TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
    + CHAT_TEMPLATE
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n</think>\n\n{% endif %}"
)


def make_scripted(folder: Path) -> Path:
    """Writes the checkpoint."""
    says = range(VOCAB, VOCAB + len(SAYS))
    sizes = {**BASE, "vocab_size": VOCAB + len(SAYS), "max_position_embeddings": 1024}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes, head_dim=24)).float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding = model.model.embed_tokens.weight
        embedding.copy_(torch.normal(0.0, 1.0, embedding.shape, generator=generator))
        model.lm_head.weight.zero_()
        for token, successor in zip((_NEWLINE, *says), (*says, EOS), strict=True):
            model.lm_head.weight[successor] = embedding[token]
    model.save_pretrained(folder)
    add_tokenizer(folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in SAYS])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    return folder
