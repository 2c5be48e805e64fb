"""A session's conversation: its items in order, within limits, and the part of it that still fits a model's context."""

from __future__ import annotations

from tutti.api.realtime.errors import Refusal
from tutti.api.realtime.heard import weight
from tutti.api.realtime.items import (
    IN_PROGRESS,
    FunctionCall,
    FunctionOutput,
    Item,
    Message,
    SpokenPart,
    new_id,
)
from tutti.api.realtime.limits import RealtimeLimits
from tutti.settings import format_size

FIRST = "root"  # what clients call the place before the first item


class Conversation:
    """Items, oldest first."""

    def __init__(self, limits: RealtimeLimits) -> None:
        self.id = new_id("conv")
        self.items: list[Item] = []
        self.rate: float | None = None  # letters a second that the voice speaks, once that is known
        self._limits = limits
        self._forgotten: set[str] = set()  # items that no longer fit the context

    @property
    def remembered(self) -> list[Item]:
        """The items that a model is shown."""
        return [item for item in self.items if item.id not in self._forgotten]

    def forget(self, share: float) -> bool:
        """Show models no more than the latest `share` of the items; False if there is nothing left to leave out.

        What a function answered goes with its call; the system's messages and the last item stay.
        """
        items = [item for item in self.remembered if not isinstance(item, Message) or item.role != "system"]
        keep = min(max(int(len(items) * share), 1), len(items) - 1)
        calls = {item.call_id for item in items[-keep:] if isinstance(item, FunctionCall)}
        left = [
            item for item in items[-keep:] if not isinstance(item, FunctionOutput) or item.call_id in calls
        ]
        if keep < 1 or not left:
            return False
        self._forgotten |= {item.id for item in items} - {item.id for item in left}
        return True

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Put `item` behind the item `after` (None: at the end). The id of the item before it. Raises Refusal."""
        if any(known.id == item.id for known in self.items):
            raise Refusal("item_id_exists", f"there is an item {item.id!r} already", "item.id")
        self._check_room(item)
        if isinstance(item, FunctionOutput):
            calls = [known.call_id for known in self.items if isinstance(known, FunctionCall)]
            if item.call_id not in calls:
                raise Refusal(
                    "item_unknown_call_id",
                    f"no function call {item.call_id!r} is in the conversation",
                    "item.call_id",
                )
        if after is None:
            place = len(self.items)
        elif after == FIRST:
            place = 0
        else:
            place = self._place(after, "previous_item_id") + 1
        self.items.insert(place, item)
        return self.items[place - 1].id if place else None

    def get(self, item_id: str, param: str = "item_id") -> Item:
        """The item of that id. Raises Refusal."""
        return self.items[self._place(item_id, param)]

    def delete(self, item_id: str) -> None:
        """Forget an item altogether. Raises Refusal."""
        place = self._place(item_id, "item_id")
        if self.items[place].status == IN_PROGRESS:
            raise Refusal(
                "item_in_progress", "the item is still coming: cancel its response first", "item_id"
            )
        del self.items[place]

    def truncate(self, item_id: str, index: int, milliseconds: int) -> None:
        """Of a spoken answer, only so much was heard. Raises Refusal."""
        item = self.get(item_id)
        if not isinstance(item, Message) or item.role != "assistant":
            raise Refusal("invalid_value", "only what the assistant said can be truncated", "item_id")
        part = item.parts[index] if 0 <= index < len(item.parts) else None
        if not isinstance(part, SpokenPart):
            raise Refusal("invalid_value", f"there is no spoken content {index}", "content_index")
        given = round(part.seconds * 1000)
        if milliseconds > given:
            raise Refusal(
                "invalid_value",
                f"the audio of {given} ms is already shorter than {milliseconds} ms",
                "audio_end_ms",
            )
        part.cut(milliseconds / 1000, self.rate)

    def learn(self, part: SpokenPart) -> None:
        """Note how fast the voice speaks, from an answer that was given to its end."""
        if part.whole and part.seconds > 0 and part.transcript:
            self.rate = weight(part.transcript) / part.seconds

    def last(self) -> str | None:
        """The id of the last item."""
        return self.items[-1].id if self.items else None

    def _place(self, item_id: str, param: str) -> int:
        for place, item in enumerate(self.items):
            if item.id == item_id:
                return place
        raise Refusal("item_not_found", f"there is no item {item_id!r} in the conversation", param)

    def _check_room(self, item: Item) -> None:
        limits = self._limits
        if len(self.items) >= limits.items:
            raise Refusal(
                "conversation_full", f"the conversation holds {limits.items:,} items: delete some first"
            )
        sizes = [one.size for one in (*self.items, item) if isinstance(one, Message)]
        if sum(sizes) > limits.media:
            raise Refusal(
                "conversation_full",
                f"with this item the conversation's sound and pictures are more than {format_size(limits.media)}: "
                "delete some first",
            )
