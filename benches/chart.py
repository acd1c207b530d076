"""Pictures of rates, as SVG. Each has a ground of its own, so that it can be read whatever it lies on, and turns dark
with the reader's screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 48

STYLE = """<style>
.ground { fill: #ffffff } .grid { stroke: #d8dee4 } .line { stroke: #0969da; fill: none; stroke-width: 2 }
.spread { stroke: #0969da; opacity: 0.5 } .dot { fill: #0969da } text { fill: #1f2328; font: 12px sans-serif }
.head { font-size: 14px; font-weight: 600 } .end { text-anchor: end } .middle { text-anchor: middle }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117 } .grid { stroke: #30363d } .line { stroke: #4493f8 }
.spread { stroke: #4493f8 } .dot { fill: #4493f8 } text { fill: #e6edf3 }
}
</style>"""


@dataclass(frozen=True)
class Dot:
    """One measured place: its name on the axis, the middle of its runs, the lowest and the highest."""

    name: str
    middle: float
    low: float
    high: float


def step_of(highest: float) -> float:
    """A round number, of which three to five reach as high."""
    rough = highest / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= rough)


def draw(head: str, below: str, dots: Sequence[Dot]) -> str:
    """Places stand at equal distances, whatever lies between them; heights begin at 0."""
    step = step_of(max(dot.high for dot in dots))
    top = step * math.ceil(max(dot.high for dot in dots) * 1.05 / step)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(number: int) -> float:
        return LEFT + wide * (number + 0.5) / len(dots)

    def up(value: float) -> float:
        return TOP + high * (1 - value / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{head}">',
        STYLE,
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        f'<text class="head" x="{LEFT}" y="24">{head}</text>',
        f'<text class="middle" x="{LEFT + wide / 2:.0f}" y="{HEIGHT - 10}">{below}</text>',
    ]
    for number in range(round(top / step) + 1):
        height = up(number * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 8}" y="{height + 4:.1f}">{number * step:,.0f}</text>')
    path = " ".join(f"{across(number):.1f},{up(dot.middle):.1f}" for number, dot in enumerate(dots))
    parts.append(f'<polyline class="line" points="{path}"/>')
    for number, dot in enumerate(dots):
        at = f"{across(number):.1f}"
        if dot.high > dot.low:
            parts.append(f'<line class="spread" x1="{at}" x2="{at}" y1="{up(dot.low):.1f}" y2="{up(dot.high):.1f}"/>')
        parts.append(f'<circle class="dot" cx="{at}" cy="{up(dot.middle):.1f}" r="3.5"/>')
        parts.append(f'<text class="middle" x="{at}" y="{up(dot.high) - 8:.1f}">{dot.middle:,.0f}</text>')
        parts.append(f'<text class="middle" x="{at}" y="{HEIGHT - BOTTOM + 18}">{dot.name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
