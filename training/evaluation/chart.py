"""Figures with intervals in, a dot-and-whisker chart as SVG out."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

# Okabe and Ito's palette, which stays apart in the common forms of colour blindness.
COLOURS = ("#009e73", "#0072b2", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f")
_WIDTH, _LEFT, _RIGHT, _ROW, _GAP, _TOP = 1080, 210, 24, 15, 12, 26


def whiskers(
    groups: Mapping[str, Mapping[str, Sequence[float | None]]], methods: Sequence[str], label: str
) -> str:
    """An SVG with a line a method in a block a group.

    Args:
        groups: group to method to [value, low, high] in percent.
        methods: all of them, in the order of their colours.
        label: what the chart shows, for screen readers.
    """
    values = [v for found in groups.values() for three in found.values() for v in three if v]
    low = min([90.0, *values]) // 10 * 10

    def x(value: float) -> float:
        return _LEFT + (value - low) / (100 - low) * (_WIDTH - _LEFT - _RIGHT)

    body, y = [], float(_TOP)
    for name, found in groups.items():
        height = _ROW * len(found)
        body.append(
            f'<text class="name" x="{_LEFT - 14}" y="{y + height / 2 + 4:.1f}" '
            f'text-anchor="end">{escape(name)}</text>'
        )
        for method, three in found.items():
            body.append(_mark(three, x, y + _ROW / 2, COLOURS[methods.index(method) % 7], method))
            y += _ROW
        y += _GAP
    ticks = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{_TOP - 6}" y2="{y - _GAP:.1f}"/>'
        f'<text x="{x(t):.1f}" y="14" text-anchor="middle">{t:.0f} %</text>'
        for t in range(int(low), 101, 5 if low >= 70 else 10)
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {y:.0f}" role="img" aria-label="{escape(label)}">'
        f"{''.join(ticks)}{''.join(body)}</svg>"
    )


def legend(methods: Sequence[str]) -> str:
    """The methods with their colours, as HTML."""
    items = (
        f'<span><i style="background:{COLOURS[i % 7]}"></i>{escape(name)}</span>'
        for i, name in enumerate(methods)
    )
    return f'<p class="legend">{"".join(items)}</p>'


def _mark(three: Sequence[float | None], x: Any, y: float, colour: str, method: str) -> str:
    value, low, high = three
    if value is None:
        return ""
    line, bounds = "", ""
    if low is not None and high is not None:
        line = f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        bounds = f" [{low:.1f}, {high:.1f}]"
    return (
        f'<g stroke="{colour}" fill="{colour}" stroke-width="2.4" stroke-linecap="round">'
        f"<title>{escape(method)}: {value:.1f}{bounds}</title>{line}"
        f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4.2" stroke="none"/></g>'
    )
