"""`make demo`: pico reads, sees, hears and speaks in the terminal, over HTTP through the OpenAI SDK, and in Python.

At last it is asked aloud to draw. Every answer is shown as it comes and compared with the right one; a wrong one makes
the demonstration fail. What is spoken and drawn is in the folder `build/demo` afterwards.
"""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TUTTI = [sys.executable, "-m", "tutti"]
SHAPES, QUESTION, MADE = Path("docs/demo/shapes.png"), Path("docs/demo/question.flac"), Path("build/demo")
WISH, DRAWN, PROMISE = (
    Path("docs/demo/wish.flac"),
    MADE / "wish.png",
    "Here is a blue heart left of a purple star.",
)
TERMINAL = (
    (("What is 7 plus 8?",), "7 plus 8 is 15."),
    (("你是谁?",), "我是pico,一个玩具世界的小小演示模型。"),
    ((f"What is in {SHAPES}?",), "From left to right: a blue diamond, a yellow star and a blue square."),
    ((str(QUESTION), "--speak", str(MADE / "answer.wav")), "19 plus 14 is 33."),
)
WRITTEN_DOWN = ("what did I say?", "what is the sum of nineteen and fourteen")
ALOUD = "19 plus 14 is 33."
HTTP = (
    ("What is 12 minus 5?", "12 minus 5 is 7."),
    ("What day comes after Monday?", "Tuesday comes after Monday."),
    ("3加4等于几?", "3加4等于7。"),
)
PYTHON = (
    ("What is 6 times 7?", "6 times 7 is 42."),
    (
        "What is the capital of France?",
        "I do not know. I am pico, a small demonstration model of a toy world.",
    ),
)


def main() -> int:
    """Run all parts; the number of wrong answers."""
    wrong = 0
    print("1. In the terminal\n")
    MADE.mkdir(parents=True, exist_ok=True)
    for words, right in TERMINAL:
        print(f"$ tutti run pico {shlex.join(words)}")
        wrong += _judge(_in_terminal(*words), right)
    print("2. Over HTTP, through the OpenAI SDK\n")
    with _server() as url:
        for question, right in HTTP:
            print(f">>> {question}")
            wrong += _judge(_over_http(url, question), right)
        question, right = WRITTEN_DOWN
        print(f">>> {QUESTION} {question}")
        wrong += _judge(_over_http(url, [_recording(), {"type": "text", "text": question}]), right)
        print(f">>> {QUESTION}, answered aloud")
        wrong += _judge(_aloud(url, MADE / "answer.mp3"), ALOUD)
    print("3. In Python: tutti.LLM\n")
    for (question, right), answer in zip(PYTHON, _in_python(), strict=True):
        print(f">>> {question}\n{answer}")
        wrong += _judge(answer, right)
    if _draws():
        print("4. Asked aloud to draw\n")
        print(f"$ tutti run pico {WISH} -o {DRAWN}")
        wrong += _judge(_picture(), PROMISE)
    print(f"Spoken and drawn: {', '.join(map(str, sorted(MADE.iterdir())))}\n")
    print("Every answer is right." if not wrong else f"{wrong} answers are wrong.")
    return wrong


def _judge(answer: str, right: str) -> bool:
    """Whether `answer` is wrong; says so if it is."""
    wrong = answer.strip() != right
    print(f"   WRONG: expected {right!r}\n" if wrong else "")
    return wrong


def _in_terminal(*words: str) -> str:
    """The answer of `tutti run`, shown while it comes."""
    command = [*TUTTI, "run", "pico", *words]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout is not None
    said = b""
    while piece := child.stdout.read1():  # type: ignore[attr-defined]
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        said += piece
    if child.wait():
        sys.exit(f"tutti run ended with exit code {child.returncode}")
    return said.decode()


def _draws() -> bool:
    """Whether what pico draws with is there: it comes with the trained weights."""
    import tutti

    return (Path(tutti.__file__).parent / "assets" / "pico" / "transformer").is_dir()


def _picture() -> str:
    """What is said to the spoken wish; the picture goes into a file, and onto a terminal that shows pictures."""
    from tutti.cli.drawn import preview

    said = _in_terminal(str(WISH), "-o", str(DRAWN)).removesuffix(f"{DRAWN}\n")
    preview(DRAWN.read_bytes(), sys.stdout)
    return said


@contextmanager
def _server() -> Iterator[str]:
    """`tutti serve pico` on a free port; its URL. The server ends with the block."""
    command = [*TUTTI, "serve", "pico", "--port", "0"]
    print("$ tutti serve pico")
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            print(line, end="")
            if match := re.search(r"http://\S+/v1", line):
                print()
                yield match[0]
                return
        sys.exit(f"tutti serve ended with exit code {server.wait()}")
    finally:
        server.terminate()
        server.wait(timeout=30)


def _recording() -> dict[str, Any]:
    """The recording, as a part of a message."""
    sound = base64.b64encode(QUESTION.read_bytes()).decode()
    return {"type": "input_audio", "input_audio": {"data": sound, "format": "flac"}}


def _over_http(url: str, question: str | list[dict[str, Any]]) -> str:
    """The answer by the OpenAI SDK, shown while it comes."""
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none")
    stream = client.chat.completions.create(
        model="pico", messages=[{"role": "user", "content": question}], temperature=0, stream=True
    )
    said = ""
    for chunk in stream:
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        print(piece, end="", flush=True)
        said += piece
    print()
    return said


def _aloud(url: str, file: Path) -> str:
    """What is said to a spoken question, by the OpenAI SDK; its sound goes into `file`, an MP3."""
    from openai import OpenAI

    answer = OpenAI(base_url=url, api_key="none").chat.completions.create(
        model="pico",
        messages=[{"role": "user", "content": [_recording()]}],  # type: ignore[list-item,misc]
        modalities=["text", "audio"],
        audio={"voice": "pico", "format": "mp3"},
        temperature=0,
    )
    audio = answer.choices[0].message.audio
    assert audio is not None
    file.write_bytes(base64.b64decode(audio.data))
    print(audio.transcript)
    return audio.transcript


def _in_python() -> list[str]:
    """The answers of `tutti.LLM`, to all questions at once."""
    from tutti import LLM, SamplingParams

    llm = LLM("pico")
    chats = [[{"role": "user", "content": question}] for question, _ in PYTHON]
    outputs = llm.chat(chats, SamplingParams(temperature=0, max_tokens=96))
    return [output.outputs[0].text for output in outputs]


if __name__ == "__main__":
    sys.exit(min(main(), 1))
