"""One child of `bench.omni`: a model is asked in text about one long medium, and says how much memory that took.

`--peer tutti` or `transformers`: each alone in its process, weights, preparation of the medium and answer together.
transformers gets the recording through its own feature extractor, and the video's frames as Tutti reads them (its own
video processor needs torchvision).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from bench.omni.checkpoint import VOICE
from bench.omni.media import PLACES, RATE

ANSWER = 8  # tokens


def main() -> None:
    """Load, ask, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=("tutti", "transformers"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--kind", choices=tuple(PLACES), required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    answer = _tutti if options.peer == "tutti" else _transformers
    seconds, tokens = answer(options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = {"what": "memory", "peer": options.peer, "kind": options.kind, "peak_bytes": peak}
    print(json.dumps(line | {"answer_s": seconds, "prompt_tokens": tokens}), flush=True)


def _tutti(options: argparse.Namespace) -> tuple[float, int]:
    """Seconds until the answer was complete, and the tokens of the prompt."""
    from tutti.engine.core import Engine
    from tutti.events import Done, Event, Failed, Usage
    from tutti.models.processor import load_processor
    from tutti.request import Media, Request, SamplingParams, Tokens
    from tutti.settings import EngineOptions

    events: list[Event] = []
    engine = Engine(
        EngineOptions(
            model=str(options.model),
            dtype=options.dtype,
            threads=options.threads,
            max_num_seqs=1,
            max_model_len=24_576,
            memory=8 * 10**9,
        ),
        events.extend,
    )
    modality, *ids = PLACES[options.kind]
    start = time.perf_counter()
    place, begin, end = ids
    request = Request(
        id="long",
        parts=(Tokens((100, begin, place, end, 101)), Media(modality, options.file.read_bytes())),
        sampling=SamplingParams(temperature=0.0, max_tokens=ANSWER, ignore_eos=True),
    )
    engine.loop.submit(load_processor(str(options.model)).prepare(request))
    engine.loop.run_until(lambda: any(isinstance(event, Done | Failed) for event in events))
    failed = next((event for event in events if isinstance(event, Failed)), None)
    if failed is not None:
        raise failed.error.error()
    tokens = next(event.prompt_tokens for event in events if isinstance(event, Usage))
    return time.perf_counter() - start, tokens


def _transformers(options: argparse.Namespace) -> tuple[float, int]:
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    model: Any = transformers.Qwen2_5OmniForConditionalGeneration.from_pretrained(options.model, dtype=dtype)
    start = time.perf_counter()
    _, place, begin, end = PLACES[options.kind]
    hear_or_see = _heard if options.kind == "recording" else _seen
    inputs, count = hear_or_see(options, model.config.thinker_config, dtype)
    prompt = torch.tensor([[100, begin, *[place] * count, end, 101]])
    with torch.inference_mode():
        model.eval().generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            speaker=VOICE,
            return_audio=False,
            thinker_max_new_tokens=ANSWER,
            thinker_min_new_tokens=ANSWER,
            thinker_do_sample=False,
            **inputs,
        )
    return time.perf_counter() - start, prompt.shape[1]


def _heard(options: argparse.Namespace, config: Any, dtype: Any) -> tuple[dict[str, Any], int]:
    """transformers' inputs for a recording, and how many tokens it fills."""
    import soundfile
    import transformers

    from tutti.models.qwen2_5_omni.media import audio_tokens

    samples, rate = soundfile.read(options.file, dtype="float32")
    assert rate == RATE
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=config.audio_config.num_mel_bins, chunk_length=300
    )
    mel = extractor(samples, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
    inputs = {
        "input_features": mel["input_features"].to(dtype),
        "feature_attention_mask": mel["attention_mask"],
    }
    return inputs, audio_tokens(len(samples))


def _seen(options: argparse.Namespace, config: Any, dtype: Any) -> tuple[dict[str, Any], int]:
    """The same for a video."""
    import numpy as np
    import torch

    from tutti.models.qwen2_vl.media import Sight, pixels
    from tutti.models.qwen2_vl.vision import patches
    from tutti.request import Media

    how = pixels(options.model, config.vision_config.to_dict())
    medium = Sight(how, 25, follows="whole").read(Media("video", options.file.read_bytes()))
    frames = medium.arrays["frames"]
    pictures = np.frombuffer(frames.data, np.uint8).reshape(frames.shape)
    found = patches(torch.from_numpy(pictures.copy()), how)
    inputs = {
        "thinker_pixel_values_videos": found.values.to(dtype),
        "video_grid_thw": torch.tensor([found.grid]),
        "video_second_per_grid": torch.tensor([medium.attributes["interval"] / 25]),
        "use_audio_in_video": False,
    }
    return inputs, medium.tokens


if __name__ == "__main__":
    main()
