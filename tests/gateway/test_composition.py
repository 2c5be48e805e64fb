"""Files that compose models: what they say, and every error with its line and its edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutti.errors import ConfigError
from tutti.gateway.composed.wiring import Abilities, Wiring, wire
from tutti.hub.composition import Composition, End, is_composition, read_composition

GOOD = """\
name: assistant
memory: 8GB
models:
  ears:
    model: org/ears
    language: en
  brain:
    model: org/brain
    quantization: int8
    max_model_len: 8k
    sampling: {temperature: 0.5}
  voice: {model: org/voice, voice: Ada, threads: 2, memory: 2GB}
edges:
  - request.audio -> ears
  - request.text -> brain
  - ears.text -> brain.text
  - brain.text -> answer
  - brain.text -> voice
  - voice.audio -> answer
"""

HEARS = Abilities(frozenset({"audio"}), frozenset({"text"}), False, True, False)
THINKS = Abilities(frozenset({"text"}), frozenset({"text"}), True, False, False)
SEES = Abilities(frozenset({"text", "image"}), frozenset({"text"}), True, False, False)
COMPLETES = Abilities(frozenset({"text"}), frozenset({"text"}), False, False, False)
SPEAKS = Abilities(frozenset({"text"}), frozenset({"audio"}), False, False, True)
OMNI = Abilities(
    frozenset({"text", "image", "audio", "video"}), frozenset({"text", "audio"}), True, False, True
)


def read(tmp_path: Path, text: str) -> Composition:
    path = tmp_path / "assistant.yaml"
    path.write_text(text)
    return read_composition(path)


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert (found.name, found.memory) == ("assistant", 8_000_000_000)
    assert [(part.name, part.line, part.model) for part in found.parts] == [
        ("ears", 5, "org/ears"),
        ("brain", 8, "org/brain"),
        ("voice", 12, "org/voice"),
    ]
    assert found.part("brain").options == {"quantization": "int8", "max_model_len": 8000}
    assert found.part("brain").manner.sampling == {"temperature": 0.5}
    assert found.part("ears").manner.language == "en"
    assert found.part("voice").options == {"threads": 2, "memory": 2_000_000_000}
    assert found.part("voice").manner.voice == "Ada"
    assert [(str(edge), edge.line) for edge in found.edges[:3]] == [
        ("request.audio -> ears.audio", 14),
        ("request.text -> brain.text", 15),
        ("ears.text -> brain.text", 16),
    ]
    assert found.edges[-1].destination == End("answer", "audio")


def test_models_beside_the_file_are_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "brain").mkdir()
    found = read(tmp_path, GOOD.replace("org/brain", "brain").replace("org/ears", "./nowhere"))
    assert found.part("brain").model == str(tmp_path / "brain")
    assert found.part("ears").model == str(tmp_path / "nowhere")


def test_a_name_ending_with_yaml_is_a_file_unless_it_is_a_folder(tmp_path: Path) -> None:
    assert is_composition("assistant.yaml") and is_composition("A.YML")
    assert not is_composition("org/name") and not is_composition(str(tmp_path))
    (tmp_path / "model.yaml").mkdir()
    assert not is_composition(str(tmp_path / "model.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("memory: 8GB", "memroy: 8GB", 2, "'memroy' is not known; there are name, models, edges, memory"),
        ("memory: 8GB", "memory: many", 2, "memory: memory: 'many' is not a size"),
        ("memory: 8GB", "name: other", 2, "there are two keys 'name', the first on line 1"),
        ("    quantization: int8", "    quantisation: int8", 9, "models.brain: 'quantisation' is not known"),
        ("    quantization: int8", "    threads: many", 9, "models.brain.threads: Expected `int | null`"),
        ("max_model_len: 8k", "max_model_len: long", 10, "models.brain.max_model_len: 'long' is not a number"),
        ("{temperature: 0.5}", "{temprature: 0.5}", 11, "'temprature' is no parameter of sampling"),
        ("{temperature: 0.5}", "{temperature: -1}", 11, "temperature must be a finite number"),
        ("language: en", "task: listen", 6, "models.ears.task: Invalid enum value 'listen'"),
        ("  brain:", "  ears:", 7, "models: there are two parts 'ears', the first on line 4"),
        ("  brain:", "  request:", 8, "request is the name of an end of the whole"),
        ("  brain:", "  my brain:", 8, "a part's name is letters, digits"),
        ("    model: org/ears\n", "", 5, "models.ears: model is missing"),
        ("- ears.text -> brain.text", "- ears.text => brain", 16, "write it as source -> destination"),
        ("- ears.text -> brain.text", "- ears -> brain", 16, "of which modality? write for instance ears.text"),
        ("- ears.text -> brain.text", "- eyes.text -> brain", 16, "there is no 'eyes' here; there are request"),
        ("- ears.text -> brain.text", "- ears.text -> request", 16, "there is no 'request' here; there are ears"),
        ("- ears.text -> brain.text", "- ears.txt -> brain", 16, "'txt' is none of text, image, audio, video"),
        ("edges:\n", "edges: none\nmore:\n", 14, "'more' is not known"),
        ("models:\n", "models: []\nparts:\n", 4, "'parts' is not known"),
        ("name: assistant", "name: [a]", 1, "name must be a text"),
        ("name: assistant", "name: {", 3, "this is not YAML"),
    ],
)  # fmt: skip
def test_errors_of_form_name_the_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    place, text = f"{tmp_path / 'assistant.yaml'}:{line}: ", str(caught.value)
    assert text.startswith(place), text
    assert message in text


@pytest.mark.parametrize("key", ["name", "models", "edges"])
def test_what_is_missing_is_named(tmp_path: Path, key: str) -> None:
    import yaml

    values = yaml.safe_load(GOOD)
    del values[key]
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        read(tmp_path, yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="the file is empty"):
        read(tmp_path, "# nothing\n")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*missing\.yaml"):
        read_composition(tmp_path / "missing.yaml")


# --- edges ------------------------------------------------------------------------------------------------------------


def test_the_example_in_the_docs_is_whole() -> None:
    example = read_composition(Path(__file__).resolve().parents[2] / "docs" / "assistant.yaml")
    found = wire(example, {"ears": HEARS, "brain": THINKS, "voice": OMNI})
    assert (found.brain, found.readers, found.spoken, found.voice) == (
        "brain",
        {"audio": "ears"},
        "brain",
        "voice",
    )


def wired(tmp_path: Path, *edges: str, **parts: Abilities) -> Wiring:
    lines = ["name: a", "models:"]
    lines += [f"  {name}: {{model: org/{name}, prompt: 'Describe.'}}" for name in parts]
    lines += ["edges:", *(f"  - {edge}" for edge in edges)]
    return wire(read(tmp_path, "\n".join(lines)), parts)


SPOKEN = ("request.text -> brain", "brain.text -> answer", "brain.text -> voice", "voice.audio -> answer")


def test_ears_a_brain_and_a_voice(tmp_path: Path) -> None:
    found = wired(
        tmp_path, "request.audio -> ears", "ears.text -> brain", *SPOKEN, ears=HEARS, brain=SEES, voice=SPEAKS
    )
    assert found == Wiring("brain", frozenset(), {"audio": "ears"}, "brain", {}, "brain", "voice")
    assert found.writers(aloud=False) == found.writers(aloud=True) == {"brain"}


def test_a_brain_that_sees_and_speaks_for_itself(tmp_path: Path) -> None:
    edges = (
        "request.text -> brain",
        "request.image -> brain",
        "brain.text -> answer",
        "brain.audio -> answer",
    )
    found = wired(tmp_path, *edges, brain=OMNI)
    assert found == Wiring("brain", frozenset({"image"}), {}, "brain", {}, "brain", "brain")


def test_texts_go_on_from_model_to_model_and_only_as_far_as_they_are_wanted(tmp_path: Path) -> None:
    edges = (
        "request.image -> eyes",
        "eyes.text -> brain",
        "request.text -> brain",
        "brain.text -> answer",
        "brain.text -> translator",
        "translator.text -> voice",
        "voice.audio -> answer",
    )
    found = wired(tmp_path, *edges, eyes=SEES, brain=THINKS, translator=THINKS, voice=OMNI)
    assert found.readers == {"image": "eyes"} and found.hands_on == {"brain": ("translator",)}
    assert (found.writer, found.spoken, found.voice) == ("brain", "translator", "voice")
    assert found.writers(aloud=False) == {"brain"}
    assert found.writers(aloud=True) == {"brain", "translator"}


@pytest.mark.parametrize(
    ("edges", "number", "message"),
    [
        (("request.audio -> ears", "ears.text -> voice.audio", *SPOKEN), 2,
         "edge ears.text -> voice.audio: voice takes text"),
        (("request.image -> ears", "ears.text -> brain", *SPOKEN), 1,
         "edge request.image -> ears.image: ears takes audio"),
        (("request.audio -> ears", "ears.audio -> brain", *SPOKEN), 2,
         "edge ears.audio -> brain.audio: ears gives text"),
        ((*SPOKEN[:2], "brain.text -> omni.image"), 3, "text does not become image on the way"),
        (("request.audio -> omni", "omni.audio -> ears", *SPOKEN), 2, "parts hand on text only"),
        (("request.audio -> answer", *SPOKEN[:2]), 1, "nothing answers here"),
        (("brain.text -> answer.image", *SPOKEN), 1, "an answer is text and audio"),
        ((*SPOKEN, "request.text -> omni"), 5, "request.text goes somewhere already, on line 8"),
        ((*SPOKEN, "omni.text -> answer"), 5, "answer.text comes from somewhere already, on line 9"),
        ((*SPOKEN, "brain.text -> voice.text"), 5, "this edge is there already, on line 10"),
        ((*SPOKEN, "omni.text -> voice"), 5, "voice takes one text, and line 10 gives it one"),
        ((*SPOKEN, "brain.text -> omni", "omni.text -> brain"), 6,
         "the edges make a circle: brain.text -> omni.text (line 12), omni.text -> brain.text (line 13)"),
        ((*SPOKEN, "brain.text -> brain"), 5, "the edges make a circle"),
        ((*SPOKEN, "brain.text -> base"), 5, "base does not converse: it has no chat template"),
        (("request.text -> base", *SPOKEN[1:]), 1, "base does not converse"),
        (SPOKEN[1:], 1, "the conversation goes nowhere: write for instance request.text -> brain"),
        (("request.text -> brain",), 1, "nothing answers: write for instance brain.text -> answer"),
        ((*SPOKEN, "request.audio -> ears"), 5, "ears: what it gives is not used"),
        ((*SPOKEN, "brain.text -> omni"), 5, "omni: what it gives is not used"),
        ((*SPOKEN, "request.audio -> ears", "ears.text -> omni"), 6, "what ears reads goes to brain"),
        ((*SPOKEN[:1], "brain.text -> omni", "omni.text -> answer", "mute.audio -> answer", "brain.text -> mute"), 5,
         "mute does not say texts that it is given"),
        (("request.text -> brain", "ears.text -> answer", "request.audio -> ears"), 2,
         "ears knows nothing of the conversation"),
    ],
)  # fmt: skip
def test_edges_that_make_no_sense_are_named_with_their_line(
    tmp_path: Path, edges: tuple[str, ...], number: int, message: str
) -> None:
    """The parts that no edge names are left out, so that the first edge always stands on the same line."""
    mute = Abilities(frozenset({"text"}), frozenset({"audio"}), False, False, False)
    known = {
        "ears": HEARS, "brain": THINKS, "voice": SPEAKS, "omni": OMNI, "base": COMPLETES, "mute": mute
    }  # fmt: skip
    lines = ["name: a", "models:"]
    used = {name: one for name, one in known.items() if any(name in edge for edge in edges)}
    lines += [f"  {name}: {{model: org/{name}, prompt: 'Describe.'}}" for name in used]
    lines += ["#"] * (6 - len(lines)) + ["edges:", *(f"  - {edge}" for edge in edges)]
    with pytest.raises(ConfigError) as caught:
        wire(read(tmp_path, "\n".join(lines)), used)
    assert str(caught.value).startswith(f"{tmp_path / 'assistant.yaml'}:{7 + number}: "), caught.value
    assert message in str(caught.value)


def test_a_model_that_is_asked_to_read_must_be_told_what_to_do(tmp_path: Path) -> None:
    text = """name: a
models:
  eyes: {model: org/eyes}
  brain: {model: org/brain}
edges:
  - request.image -> eyes
  - eyes.text -> brain
  - request.text -> brain
  - brain.text -> answer
"""
    with pytest.raises(ConfigError, match=r":6: edge .*under models.eyes, prompt: Describe the picture"):
        wire(read(tmp_path, text), {"eyes": SEES, "brain": THINKS})


def test_a_part_without_edges_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":3: idle: no edge leads to it"):
        wired(tmp_path, "request.text -> brain", "brain.text -> answer", idle=THINKS, brain=THINKS)
