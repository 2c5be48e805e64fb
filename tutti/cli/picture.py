"""A timeline as an SVG picture that stands alone: light or dark as its reader prefers, details under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tutti.cli.timeline import Bar, Moment, Row, Timeline, duration, label

_WIDTH, _LEFT, _RIGHT = 960, 110, 20
_HEAD, _ROW, _BAR, _FOOT = 78, 46, 22, 44
# What has which colour in the light and in the dark; not CSS variables, which few viewers of SVG know.
_COLOURS = {
    "rect.page": ("fill", "#ffffff", "#17191c"),
    "text": ("fill", "#1d1f23", "#e8eaed"),
    ".soft, .batch": ("fill", "#6b7078", "#9aa0a8"),
    ".grid": ("stroke", "#e3e5e8", "#33373d"),
    ".wait": ("fill", "#c9cdd3", "#4a4f57"),
    ".reading": ("fill", "#c98500", "#d69e2e"),
    ".prefill": ("fill", "#7a5cc8", "#a48be0"),
    ".decode, .compute": ("fill", "#2a78d6", "#5b9bea"),
    "line.first_text": ("stroke", "#1f8a4c", "#4fbf7d"),
    "text.first_text": ("fill", "#1f8a4c", "#4fbf7d"),
    "line.first_sound": ("stroke", "#0d8a93", "#41bcc6"),
    "text.first_sound": ("fill", "#0d8a93", "#41bcc6"),
    "line.underrun": ("stroke", "#d03b3b", "#f07070"),
    "text.underrun": ("fill", "#d03b3b", "#f07070"),
}
_LEGEND = (
    ("wait", "waits"),
    ("reading", "reads text and media"),
    ("prefill", "prefill"),
    ("compute", "decode, compute"),
)


def draw(timelines: Sequence[Timeline]) -> str:
    """All of them, one below the other."""
    parts: list[str] = []
    top = 0
    for timeline in timelines:
        parts += _timeline(timeline, top)
        top += _height(timeline)
    parts += _legend(top + 4)
    height = top + 30
    size = f'width="{_WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {size}>'
    page = f'<rect class="page" {size}/>'
    return "\n".join((head, f"<style>{_style()}</style>", page, *parts, "</svg>", ""))


def _style() -> str:
    light, dark = (
        " ".join(f"{what} {{ {colours[0]}: {colours[side]} }}" for what, colours in _COLOURS.items())
        for side in (1, 2)
    )
    fonts = "text { font: 12px system-ui, sans-serif } text.title { font-weight: 600; font-size: 14px }"
    return (
        f"{fonts} text.batch {{ font-size: 10px }} {light} @media (prefers-color-scheme: dark) {{ {dark} }}"
    )


def _height(timeline: Timeline) -> int:
    return _HEAD + _ROW * len(timeline.rows) + _FOOT


def _timeline(timeline: Timeline, top: int) -> list[str]:
    """One request, from `top` down."""
    name, *rest = timeline.title.split(" · ")
    bottom = top + _HEAD + _ROW * len(timeline.rows)
    parts = [
        f'<text class="title" x="16" y="{top + 26}">{escape(name)}</text>',
        f'<text class="soft" x="16" y="{top + 44}">{escape(" · ".join(rest))}</text>',
    ]
    for tick in timeline.ticks(8):
        x = _x(tick, timeline)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top + _HEAD - 6}" y2="{bottom}"/>')
        parts.append(f'<text class="soft" x="{x}" y="{bottom + 16}" text-anchor="middle">{tick:g} s</text>')
    for number, row in enumerate(timeline.rows):
        parts += _row(row, timeline, top + _HEAD + _ROW * number)
    return parts + _moments(timeline, top + _HEAD, bottom)


def _row(row: Row, timeline: Timeline, top: int) -> list[str]:
    y = top + 14
    name = f'<text x="{_LEFT - 12}" y="{y + 15}" text-anchor="end">{escape(row.name)}</text>'
    parts = [name]
    for start, end in row.waits:
        what = f"waited {duration(end - start)}"
        parts.append(_rect("wait", start, end, timeline, y + _BAR // 2 - 2, 4, what))
    shown, right = 1, -100.0
    for bar in row.bars:
        parts.append(_rect(bar.phase, bar.start, bar.end, timeline, y, _BAR, _what(bar, row), bar.share))
        x = _x(bar.start, timeline)
        if round(bar.batch) != shown and x > right:
            shown, right = round(bar.batch), x + 24
            parts.append(f'<text class="batch" x="{x}" y="{y - 3}">×{shown}</text>')
    return parts


def _what(bar: Bar, row: Row) -> str:
    """What stands under the pointer."""
    made = f", {bar.made} {row.unit}" if row.unit else ""
    steps = "1 step" if bar.steps == 1 else f"{bar.steps} steps"
    return (
        f"{row.name} {bar.phase}: {steps} in {duration(bar.end - bar.start)}, busy {bar.share:.0%}, "
        f"batch {bar.batch:.1f}{made}"
    )


def _rect(
    kind: str,
    start: float,
    end: float,
    timeline: Timeline,
    y: int,
    height: int,
    what: str,
    share: float = 1.0,
) -> str:
    x = _x(start, timeline)
    width = max(_x(end, timeline) - x, 0.8)
    opacity = 0.25 + 0.75 * share
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width:.1f}" height="{height}" rx="1.5" '
        f'opacity="{opacity:.2f}"><title>{escape(what)}</title></rect>'
    )


def _moments(timeline: Timeline, top: int, bottom: int) -> list[str]:
    """Lines from the head to the axis; a name where there is room for it."""
    parts: list[str] = []
    free = 0.0
    for moment in timeline.moments:
        x = _x(moment.at, timeline)
        line = f'<line class="{moment.name}" x1="{x}" x2="{x}" y1="{top - 6}" y2="{bottom}" stroke-dasharray="3 3">'
        parts.append(f"{line}<title>{escape(_when(moment))}</title></line>")
        text = label(moment)
        if x >= free:
            left = x > _WIDTH - 100
            parts.append(
                f'<text class="{moment.name}" x="{x - 4 if left else x + 4}" y="{top}" '
                f'text-anchor="{"end" if left else "start"}">{escape(text)}</text>'
            )
            free = x + 7 * len(text) + 10
    return parts


def _when(moment: Moment) -> str:
    return f"{label(moment)} at {duration(moment.at)}"


def _legend(top: int) -> list[str]:
    parts: list[str] = []
    x = _LEFT
    for kind, text in _LEGEND:
        parts.append(f'<rect class="{kind}" x="{x}" y="{top}" width="12" height="12" rx="2"/>')
        parts.append(f'<text class="soft" x="{x + 17}" y="{top + 10}">{text}</text>')
        x += 40 + 7 * len(text)
    parts.append(f'<text class="soft" x="{x}" y="{top + 10}">paler: idle between steps · ×n: batch</text>')
    return parts


def _x(moment: float, timeline: Timeline) -> float:
    return round(_LEFT + moment / timeline.length * (_WIDTH - _LEFT - _RIGHT), 1)
