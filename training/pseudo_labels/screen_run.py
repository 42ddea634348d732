"""One screening: a label folder in; data root, page, decisions and summary out."""

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from training.config import Section
from training.logfile import log_to
from training.pseudo_labels.decisions import Decision, read_decisions, write_decisions
from training.pseudo_labels.explorer import Card, write_explorer
from training.pseudo_labels.pool import Candidate, Measures, measure_pool, read_pool
from training.pseudo_labels.screened_root import describe_labels, write_root
from training.pseudo_labels.screening import ScreenConfig, Verdict, screen, summarise

log = logging.getLogger("training")
SETTINGS = "screen.yaml"  # written first: a folder without it is not of this command


class ScreenOptions(Section):
    """What `screen` is asked to do; written to screen.yaml beside the results."""

    labels: Path
    out: Path
    depth: Path | None = None
    decisions: Path | None = None
    only_decided: bool = False
    scenes: Path | None = None
    page_images: int = 3000
    thumbnail: int = 384
    thresholds: ScreenConfig = ScreenConfig()

    @classmethod
    def checked(cls, **values: Any) -> "ScreenOptions":
        """The options. Raises ConfigError that names the first one that is out of range, or an
        `out` whose files are not of this command."""
        try:
            options = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][-1]).replace("_", "-")
            raise ConfigError(f"--{name}: {first['msg']}, got {first['input']!r}") from error
        labels, out = options.labels.resolve(), options.out.resolve()
        if out == labels.parent or out.is_relative_to(labels):
            raise ConfigError(f"--out {options.out} would overwrite the labels' own root")
        taken = (out / "datasets.yaml").exists() or (out / labels.name).exists()
        if taken and not (out / SETTINGS).exists():
            raise ConfigError(
                f"--out {options.out} is a data root that `screen` did not make; choose another one"
            )
        if options.depth is not None and not options.depth.is_dir():
            raise ConfigError(f"--depth {options.depth} is not a folder")
        return options


def run_screen(options: ScreenOptions) -> list[str]:
    """Screen a label folder, and write what `ScreenOptions.out` gets; the summary as lines.

    `out` gets images and masks of what is kept as a data root, decisions.json (every verdict),
    screening.json (the summary), measures.csv, explorer.html, screen.yaml and screen.log. Earlier
    decisions of a person in decisions.json stand until others are read.

    Raises:
        ConfigError: a table or the decisions file is missing, damaged or about other images.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    with log_to(options.out / "screen.log"):
        settings = yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False)
        write_atomically(options.out / SETTINGS, settings.encode())
        name = options.labels.resolve().name
        pool, description = read_pool(options.labels), describe_labels(options.labels)
        scenes = _scenes(options.scenes, description, pool)
        measures = measure_pool(pool, options.out / "measures.csv", _progress("measured"))
        verdicts = screen(pool, measures, scenes, options.thresholds)
        person = _person(options, name, measures)
        final = _with_person(verdicts, person, options.only_decided)
        kept = [candidate for candidate in pool if final[candidate.stem].keep]
        write_root(options.out, name, kept, description)
        _write_verdicts(options.out / "decisions.json", name, final, person, measures)
        if options.page_images:
            _write_page(options, name, pool, measures, verdicts, person, final)
        summary = {**summarise(final), "decided_by_a_person": len(person)}
        text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.out / "screening.json", text.encode())
        return summary_lines(summary, options.out)


def _progress(word: str) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            log.info("%s %d of %d", word, done, total)

    return step


def _scenes(
    path: Path | None, description: Mapping[str, object], pool: Sequence[Candidate]
) -> dict[str, str]:
    """Species and conditions by stem: from the table, or the species of the whole set."""
    if path is None:
        species = description.get("species")
        known = isinstance(species, str) and species != "unknown"
        return {c.stem: str(species) for c in pool} if known else {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--scenes {path} cannot be read: {error}") from error
    if not rows or "stem" not in rows[0] or len(rows[0]) < 2:
        raise ConfigError(f"--scenes {path} needs a column stem and one more, e.g. species")
    return {
        row["stem"]: ", ".join(str(v) for k, v in row.items() if k and k != "stem" and v)
        for row in rows
    }


def _person(options: ScreenOptions, name: str, measures: Mapping[str, Measures]) -> dict[str, bool]:
    earlier = options.out / "decisions.json"
    path = options.decisions or (earlier if earlier.exists() else None)
    if path is None:
        return {}
    labels = {stem: found.label for stem, found in measures.items() if not found.failed}
    try:
        person = read_decisions(path, name, labels)
    except ConfigError as error:
        if path == options.decisions:
            raise
        raise ConfigError(f"{error}, or choose another --out to start afresh") from error
    log.info("%d decisions of a person from %s", len(person), path)
    return person


def _with_person(
    verdicts: Mapping[str, Verdict], person: Mapping[str, bool], only_decided: bool
) -> dict[str, Verdict]:
    """The verdicts with a person's in place of the automatic ones."""
    final = dict(verdicts)
    for stem, verdict in verdicts.items():
        if stem in person:
            reason = "" if person[stem] else "rejected by a person"
            kind = "kept" if person[stem] else "person"
            final[stem] = Verdict(person[stem], kind, reason, verdict.quality, verdict.group)
        elif only_decided and verdict.keep:
            reason = "nobody has decided on it yet"
            final[stem] = Verdict(False, "undecided", reason, verdict.quality, verdict.group)
    return final


def _write_verdicts(
    path: Path,
    name: str,
    final: Mapping[str, Verdict],
    person: Mapping[str, bool],
    measures: Mapping[str, Measures],
) -> None:
    decisions = [
        Decision(
            stem=stem,
            verdict="accept" if verdict.keep else "reject",
            label=measures[stem].label if stem in measures else "",
            by="person" if stem in person else "automatic",
            reason=verdict.reason,
        )
        for stem, verdict in final.items()
    ]
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    write_decisions(path, name, decisions, now)


def _write_page(
    options: ScreenOptions,
    name: str,
    pool: Sequence[Candidate],
    measures: Mapping[str, Measures],
    verdicts: Mapping[str, Verdict],
    person: Mapping[str, bool],
    final: Mapping[str, Verdict],
) -> None:
    """The kept ones first, then what a person saw, then the best of the rest; in the pool's order
    again on the page, so that neighbours of a drive stay together."""
    usable = [c for c in pool if c.stem in measures and not measures[c.stem].failed]
    ranked = sorted(
        usable,
        key=lambda c: (
            not verdicts[c.stem].keep,
            c.stem not in person,
            -verdicts[c.stem].quality,
        ),
    )
    shown = {candidate.stem for candidate in ranked[: options.page_images]}
    cards = [
        Card(c, measures[c.stem], verdicts[c.stem], person.get(c.stem))
        for c in usable
        if c.stem in shown
    ]
    if not cards:
        log.warning("no page: no picture has a label that can be shown")
        return
    if len(cards) < len(usable):
        log.warning("the page shows %d of %d: see --page-images", len(cards), len(usable))
    unseen = sum(verdict.keep for stem, verdict in final.items() if stem not in shown)
    write_explorer(
        options.out / "explorer.html",
        name,
        cards,
        len(pool),
        unseen,
        options.depth,
        options.thumbnail,
        _progress("on the page"),
    )


def summary_lines(summary: Mapping[str, Any], out: Path) -> list[str]:
    """The summary for people: ratio beside the paper's, reasons, scenes that nothing is left of."""
    paper = summary["paper"]
    lines = [
        f"kept {summary['kept']:,} of {summary['pool']:,} ({summary['kept_percent']} %); "
        f"DepthCropSeg kept {paper['kept']:,} of {paper['pool']:,} ({paper['kept_percent']} %)"
    ]
    reasons = summary["reasons"].items()
    if reasons:
        lines.append("dropped: " + ", ".join(f"{kind} {count}" for kind, count in reasons))
    width = max(map(len, summary["groups"]))
    for group, counts in summary["groups"].items():
        mark = "" if counts["kept"] else "   nothing left: look at these in the page"
        lines.append(f"  {group:<{width}}  {counts['kept']:>5} of {counts['pool']}{mark}")
    if (out / "explorer.html").exists():
        lines.append(f"look at {out / 'explorer.html'}, then screen again with --decisions")
    return lines
