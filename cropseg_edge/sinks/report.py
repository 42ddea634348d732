"""report.html: one file that shows what ran, how fast, how well, and how it looks.

It is made from what a run leaves behind (summary.json, the rows of frames.csv, overlays), opens
without a network and holds no script.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2

from cropseg_edge.errors import FrameError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.image import read_image
from cropseg_edge.sinks import plots
from cropseg_edge.sinks.files import encode_image

SAFETY_SENTENCE = (
    "This software is not a safety component: it must not be relied on to protect people, animals "
    "or property, and a machine that uses it needs its own protective devices."
)
# Colours that stay apart in the common forms of colour blindness (Paul Tol's bright scheme).
_STAGE_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")
_STATUS_COLOURS = {"OK": "#3c9d63", "DEGRADED": "#e69f00", "INVALID": "#c0392b"}
_COVER_COLOURS = {"crop": "#2f9e44", "weed": "#c2188f", "unknown": "#868e96"}
_IOU_COLOURS = {"vegetation": "#4477aa", "crop": "#2f9e44"}
_STILL_WIDTH = 640  # pixels


def write_report(
    directory: Path,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    stills: Sequence[Path],
) -> Path:
    """Write `directory/report.html`.

    Args:
        directory: where the report goes.
        summary: as in summary.json.
        rows: a mapping a frame with the columns of frames.csv; numbers may be text, and an absent
            figure None or empty, so that `csv.DictReader` will do.
        stills: overlay files to show, named after their frames; `choose_stills` picks them.

    Returns:
        The report's path.
    """
    sections = [_header(summary), _tiles(summary), _stills(rows, stills)]
    if summary.get("latency_ms"):
        sections.append(_latency(summary["latency_ms"], rows))
    if rows:
        sections.append(_timeline(rows, summary))
    sections.append(_what_ran(summary))
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Crop segmentation: {escape(str(summary['source']))}</title>"
        f"<style>{style}</style></head><body><main>{''.join(sections)}"
        f"<footer>{escape(SAFETY_SENTENCE)}</footer></main></body></html>\n"
    )
    path = directory / "report.html"
    # names of files need not be UTF-8
    write_atomically(path, page.encode(errors="backslashreplace"), durable=False)
    return path


def choose_stills(rows: Sequence[Mapping[str, Any]], overlays: Path, count: int = 6) -> list[Path]:
    """Overlay files of `count` frames spread over the run, the worst frame among them."""
    if not rows:
        return []
    last = len(rows) - 1
    spread = {round(index * last / (count - 1)) for index in range(count)}
    worst = rows.index(_worst(rows))
    if worst not in spread:
        spread.remove(min(spread, key=lambda index: abs(index - worst)))
        spread.add(worst)
    files = [overlays / f"{rows[index]['name']}.jpg" for index in sorted(spread)]
    return [file for file in files if file.exists()]


def _number(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    return None if value in (None, "") else float(value)


def _worst(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The frame of the gravest status; among those the lowest IoU, without truth confidence."""
    severity = list(_STATUS_COLOURS)

    def key(row: Mapping[str, Any]) -> tuple[int, float]:
        score = _number(row, "vegetation_iou_percent")
        if score is None:
            score = 100 * (_number(row, "mean_confidence") or 0)
        return -severity.index(row["status"]), score

    return min(rows, key=key)


def _header(summary: Mapping[str, Any]) -> str:
    started = str(summary.get("started", "")).replace("T", " ")
    return (
        f"<header><h1>Crop segmentation report</h1><p>{escape(str(summary['source']))} &middot; "
        f"{escape(summary['bundle']['name'])} &middot; {escape(summary['engine'])} &middot; "
        f"{escape(started)}</p></header>"
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    status = summary["status"]
    total = summary["latency_ms"].get("total")
    iou = summary.get("iou_percent") or {}
    not_ok = status["DEGRADED"] + status["INVALID"]
    tiles = [
        (f"{summary['frames']}", "frames", False),
        (f"{status['OK']}", "of them OK", False),
        (f"{not_ok}", f"{status['DEGRADED']} degraded, {status['INVALID']} invalid", not_ok > 0),
    ]
    if summary.get("failed"):
        tiles.append((f"{summary['failed']}", "frames unreadable", True))
    if summary.get("dropped"):
        tiles.append((f"{summary['dropped']}", "frames dropped for newer ones", True))
    if summary.get("frames_per_second"):
        tiles.append((f"{summary['frames_per_second']:.1f}", "frames/s, whole run", False))
    if total:
        tiles.append((f"{total['p50']:.0f} ms", "latency, median", False))
        tiles.append((f"{total['p99']:.0f} ms", "latency, 99th percentile", False))
    for name in ("vegetation", "crop"):
        if iou.get(name) is not None:
            unknown = summary["cover_percent"]["unknown"]
            without = f", without the {unknown} % unknown" if unknown else ""
            tiles.append((f"{iou[name]:.1f} %", f"{name} IoU against truth{without}", False))
    body = "".join(
        f'<div class="tile{" bad" if bad else ""}"><b>{escape(value)}</b>'
        f"<span>{escape(name)}</span></div>"
        for value, name, bad in tiles
    )
    return f'<div class="tiles">{body}</div>'


def _what_ran(summary: Mapping[str, Any]) -> str:
    pairs = {
        "Source": escape(str(summary["source"])),
        "Bundle": escape(summary["bundle"]["name"]),
        "Bundle SHA-256": f"<code>{escape(summary['bundle']['sha256'])}</code>",
        "Engine": escape(summary["engine"]),
        **{name: f"{value:g}" for name, value in summary.get("settings", {}).items()},
    }
    pairs |= {
        escape(name): escape(version) for name, version in summary.get("versions", {}).items()
    }
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in pairs.items())
    return f'<section><h2>What ran</h2><table class="pair">{body}</table></section>'


def _latency(latency: Mapping[str, Mapping[str, float]], rows: Sequence[Mapping[str, Any]]) -> str:
    stages = [name for name in latency if name != "total"]
    colours = {
        stage: _STAGE_COLOURS[index % len(_STAGE_COLOURS)] for index, stage in enumerate(stages)
    }
    keys = ("mean", "p50", "p95", "p99", "max")
    whole = latency["total"]["mean"] or 1.0
    body = ""
    for stage, figures in latency.items():
        cells = "".join(f'<td class="n">{figures[key]:.2f}</td>' for key in keys)
        share = 100 * figures["mean"] / whole
        bar = (
            f'<i style="width:{min(share, 100):.1f}%;background:{colours[stage]}"></i>'
            if stage in colours
            else ""
        )
        body += (
            f"<tr{'' if stage in colours else ' class=sum'}><td>{escape(stage)}</td>{cells}"
            f'<td class="n">{share:.0f} %</td><td class="bar">{bar}</td></tr>'
        )
    head = "".join(f'<th class="n">{key}</th>' for key in keys)
    timed = [row for row in rows if _number(row, "total_ms") is not None]
    html = (
        "<section><h2>Latency per stage</h2><table><tr><th>milliseconds</th>"
        f'{head}<th class="n">share</th><th></th></tr>{body}</table>'
    )
    if timed:
        columns = {stage: [_number(row, f"{stage}_ms") or 0.0 for row in timed] for stage in stages}
        totals = [_number(row, "total_ms") or 0.0 for row in timed]
        marks = {key: latency["total"][key] for key in ("p50", "p95", "p99")}
        html += (
            f"<h3>Stages, stacked, frame by frame</h3>{plots.legend(colours)}"
            f"{plots.stacked_plot(columns, colours)}"
            "<h3>Share of frames that took at most so long, from frame to mask</h3>"
            f"{plots.distribution_plot(totals, marks, '#1f7a4d')}"
        )
    return html + "</section>"


def _timeline(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    cover = {name: [_number(row, f"{name}_percent") for row in rows] for name in _COVER_COLOURS}
    html = (
        f"<section><h2>Over the run</h2><h3>Status</h3>{plots.legend(_STATUS_COLOURS)}"
        f"{plots.status_strip([row['status'] for row in rows], _STATUS_COLOURS)}"
    )
    for reason, count in (summary.get("reasons") or {}).items():
        html += f'<p class="legend">{count} &times; {escape(reason)}</p>'
    html += (
        f"<h3>Cover</h3>{plots.legend(_COVER_COLOURS)}"
        f"{plots.line_plot(cover, _COVER_COLOURS, '% of the frame')}"
    )
    if summary.get("iou_percent"):
        iou = {name: [_number(row, f"{name}_iou_percent") for row in rows] for name in _IOU_COLOURS}
        html += (
            f"<h3>IoU against ground truth</h3>{plots.legend(_IOU_COLOURS)}"
            f"{plots.line_plot(iou, _IOU_COLOURS, 'IoU %', 100)}"
            '<p class="legend">Pixels that the mask calls unknown are left out; their share is '
            "the grey line under Cover.</p>"
        )
    return html + "</section>"


def _stills(rows: Sequence[Mapping[str, Any]], stills: Sequence[Path]) -> str:
    named = {str(row["name"]): row for row in rows}
    worst = _worst(rows) if rows else None
    figures = ""
    for path in stills:
        row = named.get(path.stem)
        is_worst = row is not None and row is worst
        figures += (
            f'<figure class="{"worst" if is_worst else ""}">'
            f'<img alt="{escape(path.stem)}" src="{_embed(path)}">'
            f"<figcaption>{'<b>worst frame</b> ' if is_worst else ''}{_caption(path, row)}"
            "</figcaption></figure>"
        )
    if not figures:
        figures = "<p>No overlays were written.</p>"
    key = {"crop": "#28d73c", "weed": "#eb14c8", "unknown (to be treated as crop)": "#969696"}
    return (
        f'<section><h2>Stills</h2>{plots.legend(key)}<div class="stills">{figures}</div></section>'
    )


def _caption(path: Path, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return escape(path.stem)
    parts = [str(row["name"]), str(row["status"])]
    for column, label in (
        ("crop_percent", "crop"),
        ("weed_percent", "weed"),
        ("vegetation_iou_percent", "vegetation IoU"),
    ):
        value = _number(row, column)
        if value is not None:
            parts.append(f"{label} {value:.1f} %")
    return escape(" · ".join(parts))


def _embed(path: Path) -> str:
    """The picture as a data URL, no wider than `_STILL_WIDTH`."""
    try:
        image = read_image(path)
    except FrameError:
        return "data:,"
    height, width = image.shape[:2]
    if width > _STILL_WIDTH:
        size = _STILL_WIDTH, max(1, round(height * _STILL_WIDTH / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    jpeg = encode_image(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
