"""What may be asked of a pipeline that is run whole: what its call takes, and nothing else. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tutti.errors import InvalidRequest
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.pictures import Sources
from tutti.request import Drawing, Text

# A drawing's fields, the pipelines' parameters for them, and how callers call these.
_FIELDS = (
    ("guidance", "guidance_scale", "guidance_scale"),
    ("true_guidance", "true_cfg_scale", "true_cfg_scale"),
)


@dataclass(frozen=True, slots=True)
class PipelineDrawer(Drawer):
    """`takes` are the names of the parameters of the pipeline's call."""

    takes: frozenset[str] = frozenset()

    def read(self, originals: Sequence[bytes], masks: Sequence[bytes]) -> Sources | None:
        """See `Drawer.read`: it takes none."""
        if originals or masks:
            raise InvalidRequest("this model draws what it is told: it takes no pictures", param="image")
        return None

    def _whole(self, drawing: Drawing, width: int, height: int) -> Drawing:
        """See `Drawer._whole`. What the pipeline does not take is refused, and not filled in."""
        if drawing.lora is not None:
            raise InvalidRequest("this model takes no LoRA adapters", param="lora")
        if drawing.previews:
            raise InvalidRequest("this model shows nothing before it is done", param="partial_images")
        for field, name, said in _FIELDS:
            if name not in self.takes and getattr(drawing, field) is not None:
                raise InvalidRequest(f"this model's pipeline takes no {name}: leave {said} out", param=said)
        whole = Drawer._whole(self, drawing, width, height)  # super() knows no class with slots
        lacking = {field: None for field, name, _ in _FIELDS if name not in self.takes}
        return msgspec.structs.replace(whole, **lacking)

    def _avoided(self, texts: list[Text], drawing: Drawing) -> tuple[Text, ...]:
        """See `Drawer._avoided`: whether the picture is guided away from it is the pipeline's matter."""
        if texts[1:] and "negative_prompt" not in self.takes:
            raise InvalidRequest(
                "this model's pipeline takes no negative_prompt: say in the prompt what is to be avoided",
                param="negative_prompt",
            )
        return tuple(texts[1:])
