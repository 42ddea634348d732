"""evaluation.html: figures, charts, and each set's best, median and worst pictures in one file.

It opens without a network and holds no script.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from cropseg_edge.evaluation import READINGS
from cropseg_edge.files import write_atomically
from cropseg_edge.labelled import read_pair
from training.evaluation.chart import legend, whiskers
from training.evaluation.drawing import ERRORS, panels
from training.evaluation.evaluate import Evaluation
from training.evaluation.intervals import FEWEST, LEVEL
from training.evaluation.summary import COLUMNS

RANKS = ("best", "median", "worst")
_TITLES = {"datasets": "data set", "conditions": "condition"}


def write_page(
    path: Path,
    document: Mapping[str, Any],
    evaluation: Evaluation,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the page; the model segments the shown pictures once more for it.

    Args:
        path: of the page.
        document: as `evaluation.json` holds it.
        evaluation: what it was made from.
        progress: called with (done, total) after each picture.
    """
    results, names = document["results"], [method["name"] for method in document["methods"]]
    sections = [_header(document), _tiles(results, names[0])]
    for reading in READINGS:
        for kind in ("datasets", "conditions"):
            sections.append(_figures(results, kind, reading, names))
    sections += [_examples(evaluation, progress), _meanings(document)]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation: {escape(names[0])}</title><style>{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )
    write_atomically(path, page.encode(), durable=False)


def chosen(evaluation: Evaluation) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Each set with (rank, picture number) of its best, median and worst picture, by the model's
    vegetation mIoU, or crop mIoU where the set's labels tell that alone. A picture comes once."""
    model, pictures = evaluation.methods[0].name, evaluation.root.pictures
    scores = np.array(evaluation.picture_miou(model, "vegetation"))
    crop = np.array(evaluation.picture_miou(model, "crop"))
    scores = np.where(np.isnan(scores), crop, scores)
    for name in dict.fromkeys(picture.dataset for picture in pictures):
        own = [i for i, p in enumerate(pictures) if p.dataset == name and not np.isnan(scores[i])]
        ranked = sorted(own, key=lambda i: -scores[i])
        if ranked:
            places = (ranked[0], ranked[len(ranked) // 2], ranked[-1])
            shown = {number: rank for rank, number in zip(RANKS, places, strict=True)}
            yield name, [(rank, number) for number, rank in shown.items()]


def _header(document: Mapping[str, Any]) -> str:
    model = document["methods"][0]
    return (
        f"<header><h1>{escape(model['name'])}</h1><p>{escape(model['note'])}. "
        f"{document['pictures']} pictures of <code>{escape(document['root'])}</code>, split "
        f"{escape(document['split'])}. Percent, pixels pooled over each group; intervals are "
        f"{LEVEL} %, from {document['resamples']} bootstrap resamples over pictures, and left out "
        f"under {FEWEST} pictures.</p></header>"
    )


def _tiles(results: Mapping[str, Any], model: str) -> str:
    tiles = []
    for reading, methods in results["mean"].items():
        number = sum(reading in entry for entry in results["datasets"].values())
        what = f"{reading} mIoU, mean of {number} sets" if number > 1 else f"{reading} mIoU"
        tiles.append((what, methods[model]["miou"]))
    if "unseen species" in results["conditions"]:
        entry = results["conditions"]["unseen species"]
        tiles += [(f"{r} mIoU, unseen", entry[r][model]["miou"]) for r in READINGS if r in entry]
    html = "".join(
        f'<div class="tile"><b>{_number(three)}</b><small>{_bounds(three)}</small>'
        f"<span>{escape(what)}</span></div>"
        for what, three in tiles
    )
    return f'<div class="tiles">{html}</div>'


def _figures(results: Mapping[str, Any], kind: str, reading: str, names: Sequence[str]) -> str:
    groups = {name: entry for name, entry in results[kind].items() if reading in entry}
    if not groups:
        return ""
    chart = whiskers(
        {name: {m: f["miou"] for m, f in entry[reading].items()} for name, entry in groups.items()},
        names,
        f"{reading} mIoU by {_TITLES[kind]}",
    )
    bodies = "".join(_body(name, entry, reading, names[0]) for name, entry in groups.items())
    head = "".join(f"<th>{title}</th>" for title in COLUMNS.values())
    first = " open" if (kind, reading) == ("datasets", "vegetation") else ""
    return (
        f"<section><h2>{reading.capitalize()} by {_TITLES[kind]}</h2>{legend(names)}"
        f'<div class="wide">{chart}</div><details{first}><summary>all figures</summary>'
        f'<div class="wide"><table><thead><tr><th>{_TITLES[kind]}</th><th>images</th>'
        f'<th style="text-align:left">method</th>{head}<th>difference</th></tr></thead>{bodies}'
        "</table></div></details></section>"
    )


def _body(name: str, entry: Mapping[str, Any], reading: str, model: str) -> str:
    rows = []
    for method, found in entry[reading].items():
        first = method == model
        mark = '<span class="unseen">unseen</span>' if first and entry.get("unseen") else ""
        cells = "".join(f"<td>{_cell(found[key])}</td>" for key in COLUMNS)
        apart = _cell(found["difference"], "+") if "difference" in found else ""
        rows.append(
            f'<tr{" class=ours" if first else ""}><td class="t">{escape(name) if first else ""}'
            f"{mark}</td><td>{entry['images'] if first else ''}</td>"
            f'<td class="t">{escape(method)}</td>{cells}<td>{apart}</td></tr>'
        )
    return f"<tbody>{''.join(rows)}</tbody>"


def _examples(evaluation: Evaluation, progress: Callable[[int, int], None] | None) -> str:
    shown = list(chosen(evaluation))
    total, done, parts = sum(len(ranked) for _, ranked in shown), 0, []
    for name, ranked in shown:
        parts.append(f"<h3>{escape(name)}</h3>")
        for rank, number in ranked:
            parts.append(_example(evaluation, rank, number))
            done += 1
            if progress:
                progress(done, total)
    colours = "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, (colour, _) in ERRORS.items()
    )
    return (
        "<section><h2>Best, median and worst pictures of each set</h2>"
        '<p class="legend">By vegetation mIoU of the picture alone. Crop is green, weed magenta, '
        f'what nobody knows is hatched.</p><p class="legend">Errors: {colours}</p>'
        f"{''.join(parts)}</section>"
    )


def _example(evaluation: Evaluation, rank: str, number: int) -> str:
    picture, model = evaluation.root.pictures[number], evaluation.methods[0]
    image, mask = read_pair(picture.pair)
    drawn = panels(image, mask, model.segment(image), picture.pair.meaning)
    figures = "".join(
        f'<figure><img src="{uri}" alt="{caption} of {escape(picture.name)}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, uri in drawn
    )
    scores = {r: evaluation.picture_miou(model.name, r)[number] for r in READINGS}
    said = [f"{reading} {value:.1f}" for reading, value in scores.items() if not np.isnan(value)]
    said += evaluation.conditions[number]
    return (
        f'<div class="example {rank}"><header><b>{rank}</b><span>{escape(", ".join(said))}</span>'
        f'<code>{escape(picture.name)}</code></header><div class="panels">{figures}</div></div>'
    )


def _meanings(document: Mapping[str, Any]) -> str:
    terms = {method["name"]: method["note"] for method in document["methods"]}
    terms |= document["conditions"]
    terms["difference"] = "mIoU minus the model's on the same pictures, resampled together"
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in terms.items())
    return f"<section><h2>What the names mean</h2><dl>{items}</dl></section>"


def _number(three: Sequence[float | None], sign: str = "") -> str:
    return "-" if three[0] is None else f"{three[0]:{sign}.1f}"


def _bounds(three: Sequence[float | None], sign: str = "") -> str:
    if three[1] is None or three[2] is None:
        return ""
    return f"[{three[1]:{sign}.1f}, {three[2]:{sign}.1f}]"


def _cell(three: Sequence[float | None], sign: str = "") -> str:
    bounds = _bounds(three, sign)
    return _number(three, sign) + (f"<small>{bounds}</small>" if bounds else "")
