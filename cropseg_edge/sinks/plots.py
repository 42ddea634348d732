"""Plots as inline SVG: text goes in and out, no library, no script."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 1040, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 34
_MAX_COLUMNS = 400  # more frames than this share columns, so that a long run stays a small file

Series = Sequence[float | None]


def nice_ticks(limit: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to `limit`, about `count` of them."""
    if limit <= 0:
        return [0.0]
    rough = limit / count
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough)
    return [index * step for index in range(int(limit / step + 1e-9) + 1)]


def _x(value: float, limit: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / (limit or 1)


def _y(value: float, limit: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(value, limit) / (limit or 1)


def _frame(body: str, x_limit: float, y_limit: float, x_name: str, y_name: str) -> str:
    """Put axes and grid behind `body`."""
    grid = ""
    for tick in nice_ticks(y_limit):
        y = _y(tick, y_limit)
        grid += (
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in nice_ticks(x_limit, 10):
        grid += (
            f'<text x="{_x(tick, x_limit):.1f}" y="{HEIGHT - _BOTTOM + 17}" '
            f'text-anchor="middle">{tick:g}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y_name)} over {escape(x_name)}">{grid}{body}'
        f'<text class="name" x="{WIDTH - _RIGHT}" y="{HEIGHT - 2}" '
        f'text-anchor="end">{escape(x_name)}</text>'
        f'<text class="name" x="{_LEFT + 6}" y="{_TOP + 9}">{escape(y_name)}</text></svg>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def legend(colours: dict[str, str]) -> str:
    """A row of names with their colours."""
    items = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<p class="legend">{items}</p>'


def stacked_plot(stages: Mapping[str, Sequence[float]], colours: dict[str, str]) -> str:
    """Milliseconds of each stage, stacked, a column a frame.

    Args:
        stages: for each stage one value a frame, in milliseconds, in stacking order.
    """
    count = max(map(len, stages.values()))
    totals = [sum(column) for column in zip(*stages.values(), strict=True)]
    # Of the frames that share a column the slowest is shown.
    group = math.ceil(count / _MAX_COLUMNS)
    shown = [
        max(range(start, min(start + group, count)), key=totals.__getitem__)
        for start in range(0, count, group)
    ]
    typical = sorted(totals)[int(0.95 * (count - 1))]
    limit = min(max(totals), 2 * typical) * 1.05
    base = [0.0] * len(shown)
    body = ""
    for stage, values in stages.items():
        top = [low + values[frame] for low, frame in zip(base, shown, strict=True)]
        outline = [
            (_x(min(column + side, count / group), count / group), _y(value, limit))
            for column, value in enumerate(top)
            for side in (0, 1)
        ]
        floor = [
            (_x(min(column + side, count / group), count / group), _y(value, limit))
            for column, value in reversed(list(enumerate(base)))
            for side in (1, 0)
        ]
        body += f'<path fill="{colours[stage]}" d="{_path(outline + floor)}Z"/>'
        base = top
    if max(totals) > limit:
        body += (
            f'<text x="{WIDTH - _RIGHT}" y="{_TOP + 9}" text-anchor="end">'
            f"columns are cut at the top; the slowest frame took {max(totals):.0f} ms</text>"
        )
    return _frame(body, count, limit, "frame", "ms")


def distribution_plot(values: Sequence[float], marks: dict[str, float], colour: str) -> str:
    """Share of frames (percent) that took at most so many milliseconds, with marks."""
    ordered = sorted(values)
    limit = ordered[-1] * 1.05
    every = math.ceil(len(ordered) / _MAX_COLUMNS)
    points = [(_x(0, limit), _y(0, 100))]
    for index in range(0, len(ordered), every):
        x = _x(ordered[index], limit)
        points += [
            (x, _y(100 * index / len(ordered), 100)),
            (x, _y(100 * min(index + every, len(ordered)) / len(ordered), 100)),
        ]
    points.append((_x(limit, limit), _y(100, 100)))
    body = f'<path class="line" stroke="{colour}" d="{_path(points)}"/>'
    for row, (name, value) in enumerate(marks.items()):
        x = _x(value, limit)
        body += (
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text x="{x - 5:.1f}" y="{_y(72 - 14 * row, 100):.1f}" text-anchor="end">'
            f"{escape(name)} {value:.1f}</text>"
        )
    return _frame(body, limit, 100, "ms", "% of frames")


def line_plot(
    series: Mapping[str, Series], colours: dict[str, str], unit: str, limit: float | None = None
) -> str:
    """Values over frames, a line each; None leaves a gap. `limit` is the upper end of the axis."""
    count = max(map(len, series.values()))
    known = [value for values in series.values() for value in values if value is not None]
    top = limit or 1.08 * max(known, default=0) or 1.0
    every = math.ceil(count / _MAX_COLUMNS)
    body = ""
    for name, values in series.items():
        runs: list[list[tuple[float, float]]] = [[]]
        for index in range(0, count, every):
            value = values[index]
            if value is None:
                runs.append([])
            else:
                runs[-1].append((_x(index + 0.5, count), _y(value, top)))
        for run in runs:
            if len(run) == 1:
                x, y = run[0]
                body += f'<circle fill="{colours[name]}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'
            elif run:
                body += f'<path class="line" stroke="{colours[name]}" d="{_path(run)}"/>'
    return _frame(body, count, top, "frame", unit)


def status_strip(statuses: Sequence[str], colours: dict[str, str]) -> str:
    """One coloured bar over all frames, split where the status changes."""
    height = 26
    body = ""
    start = 0
    for index in range(1, len(statuses) + 1):
        if index < len(statuses) and statuses[index] == statuses[start]:
            continue
        x = _x(start, len(statuses))
        width = max(1.0, _x(index, len(statuses)) - x)
        body += (
            f'<rect x="{x:.1f}" y="2" width="{width:.1f}" height="{height - 4}" '
            f'fill="{colours[statuses[start]]}"><title>{escape(statuses[start])}: frames '
            f"{start} to {index - 1}</title></rect>"
        )
        start = index
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="status">{body}</svg>'
