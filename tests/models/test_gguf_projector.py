"""A language model and what sees for it, as two GGUF files, answer about pictures as the safetensors original does."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.models.checkpoints import IMAGE
from tests.models.gguf_files import finish
from tests.models.projector_files import write_language, write_projector
from tests.models.test_sight import GREEDY, SMALL, make, png, prompts, theirs, tokens
from tutti.errors import CheckpointError
from tutti.formats.checkpoint import open_checkpoint
from tutti.formats.gguf.header import describe
from tutti.hub.create import create
from tutti.hub.model import read_model
from tutti.hub.modelfile import read_modelfile
from tutti.hub.store import Store
from tutti.hub.views import checkpoint_of
from tutti.request import Chat, Media, Request, Tokens


@pytest.fixture
def language(tmp_path: Path) -> Path:
    return write_language(tmp_path / "tiny.gguf")


def stored(folder: Path, text: str) -> tuple[Store, Path]:
    """A store with the model that a Modelfile says, and what an engine opens of it."""
    store = Store(folder / "models")

    async def work() -> None:
        async for _ in create(store, "tiny", read_modelfile(text), describe, folder=folder):
            pass

    asyncio.run(work())
    return store, checkpoint_of(store, store.get("tiny"))


@pytest.mark.parametrize("older", [False, True])
def test_answers_about_pictures_are_those_of_transformers(
    tmp_path: Path, language: Path, older: bool
) -> None:
    write_projector(tmp_path / "tiny.mmproj.gguf", older=older)
    assert tokens(make("", language).generate(prompts(), GREEDY)) == theirs("llava")


def test_a_modelfile_joins_them(tmp_path: Path, language: Path) -> None:
    write_projector(tmp_path / "eyes.gguf")
    store, path = stored(tmp_path, "FROM ./tiny.gguf\nFROM ./eyes.gguf\n")
    llm = make("", path)
    assert tokens(llm.generate(prompts(), GREEDY)) == theirs("llava")
    assert len(read_model(store, store.get("tiny")).projectors) == 1
    said = ({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "hello"}]},)
    for chat in (
        Chat(said, go_template="{{ .Prompt }}"),
        Chat(said, template="{{ messages[0].content }}"),  # it takes text alone
    ):
        request = Request(id="x", parts=(chat, Media("image", png(SMALL))))
        (prompt,) = (part for part in llm.processor.prepare(request).parts if isinstance(part, Tokens))
        assert prompt.ids.count(IMAGE) == 16
        assert llm.processor.tokenizer.decode(prompt.ids).endswith("hello")


def test_a_model_without_eyes_takes_text(tmp_path: Path, language: Path) -> None:
    assert make("", language).engine.info.inputs == ("text",)


def test_eyes_of_another_kind_are_told_and_the_model_takes_text(
    tmp_path: Path, language: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "tiny.mmproj.gguf", "clip")
    writer.add_string("clip.projector_type", "resampler")
    finish(writer)
    with caplog.at_level(logging.WARNING, "tutti"):
        assert open_checkpoint(language).config["model_type"] == "llama"
    assert "a projector of the kind 'resampler' is not supported" in caplog.text


def test_eyes_of_another_model_are_refused(tmp_path: Path, language: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "tiny.mmproj.gguf", "clip")
    writer.add_string("clip.projector_type", "mlp")
    writer.add_tensor("mm.2.weight", np.zeros((32, 32), np.float32))
    finish(writer)
    with pytest.raises(CheckpointError, match=r"rows of 32, but .* takes rows of 64: they are not of one"):
        open_checkpoint(language)
