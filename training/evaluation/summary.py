"""Counts by picture in, figures with intervals by group and method out; and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cropseg_edge.evaluation import READINGS, Counts
from training.evaluation.intervals import (
    FEWEST,
    LEVEL,
    Interval,
    Sample,
    difference,
    intervals,
    mean_over,
    sample,
)

COLUMNS = {
    "miou": "mIoU",
    "iou": "IoU",
    "boundary_iou": "boundary IoU",
    "precision": "precision",
    "recall": "recall",
}


class Group(NamedTuple):
    """Pictures that are reported together.

    Attributes:
        kind: datasets or conditions.
        name: of the set or condition.
        numbers: of its pictures.
    """

    kind: str
    name: str
    numbers: list[int]


def summarise(
    groups: Sequence[Group],
    counts: Mapping[str, Mapping[str, Counts]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Figures of every group, reading and method.

    Args:
        groups: of picture numbers.
        counts: method to reading to counts int64 [pictures, 6]; the first method is the model.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        {"datasets": {name: {"images": n, "vegetation": {method: {figure: Interval}}, "crop": ...}},
        "conditions": the same, "mean": {reading: {method: {"miou": Interval}}}}, in percent. Other
        methods than the first also have "difference": their mIoU minus the first one's, paired.
        A reading that no picture of a group can answer is left out.
    """
    results: dict[str, Any] = {"datasets": {}, "conditions": {}, "mean": {}}
    by_set: dict[str, dict[str, list[Sample]]] = {}
    for number, group in enumerate(groups):
        own = (seed, number)  # sets of as many pictures must not draw the same ones
        entry: dict[str, Any] = {"images": len(group.numbers)}
        for reading in READINGS:
            found = {
                method: readings[reading][group.numbers] for method, readings in counts.items()
            }
            answered = next(iter(found.values())).any(axis=1)
            if not answered.any():
                continue
            samples = {m: sample(c[answered], resamples, own) for m, c in found.items()}
            ours = next(iter(samples.values()))
            entry[reading] = {
                method: intervals(theirs)
                | ({} if theirs is ours else {"difference": difference(ours, theirs)})
                for method, theirs in samples.items()
            }
            if group.kind == "datasets":
                for method, theirs in samples.items():
                    by_set.setdefault(reading, {}).setdefault(method, []).append(theirs)
        results[group.kind][group.name] = entry
    results["mean"] = {
        reading: {method: {"miou": mean_over(samples)} for method, samples in methods.items()}
        for reading, methods in by_set.items()
    }
    return as_lists(results)


def as_lists(results: Any) -> Any:
    """The same with every interval as [value, low, high], for JSON."""
    if isinstance(results, Interval):
        return list(results)
    if isinstance(results, Mapping):
        return {key: as_lists(value) for key, value in results.items()}
    return results


def flat_metrics(results: Mapping[str, Any], method: str) -> dict[str, dict[str, float]]:
    """One method's figures by set, as `cropseg eval --json` and a bundle's manifest hold them."""
    return {
        name: {"images": entry["images"]}
        | {
            f"{reading}.{key}": found[0]
            for reading in READINGS
            if reading in entry
            for key, found in entry[reading][method].items()
            if key != "difference" and found[0] is not None
        }
        for name, entry in results["datasets"].items()
    }


def markdown(document: Mapping[str, Any]) -> str:
    """The whole evaluation as Markdown, from what `evaluation.json` holds."""
    results = document["results"]
    lines = [
        f"# {document['methods'][0]['name']} on {document['root']}, split {document['split']}",
        "",
        f"{document['pictures']} pictures; percent, pixels pooled over each group; in brackets the "
        f"{LEVEL} % interval of {document['resamples']} bootstrap resamples over pictures (seed "
        f"{document['seed']}), left out under {FEWEST} pictures.",
    ]
    for reading in READINGS:
        for kind, title in (("datasets", "data set"), ("conditions", "condition")):
            rows = list(_rows(results[kind], reading))
            if kind == "datasets" and reading in results["mean"]:
                rows += _mean_rows(results, reading)
            if rows:
                lines += ["", f"## {reading.capitalize()} by {title}", "", *_table(title, rows)]
    lines += ["", "## What the names mean", ""]
    lines += [f"- **{m['name']}**: {m['note']}{_trained(m)}" for m in document["methods"]]
    lines += [f"- **{name}**: {text}." for name, text in document["conditions"].items()]
    lines += [
        "- **crop** of a method that knows plants only: it calls every plant crop.",
        "- **difference**: mIoU minus the first method's on the same pictures, resampled together.",
    ]
    if loose := [n for n, entry in results["datasets"].items() if entry.get("loose_boundaries")]:
        lines.append(f"- Outlines of {', '.join(loose)} are loose: boundary IoU says little there.")
    return "\n".join(lines) + "\n"


def _rows(groups: Mapping[str, Any], reading: str) -> list[list[str]]:
    return [
        [
            f"{name}{' (unseen)' if entry.get('unseen') else ''}",
            str(entry["images"]),
            method,
            *(cell(found[column]) for column in COLUMNS),
            cell(found["difference"], signed=True) if "difference" in found else "",
        ]
        for name, entry in groups.items()
        if reading in entry
        for method, found in entry[reading].items()
    ]


def _mean_rows(results: Mapping[str, Any], reading: str) -> list[list[str]]:
    number = sum(reading in entry for entry in results["datasets"].values())
    if number < 2:
        return []
    empty = [""] * len(COLUMNS)
    return [
        [f"mean of {number} sets", "", method, cell(found["miou"]), *empty]
        for method, found in results["mean"][reading].items()
    ]


def cell(interval: Sequence[float | None], *, signed: bool = False) -> str:
    """`93.11 [92.40, 93.77]`, or what of it is known."""
    value, low, high = interval
    if value is None:
        return "-"
    sign = "+" if signed else ""
    bounds = "" if low is None or high is None else f" [{low:{sign}.2f}, {high:{sign}.2f}]"
    return f"{value:{sign}.2f}{bounds}"


def _table(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    head = [title, "images", "method", *COLUMNS.values(), "difference"]
    ruler = ["---", "--:", "---", *["--:"] * (len(COLUMNS) + 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, ruler, *rows)]


def _trained(method: Mapping[str, Any]) -> str:
    names = method["trained_on"]
    parts = [f"{method['parameters']:,} parameters"] if method["parameters"] else []
    parts += [f"trained on {', '.join(names)}"] if names else []
    return "".join(f"; {part}" for part in parts) + "."
