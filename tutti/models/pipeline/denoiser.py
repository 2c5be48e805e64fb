"""A whole pipeline in the place of a denoiser: its own call runs in a thread that stops after every step.

    the loop      step ->| waits       |-> other work |-> step ...
    the thread           | one step ->|   waits      |  the next one

Nobody here knows what the pipeline keeps in itself while it runs, so one request is worked on at a time. A step is what
the pipeline's scheduler calls one; the first has the reading of the text with it, the last one the VAE.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tutti.errors import InvalidRequest, StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.note import note_of
from tutti.models.drawing.parts import load_pipeline
from tutti.models.pipeline.config import PATCH
from tutti.models.protocols import Picture
from tutti.request import Request, Text


class _Left(BaseException):
    """Nobody wants the picture any more. Not an Exception, so that no pipeline catches it."""


class Run(threading.Thread):
    """One call of the pipeline. All methods but `pause` are the loop's; `pause` is called within the call.

    After `advance`, `done` of `total` steps are; when all are, there is a `result`.
    """

    def __init__(self, call: Callable[[], Any], steps: int) -> None:
        super().__init__(name="pipeline", daemon=True)
        self.done, self.total = 0, steps
        self.result: Any = None
        self._call = call
        self._error: BaseException | None = None
        self._ended = self._left = False
        self._on, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def advance(self) -> None:
        """Work until a step is done. Raises what the pipeline raised; InvalidRequest where that was before any step."""
        if self.ident is None:
            self.start()
        else:
            self._on.release()
        self._back.acquire()
        if not self._ended:
            return
        self.join()
        if isinstance(self._error, ValueError | TypeError) and self.done == 0:
            raise InvalidRequest(f"the model's pipeline refuses this: {self._error}") from self._error
        if self._error is not None:
            raise self._error
        self.done = self.total

    def leave(self) -> None:
        """End the call, wherever it is."""
        if self.ident is None or self._ended:
            return
        self._left = True
        self._on.release()
        self.join()

    def pause(self, total: int) -> None:
        """A step is done, of so many; wait until the next one is wanted. The last one goes on to the end."""
        self.total = max(1, total)
        if self.done + 1 < self.total and not self._left:
            self.done += 1
            self._back.release()
            self._on.acquire()
        if self._left:
            raise _Left

    def run(self) -> None:
        """The thread."""
        try:
            self.result = self._call()
        except _Left:
            pass
        except BaseException as error:  # noqa: BLE001 - the loop raises it
            self._error = error
        self._ended = True
        self._back.release()


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A request: its run, what a step costs, and what its picture will say of itself."""

    run: Run
    cost: int
    note: str


class PipelineDenoiser:
    """See the module, `models.protocols.DenoiseModel` and `OneByOne`. A state is worked on until it is done."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        for part in pipeline.components.values():
            if hasattr(part, "step") and hasattr(part, "set_timesteps"):
                part.step = _pausing(part)

    def start(self, request: Request, condition: Any) -> State:
        """See `DenoiseModel.start`."""
        drawing, seed = request.drawing, request.sampling.seed
        assert drawing is not None
        if not (drawing.width and drawing.height and drawing.steps and seed is not None):
            raise InvalidRequest("the picture's size, steps and seed must be given", param="size")
        texts = [part.text for part in request.parts if isinstance(part, Text)]
        asked = {
            "prompt": texts[0],
            "negative_prompt": texts[1] if len(texts) > 1 else None,
            "width": drawing.width,
            "height": drawing.height,
            "num_inference_steps": drawing.steps,
            "guidance_scale": drawing.guidance,
            "true_cfg_scale": drawing.true_guidance,
        }
        given = {name: value for name, value in asked.items() if value is not None}

        def call() -> Any:
            generator = torch.Generator("cpu").manual_seed(seed)
            with torch.no_grad():
                return self.pipeline(generator=generator, output_type="np", **given)

        tokens = -(-drawing.width // PATCH) * -(-drawing.height // PATCH)
        return State(Run(call, drawing.steps), tokens, note_of(request))

    def cost(self, state: State) -> int:
        """See `DenoiseModel.cost`: patches of 16 x 16 pixels."""
        return state.cost

    def key(self, state: State) -> Hashable:
        """See `DenoiseModel.key`: nothing is shared."""
        return id(state)

    def step(self, states: list[State]) -> list[State]:
        """See `DenoiseModel.step`. A state goes on in itself: it is of one request, and fails with it."""
        (state,) = states
        state.run.advance()
        return states

    def close(self, state: State) -> None:
        """See `OneByOne.close`."""
        state.run.leave()

    def kept(self, state: State) -> int:
        """See `DenoiseModel.kept`."""
        return 0

    def skipped(self, state: State) -> int:
        """See `DenoiseModel.skipped`."""
        return 0

    def fault(self, state: State) -> str | None:
        """See `DenoiseModel.fault`: of the finished picture."""
        if state.run.result is None or np.isfinite(_pixels(state.run.result)).all():
            return None
        return "the picture has values that are no numbers; try another --dtype (bfloat16, float32)"

    def progress(self, state: State) -> tuple[int, int]:
        """See `DenoiseModel.progress`."""
        return state.run.done, state.run.total

    def preview(self, state: State) -> None:
        """See `DenoiseModel.preview`: there are none."""

    def result(self, state: State) -> Picture:
        """See `DenoiseModel.result`. Raises InvalidRequest where the pipeline's safety checker has blackened it."""
        found = state.run.result
        if any(getattr(found, "nsfw_content_detected", None) or ()):
            raise InvalidRequest(
                "the model's safety checker refuses what came of this prompt", param="prompt"
            )
        pixels = _pixels(found)
        if pixels.dtype != np.uint8:
            pixels = (pixels * 255).round().astype(np.uint8)
        return Picture(pixels, state.note)


def _pixels(found: Any) -> np.ndarray:
    """The picture of a call's result: float [height, width, 3] in [0, 1], or uint8."""
    pixels = np.asarray(found.images[0])
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise StageFailed(f"the pipeline gave an array of shape {list(pixels.shape)}, and no picture")
    return pixels


def _pausing(scheduler: Any) -> Callable[..., Any]:
    """The scheduler's step, after which the run that takes it waits."""
    step = scheduler.step

    @functools.wraps(step)  # pipelines look at what it takes
    def paused(*args: Any, **kwargs: Any) -> Any:
        found = step(*args, **kwargs)
        run = threading.current_thread()
        if isinstance(run, Run):
            run.pause(len(scheduler.timesteps))
        return found

    return paused


def build(checkpoint: Checkpoint, options: BuildOptions) -> PipelineDenoiser:
    """The stage's model. Raises CheckpointError, ConfigError."""
    return PipelineDenoiser(load_pipeline(checkpoint, options))
