"""`tutti run` with a model that draws, and the same in Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image

import tutti
from tests.cli.terminal import Terminal
from tests.cli.terminal import tutti as command
from tests.cli.test_serve import Server
from tests.models.checkpoints import cached
from tests.models.film_pipelines import film_pipeline
from tests.models.original_files import gguf_file
from tests.models.original_files import z_image as original
from tests.models.pipelines import adapter_file, pipeline
from tests.models.sound_pipelines import sound_pipeline
from tests.models.whole_pipelines import whole_pipeline
from tutti.errors import InvalidRequest
from tutti.formats.gguf.blocks import kinds
from tutti.media import container
from tutti.media.image import read_note
from tutti.media.video import read_video

ENGINE = ("--dtype", "float32", "--memory", "3GB", "--threads", "1")


def test_a_picture_goes_into_a_file_of_the_format_of_its_name(tmp_path: Path) -> None:
    folder = str(pipeline("z_image")[1])
    asked = ("a", "red", "circle", "--size", "16x24", "--steps", "2", "--guidance", "2", "--negative", "blue")
    ink = str(adapter_file("z_image", tmp_path, 1))
    asked += ("--cache", "first_block", "--cache-threshold", "2", "--lora", ink, "--lora-scale", "0.5")
    out = tmp_path / "circle.png"
    result = command("run", folder, *asked, "-o", str(out), "--seed", "7", *ENGINE, timeout=240)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(out)
    note = json.loads(read_note(out.read_bytes()))
    assert note["model"] == Path(folder).name  # and not where it lies
    assert note["prompt"] == "a red circle" and note["seed"] == 7 and note["negative_prompt"] == "blue"
    assert note["lora"] == {"name": "z_image-1", "scale": 0.5}
    assert note["cache"] == "first_block" and note["cache_threshold"] == 2
    with tutti.Omni(folder, dtype="float32", memory="3GB", threads=1, lora_modules=f"a={ink}") as omni:
        picture = omni.generate(
            text="a red circle",
            size="16x24",
            steps=2,
            guidance=2.0,
            negative="blue",
            seed=7,
            cache="first_block",
            cache_threshold=2.0,
            lora="a",
            lora_scale=0.5,
        ).images[0]
        with pytest.raises(InvalidRequest, match="multiples of 4 pixels"):
            omni.generate(text="a red circle", size="17x24")
    assert picture.size == (16, 24)
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(out)))


def test_a_terminal_shows_the_picture_coming_in_one_place(tmp_path: Path) -> None:
    out = tmp_path / "circle.png"
    asked = ("run", str(pipeline("z_image")[1]), "a red circle", "--size", "16x24", "--steps", "4")
    colours = {"COLORTERM": "truecolor", "TERM_PROGRAM": "", "TERM": "xterm"}
    with Terminal(*asked, "-o", str(out), *ENGINE, environment=colours) as terminal:
        terminal.expect(r"circle\.png", timeout=240)
        assert terminal.wait() == 0
        assert terminal.raw.count("\x1b[16A") == 3  # three sketches and the picture
    assert out.is_file()


def test_a_file_of_weights_draws_with_the_rest_of_its_pipeline(tmp_path: Path) -> None:
    pipe, folder = pipeline("z_image")
    file = gguf_file(tmp_path / "net.gguf", "lumina2", original(pipe.transformer.state_dict()), kinds.Q5_1)
    asked = ("a cat", "--size", "16x16", "--steps", "2", "--seed", "3")
    fewer = ("--quantization", "text_encoder=fp8")
    out = [tmp_path / name for name in ("one.png", "two.png")]
    for named, path in (
        ((str(file), "--pipeline", str(folder)), out[0]),
        ((str(folder), "--component", f"transformer={file}"), out[1]),
    ):
        result = command("run", *named, *asked, *fewer, "-o", str(path), *ENGINE, timeout=240)
        assert result.returncode == 0, result.stderr
    drawn = [np.asarray(Image.open(path)) for path in out]
    assert np.array_equal(*drawn)
    how = {"dtype": "float32", "memory": "3GB", "threads": 1, "quantization": "text_encoder=fp8"}
    with tutti.Omni(str(file), pipeline=str(folder), **how) as omni:
        picture = omni.generate(text="a cat", size="16x16", steps=2, seed=3).images[0]
    assert np.array_equal(drawn[0], np.asarray(picture))
    fits = command("fit", str(file), "--pipeline", str(folder), *ENGINE, timeout=240)
    assert fits.returncode == 0 and "Q5_1 matrices, float32 elsewhere" in fits.stdout
    wrong = command("run", str(file), "a cat", timeout=240)
    assert wrong.returncode == 1 and "--pipeline FOLDER" in wrong.stderr
    wrong = command("run", str(folder), "a cat", "--component", "transformer", timeout=240)
    assert wrong.returncode == 1 and "write NAME=FILE" in wrong.stderr


def test_a_gguf_file_in_a_folder_of_the_store_draws(tmp_path: Path) -> None:
    pipe, folder = pipeline("z_image")
    model = shutil.copytree(folder, tmp_path / "model")
    next((model / "transformer").glob("*.safetensors")).unlink()
    state = original(pipe.transformer.state_dict())
    gguf_file(model / "transformer" / "net.gguf", "lumina2", state, kinds.Q5_1)
    store = {"OLLAMA_MODELS": str(tmp_path / "models")}
    (tmp_path / "Modelfile").write_text(f"FROM {model}\n")
    made = command("create", "small", "-f", str(tmp_path / "Modelfile"), environment=store)
    assert made.returncode == 0, made.stderr
    asked = ("a cat", "--size", "16x16", "--steps", "1", "-o", str(tmp_path / "cat.png"))
    result = command("run", "small", *asked, *ENGINE, environment=store, timeout=240)
    assert result.returncode == 0, result.stderr


def test_a_model_of_the_store_draws_too(tmp_path: Path) -> None:
    store = {"OLLAMA_MODELS": str(tmp_path / "models")}
    (tmp_path / "Modelfile").write_text(f"FROM {pipeline('z_image')[1]}\n")
    made = command("create", "painter", "-f", str(tmp_path / "Modelfile"), environment=store)
    assert made.returncode == 0, made.stderr
    assert "image" in command("show", "painter", environment=store).stdout.split()
    out = tmp_path / "cat.webp"
    asked = ("a cat", "--size", "16x16", "--steps", "1", "-o", str(out))
    result = command("run", "painter", *asked, *ENGINE, environment=store, timeout=240)
    assert result.returncode == 0, result.stderr
    assert Image.open(out).format == "WEBP"


def test_a_server_of_processes_draws() -> None:
    server = Server(str(pipeline("z_image")[1]), "--served-model-name", "tiny", *ENGINE)
    try:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        answer = client.images.generate(
            prompt="a cat", extra_body={"size": "16x16", "num_inference_steps": 1}
        )
        assert answer.data is not None and answer.data[0].b64_json
    finally:
        code, errors = server.end()
    assert code == 0, errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "a.gif"), "the name must end with .png"),
        (("-o", "nowhere/a.png"), "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_loaded(
    arguments: tuple[str, str], message: str, tmp_path: Path
) -> None:
    result = command("run", "pico", "a cat", "-o", str(tmp_path / arguments[1]))
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_model_that_writes_does_not_draw(tmp_path: Path) -> None:
    result = command("run", str(cached("qwen3")), "hi", "-o", str(tmp_path / "a.png"), timeout=240)
    assert result.returncode == 1 and "does not draw: --output means nothing to it" in result.stderr


def test_fit_says_what_can_be_drawn() -> None:
    result = command("fit", str(pipeline("z_image")[1]), "--memory", "3GB", timeout=240)
    assert result.returncode == 0, result.stderr
    assert "tokens in a step of several pictures" in result.stdout and "It fits" in result.stdout


def test_a_picture_that_the_prompt_names_is_drawn_from(tmp_path: Path) -> None:
    folder = str(pipeline("z_image")[1])
    source, mask, out = tmp_path / "cat.png", tmp_path / "mask.png", tmp_path / "out.png"
    values = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(source)
    Image.fromarray(np.tile([[0] * 8 + [255] * 8], (24, 1)).astype(np.uint8)).save(mask)
    asked = ("make it blue", str(source), "--mask", str(mask), "--strength", "0.7", "--steps", "3")
    result = command("run", folder, *asked, "-o", str(out), "--seed", "7", *ENGINE, timeout=240)
    assert result.returncode == 0, result.stderr
    note = json.loads(read_note(out.read_bytes()))
    assert note["prompt"] == "make it blue" and note["strength"] == 0.7 and note["size"] == "16x24"
    with tutti.Omni(folder, dtype="float32", memory="3GB", threads=1) as omni:
        manner = {"text": "make it blue", "steps": 3, "seed": 7, "strength": 0.7}
        for given in (source, Image.fromarray(values), values):
            picture = omni.generate(images=[given], mask=Image.open(mask), **manner).images[0]
            assert np.array_equal(np.asarray(picture), np.asarray(Image.open(out)))
        unmasked = omni.generate(images=[source], **manner).images[0]
        assert not np.array_equal(np.asarray(unmasked), np.asarray(Image.open(out)))
        with pytest.raises(InvalidRequest, match="begins from one picture"):
            omni.generate(images=[source, source], **manner)


def test_a_film_goes_into_a_file(tmp_path: Path) -> None:
    folder = str(film_pipeline("wan")[1])
    out = tmp_path / "cat.mp4"
    asked = ("a cat", "--size", "32x16", "--frames", "5", "--fps", "8", "--steps", "2", "--guidance", "2")
    result = command("run", folder, *asked, "-o", str(out), "--seed", "7", *ENGINE, timeout=240)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(out)
    note = json.loads(container.read_note(out.read_bytes()))
    assert (note["num_frames"], note["fps"], note["seed"]) == (5, 8.0, 7) and note["model"] == Path(
        folder
    ).name
    with tutti.Omni(folder, dtype="float32", memory="3GB", threads=1) as omni:
        video = omni.generate(
            text="a cat", size="32x16", frames=5, fps=8, steps=2, guidance=2.0, seed=7
        ).videos[0]
    assert video.frames.shape == (5, 16, 32, 3) and video.fps == 8
    again = tmp_path / "again.mp4"
    video.save(again)
    assert again.stat().st_size > 500
    shown = read_video(out.read_bytes(), fps=8).frames.astype(int)
    assert np.abs(shown - read_video(again.read_bytes(), fps=8).frames).max() <= 2
    result = command("run", folder, "a cat", "-o", str(tmp_path / "a.png"), *ENGINE, timeout=240)
    assert result.returncode == 1 and "this model films: the name must end with .mp4" in result.stderr


def test_a_film_begins_with_the_picture_that_the_prompt_names(tmp_path: Path) -> None:
    folder = str(film_pipeline("wan_small")[1])
    Image.fromarray(np.full((20, 40, 3), 200, np.uint8)).save(tmp_path / "cat.png")
    asked = ("--size", "32x16", "--frames", "5", "--steps", "2", "--seed", "7", "--guidance", "1")
    out = tmp_path / "cat.mp4"
    prompt = f"the cat walks away {tmp_path / 'cat.png'}"
    result = command("run", folder, prompt, *asked, "-o", str(out), *ENGINE, timeout=240)
    assert result.returncode == 0, result.stderr
    assert json.loads(container.read_note(out.read_bytes()))["prompt"] == "the cat walks away"
    with tutti.Omni(folder, dtype="float32", memory="3GB", threads=1) as omni:
        fields = {"size": "32x16", "frames": 5, "steps": 2, "seed": 7, "guidance": 1.0}
        video = omni.generate(text="the cat walks away", images=[tmp_path / "cat.png"], **fields).videos[0]
    video.save(tmp_path / "again.mp4")
    shown, again = (
        read_video(path.read_bytes(), fps=24).frames.astype(int) for path in (out, tmp_path / "again.mp4")
    )
    assert np.abs(shown - again).max() <= 2


def test_show_says_that_a_model_films(tmp_path: Path) -> None:
    store = {"OLLAMA_MODELS": str(tmp_path / "models")}
    (tmp_path / "Modelfile").write_text(f"FROM {film_pipeline('wan')[1]}\n")
    made = command("create", "filmer", "-f", str(tmp_path / "Modelfile"), environment=store)
    assert made.returncode == 0, made.stderr
    assert "video" in command("show", "filmer", environment=store).stdout.split()


def test_a_sound_goes_into_a_file(tmp_path: Path) -> None:
    folder = str(sound_pipeline()[1])
    out = tmp_path / "rain.wav"
    asked = ("rain on", "a roof", "--seconds", "0.5", "--steps", "2", "--guidance", "2", "--negative", "low")
    result = command("run", folder, *asked, "-o", str(out), "--seed", "7", *ENGINE, timeout=240)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(out) and "weight_norm" not in result.stderr
    note = json.loads(container.read_note(out.read_bytes()))
    assert note["prompt"] == "rain on a roof" and note["model"] == Path(folder).name
    assert (note["seconds"], note["seed"], note["negative_prompt"]) == (0.5, 7, "low")
    result = command("run", folder, "rain", "-o", str(tmp_path / "a.png"), *ENGINE, timeout=240)
    assert result.returncode == 1 and "this model makes sounds: the name must end with .wav" in result.stderr
    result = command("run", folder, "rain", "--size", "16x16", *ENGINE, timeout=240)
    assert result.returncode == 1 and "size is for models that draw" in result.stderr


def test_a_pipeline_that_no_family_serves_draws_and_is_told_apart(tmp_path: Path) -> None:
    store = {"OLLAMA_MODELS": str(tmp_path / "models")}
    (tmp_path / "Modelfile").write_text(f"FROM {whole_pipeline('stable_diffusion')[1]}\n")
    made = command("create", "old", "-f", str(tmp_path / "Modelfile"), environment=store)
    assert made.returncode == 0, made.stderr
    shown = command("show", "old", environment=store).stdout
    assert "image" in shown.split() and "by diffusers' own pipeline, one request after the other" in shown
    out = tmp_path / "cat.png"
    asked = ("a cat", "--size", "16x24", "--steps", "2", "--negative", "blue", "-o", str(out))
    result = command("run", "old", *asked, *ENGINE, environment=store, timeout=240)
    assert result.returncode == 0, result.stderr
    assert Image.open(out).size == (16, 24)
    assert json.loads(read_note(out.read_bytes()))["negative_prompt"] == "blue"
    result = command("run", "old", *asked, "--strength", "0.5", *ENGINE, environment=store, timeout=240)
    assert result.returncode == 1 and "strength says how much of a picture" in result.stderr
