"""Names of models: packaged, directories, Hugging Face ids; a real download from a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.hub_server import COMMIT, Hub, serve
from tutti.errors import CheckpointError, ModelNotFound, Unauthorized
from tutti.formats.safetensors import read_header
from tutti.hub import outline_model, resolve_model
from tutti.settings import Settings

CHECKPOINT = {
    "config.json": b'{"architectures": ["Tiny"]}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"model_max_length": 8}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": b"\x08" + b"\0" * 7 + b"{      }" + b"weights" * 1000,
}
CLUTTER = {
    "README.md": b"# tiny",
    "pytorch_model.bin": b"pickles",
    "consolidated.safetensors": b"the same weights again",
    "original/params.json": b"{}",
    "onnx/model.onnx": b"onnx",
    "tiny.Q4_0.gguf": b"GGUF",
    "8bit/model.safetensors": b"the same weights in fewer bits",
}

CODEC = {
    "speech_tokenizer/config.json": b"{}",
    "speech_tokenizer/model.safetensors": b"codec",
    "1_Pooling/config.json": b"{}",
}

DRAWS = {
    "model_index.json": b'{"_class_name": "Draws", "vae": ["diffusers", "Vae"]}',
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": CHECKPOINT["model.safetensors"],
}
OTHER_FORMS = {
    "everything.safetensors": b"in one file",
    "vae/diffusion_pytorch_model.fp16.safetensors": b"half",
    "vae/diffusion_pytorch_model.bin": b"pickles",
    "picture.png": b"PNG",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    repos = {
        "org/tiny": CHECKPOINT | CLUTTER,
        "org/gated": dict(CHECKPOINT),
        "org/speech": CHECKPOINT | CLUTTER | CODEC,
        "org/pickled": {"config.json": b"{}"},
        "org/draws": DRAWS | OTHER_FORMS,
    }
    with serve(Hub(repos, gated={"org/gated"})) as running:
        yield running


def test_a_directory_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert resolve_model(str(tmp_path)) == tmp_path


def test_a_directory_that_is_no_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"has no \*\.safetensors"):
        resolve_model(str(tmp_path))
    with pytest.raises(CheckpointError, match="is a file"):
        resolve_model(str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    "name", ["nosuchmodel", "./nosuch/model", "/nosuch", "~/nosuch", "a/b/c", "", "with space/x"]
)
def test_an_unknown_name_says_what_was_tried(name: str) -> None:
    with pytest.raises(ModelNotFound, match="no packaged model"):
        resolve_model(name)


def test_a_hub_id_fetches_the_files_a_model_needs_and_no_others(hub: Hub, tmp_path: Path) -> None:
    path = resolve_model("org/tiny", Settings(hf_endpoint=hub.url), cache=tmp_path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == CHECKPOINT
    assert sorted(hub.fetched) == sorted(CHECKPOINT)


def test_the_codec_of_a_model_that_speaks_comes_with_it(hub: Hub, tmp_path: Path) -> None:
    path = resolve_model("org/speech", Settings(hf_endpoint=hub.url), cache=tmp_path)
    assert {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} == {
        *CHECKPOINT,
        *CODEC,
    }


def test_a_pipeline_comes_with_the_folders_of_its_components_and_no_other_form_of_them(
    hub: Hub, tmp_path: Path
) -> None:
    path = resolve_model("org/draws", Settings(hf_endpoint=hub.url), cache=tmp_path)
    found = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert found == set(DRAWS)
    assert set(hub.fetched) <= set(DRAWS)  # two files of the same bytes come once


def test_weights_that_are_taken_from_elsewhere_are_not_fetched(hub: Hub, tmp_path: Path) -> None:
    path = resolve_model("org/draws", Settings(hf_endpoint=hub.url), cache=tmp_path, without=("vae",))
    found = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    left = {name for name in DRAWS if name.startswith("vae/") and name.endswith(".safetensors")}
    assert left and found == set(DRAWS) - left


def test_the_outline_of_a_pipeline_has_headers_in_its_folders(hub: Hub, tmp_path: Path) -> None:
    with outline_model("org/draws", Settings(hf_endpoint=hub.url), cache=tmp_path) as path:
        file = path / "vae" / "diffusion_pytorch_model.safetensors"
        assert file.stat().st_size == len(DRAWS["vae/diffusion_pytorch_model.safetensors"])
        found = {str(one.relative_to(path)) for one in path.rglob("*") if one.is_file()}
        assert {name for name in found if not name.startswith(".")} == set(DRAWS)


def test_what_was_fetched_once_is_not_fetched_again_and_serves_offline(hub: Hub, tmp_path: Path) -> None:
    first = resolve_model("org/tiny", Settings(hf_endpoint=hub.url), cache=tmp_path)
    hub.fetched.clear()
    assert resolve_model("org/tiny", Settings(hf_endpoint=hub.url), cache=tmp_path) == first
    assert hub.fetched == []
    asked = hub.asked
    assert resolve_model("org/tiny", Settings(hf_endpoint="http://127.0.0.1:9"), cache=tmp_path) == first
    assert hub.asked == asked


def test_a_revision_is_named_after_an_at_sign(hub: Hub, tmp_path: Path) -> None:
    assert resolve_model(f"org/tiny@{COMMIT}", Settings(hf_endpoint=hub.url), cache=tmp_path).name == COMMIT
    with pytest.raises(ModelNotFound, match="no revision 'v9'"):
        resolve_model("org/tiny@v9", Settings(hf_endpoint=hub.url), cache=tmp_path)


def test_an_absent_model_names_the_hub_that_was_asked(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=f"no such model at {hub.url}"):
        resolve_model("org/absent", Settings(hf_endpoint=hub.url), cache=tmp_path)


def test_a_gated_model_asks_for_a_token_and_comes_with_one(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Unauthorized, match="set HF_TOKEN"):
        resolve_model("org/gated", Settings(hf_endpoint=hub.url), cache=tmp_path)
    path = resolve_model("org/gated", Settings(hf_endpoint=hub.url, hf_token=hub.token), cache=tmp_path)
    assert (path / "model.safetensors").is_file()


def test_an_unreachable_hub_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"http://127\.0\.0\.1:9 cannot be asked"):
        resolve_model("org/tiny", Settings(hf_endpoint="http://127.0.0.1:9"), cache=tmp_path)


def test_a_model_without_safetensors_says_so(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no \*\.safetensors"):
        resolve_model("org/pickled", Settings(hf_endpoint=hub.url), cache=tmp_path)


def test_hf_endpoint_and_hf_home_are_honoured(hub: Hub, tmp_path: Path) -> None:
    code = "from tutti.hub import resolve_model; print(resolve_model('org/tiny'))"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_relative_to(tmp_path)


def test_an_outline_has_the_real_headers_and_holes_for_the_weights(hub: Hub, tmp_path: Path) -> None:
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [2_500_000], "data_offsets": [0, 10_000_000]}}
    ).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(range(250)) * 40_000
    hub.repos["org/tiny"]["model.safetensors"] = weights
    with outline_model("org/tiny", Settings(hf_endpoint=hub.url), cache=tmp_path) as path:
        assert read_header(path / "model.safetensors")["w"].shape == (2_500_000,)
        assert (path / "model.safetensors").stat().st_size == len(weights)
        assert (path / "config.json").read_bytes() == CHECKPOINT["config.json"]
    assert hub.sent < len(weights) / 2
    assert not path.exists()


def test_an_outline_of_what_was_downloaded_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    downloaded = resolve_model("org/tiny", Settings(hf_endpoint=hub.url), cache=tmp_path)
    asked = hub.asked
    with outline_model("org/tiny", Settings(hf_endpoint=hub.url), cache=tmp_path) as path:
        assert path == downloaded
    assert hub.asked == asked
