"""Feature caches and LoRA adapters of models that film: each row's own, as diffusers has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.hooks import FirstBlockCacheConfig

from tests.models import test_film_ltx
from tests.models.film_pipelines import film_pipeline
from tests.models.film_studio import Studio, studio
from tests.models.pipelines import adapter_file
from tests.models.test_film import reference as wan_reference
from tests.models.test_film_pictures import picture, shown
from tutti.engine.denoise import Denoise
from tutti.errors import InvalidRequest
from tutti.events import Failed

SIZE: dict[str, Any] = {"width": 64, "height": 32, "frames": 9, "guidance": 3.0, "negative": "blue"}
# Thresholds that some of six steps are under; random networks change more between steps than trained ones do.
LOOSE = {
    "wan": {"first_block": 0.6, "teacache": 0.8},
    "wan_two": {"first_block": 0.8, "teacache": 0.8},
    "wan_small": {"first_block": 0.4, "teacache": 0.8},
    "ltx": {"first_block": 0.4, "teacache": 0.8},
}
CASES = [(family, cache) for family, known in LOOSE.items() for cache in known]


def skipped(made: Studio) -> int:
    assert isinstance(made.engine.runner, Denoise)
    return made.engine.runner.skipped


def begun(family: str) -> Any:
    return shown(picture()) if family in ("wan_small", "ltx") else ()


def reference(family: str, **more: Any) -> np.ndarray:
    fields = {"width": 64, "height": 32, "num_frames": 9, "guidance_scale": 3.0, **more}
    if family == "ltx":
        return test_film_ltx.reference(family, **fields)
    return wan_reference(family, negative_prompt="blue", **fields)


@pytest.mark.parametrize(("family", "cache"), CASES)
def test_a_cached_film_skips_steps_and_is_the_same_in_a_batch(family: str, cache: str) -> None:
    made, media = studio(family), begun(family)
    cached = SIZE | {"cache": cache, "cache_threshold": LOOSE[family][cache], "steps": 6, "media": media}
    plain = made.film(**SIZE, steps=6, media=media)
    before = skipped(made)
    watched = made.film(**cached | {"cache_threshold": 0.0})
    assert np.array_equal(watched, plain) and skipped(made) == before
    alone = made.film(**cached)
    assert 0 < skipped(made) - before < 5 and np.abs(alone - plain).max() > 1
    others: tuple[dict[str, Any], ...] = (
        {},
        {"cache": "first_block"},
        {"cache": "teacache", "cache_threshold": 0.5},
    )
    for number, more in enumerate(others):
        made.submit(f"other {number}", "x" * (4 * number + 1), **SIZE, steps=5, seed=number, **more)
        made.engine.loop.turn()
    made.submit("one", **cached)
    ends = made.finish()
    assert len(ends) == 4 and not isinstance(ends["one"], Failed), ends["one"]
    assert np.abs(ends["one"] - alone).max() <= 1
    made.nothing_is_left()


@pytest.mark.parametrize("family", ["wan", "wan_two", "ltx"])
def test_first_block_skips_the_steps_that_diffusers_skips(family: str) -> None:
    made, pipe = studio(family), film_pipeline(family)[0]
    threshold = LOOSE[family]["first_block"]
    guided = {"guidance": 3.0, "guidance_2": 3.0} if family == "wan_two" else {"guidance": 1.0}
    nets = [net for net in (pipe.transformer, getattr(pipe, "transformer_2", None)) if net is not None]
    for net in nets:
        net.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        theirs = reference(family, num_inference_steps=6, guidance_scale=guided["guidance"])
    finally:
        for net in nets:
            net.disable_cache()
    before = skipped(made)
    asked = SIZE | guided | {"steps": 6, "cache": "first_block", "cache_threshold": threshold}
    ours = made.film(**asked)
    assert skipped(made) > before and np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("family", ["wan", "wan_small", "ltx"])
def test_each_row_of_a_batch_has_its_own_adapter_as_diffusers_has_it(family: str, tmp_path: Path) -> None:
    pipe, folder = film_pipeline(family)
    first, second = (
        adapter_file(family, tmp_path, number, alpha, pipe.transformer)
        for number, alpha in ((1, None), (2, 1))
    )
    made = Studio(folder, lora_modules=(f"a={first}", f"b={second}"))
    made.submit("a", **SIZE, steps=3, lora="a", lora_scale=0.7)
    made.submit("plain", **SIZE, steps=3)
    made.submit("b", **SIZE, steps=3, lora="b")
    if begun(family):
        made.submit("begun", **SIZE, steps=3, lora="b", media=begun(family))
    ends = made.finish()
    plain = reference(family, num_inference_steps=3)
    assert np.abs(ends["plain"] - plain).max() <= 1
    for name, path, scale in (("a", first, 0.7), ("b", second, 1.0)):
        pipe.load_lora_weights(str(path), adapter_name="one")
        try:
            pipe.set_adapters(["one"], [scale])
            wanted = reference(family, num_inference_steps=3)
        finally:
            pipe.unload_lora_weights()
        assert np.abs(ends[name] - wanted).max() <= 1 and np.abs(wanted - plain).max() > 8
    if begun(family):
        alone = made.film(**SIZE, steps=3, lora="b", media=begun(family))
        assert np.abs(ends["begun"] - alone).max() <= 1
    made.nothing_is_left()


def test_the_adapter_of_two_networks_is_of_two_files(tmp_path: Path) -> None:
    pipe, folder = film_pipeline("wan_two")
    first = adapter_file("first", tmp_path, 1, None, pipe.transformer)
    second = adapter_file("second", tmp_path, 2, None, pipe.transformer_2)
    made = Studio(folder, lora_modules=(f"a_2={second}", f"a={first}", f"lone={first}", f"b_2={second}"))
    guided = SIZE | {"guidance_2": 3.0, "steps": 4}
    found = {name: made.film(**guided, lora=name) for name in ("a", "lone", "b_2")}
    for name, paths in (("a", (first, second)), ("lone", (first, None)), ("b_2", (second, None))):
        pipe.load_lora_weights(str(paths[0]), adapter_name="one")
        if paths[1] is not None:
            pipe.load_lora_weights(str(paths[1]), adapter_name="two", load_into_transformer_2=True)
        try:
            wanted = reference("wan_two", num_inference_steps=4)
        finally:
            pipe.unload_lora_weights()
        assert np.abs(found[name] - wanted).max() <= 1
    assert np.abs(found["a"] - found["lone"]).max() > 8
    with pytest.raises(InvalidRequest, match="no adapter 'a_2' for this model; there are a, lone, b_2"):
        made.engine.runner.model.adapters.use("a_2", 1.0)
