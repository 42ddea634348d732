"""Automatic screening, coarse to fine: candidates and measures in, a verdict with its reason out.

DepthCropSeg kept 1,378 of 17,199 pseudo-labelled images by hand (Cao et al., Plant Phenomics 7(1),
2025). The same order here: labels that cannot be right go first, then those that colour does not
confirm, then near duplicates, and last, where only a share is wanted, the best of every kind of
scene, so that the easy scenes do not push out the rare ones.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from training.config import Section
from training.pseudo_labels.pool import Candidate, Measures
from training.pseudo_labels.traits import HASH_BITS, canopy, hash_signs

PAPER_KEPT, PAPER_POOL = 1378, 17199


class ScreenConfig(Section):
    """The thresholds of automatic screening; all shares are 0 to 1."""

    min_score: float = Field(0.5, ge=0, le=1)
    min_agreement: float = Field(0.65, ge=0, le=1)
    min_cover: float = Field(0.005, ge=0, le=1)
    max_cover: float = Field(0.97, ge=0, le=1)
    max_unsure: float = Field(0.5, ge=0, le=1)
    duplicate_bits: int = Field(6, ge=-1, le=HASH_BITS)  # -1 keeps duplicates
    keep: float | None = Field(None, gt=0, le=1)  # share of the pool; None: all that pass


@dataclass(frozen=True)
class Verdict:
    """What was decided on a candidate.

    Attributes:
        keep: whether it may teach.
        kind: the rule that decided: kept, refused, damaged, score, cover, unsure, agreement,
            duplicate, coverage, or person.
        reason: that rule's finding in words.
        quality: score times agreement, 0 to 1: what candidates are ranked by.
        group: the kind of scene, e.g. "maize, dim, sparse".
    """

    keep: bool
    kind: str
    reason: str
    quality: float
    group: str


def screen(
    pool: Sequence[Candidate],
    measures: Mapping[str, Measures],
    scenes: Mapping[str, str],
    config: ScreenConfig,
) -> dict[str, Verdict]:
    """Verdicts by stem.

    Args:
        pool: the candidates.
        measures: of every candidate that has a label.
        scenes: what is known of a picture's species and conditions; its light where absent.
        config: thresholds.
    """
    verdicts: dict[str, Verdict] = {}
    for candidate in pool:
        found = measures.get(candidate.stem)
        kind, reason = _own_faults(candidate, found, config)
        quality = round(candidate.score * found.agreement, 4) if found else 0.0
        verdicts[candidate.stem] = Verdict(
            not kind, kind or "kept", reason, quality, _group(scenes.get(candidate.stem), found)
        )
    _drop_duplicates(verdicts, measures, config.duplicate_bits)
    if config.keep is not None:
        _keep_best_of_each_group(verdicts, max(1, round(config.keep * len(pool))))
    return verdicts


def _own_faults(
    candidate: Candidate, found: Measures | None, config: ScreenConfig
) -> tuple[str, str]:
    """The first rule that a candidate breaks by itself, and how; empty where it breaks none."""
    if candidate.refused or found is None:
        return "refused", f"the labeller refused it: {candidate.refused}"
    if found.failed:
        return "damaged", found.failed
    if found.unsure > config.max_unsure:
        return "unsure", f"{found.unsure:.0%} has no label, more than {config.max_unsure:.0%}"
    if found.cover < config.min_cover:
        return "cover", f"plants cover {found.cover:.1%}, less than {config.min_cover:.1%}"
    if found.cover > config.max_cover:
        return "cover", f"plants cover {found.cover:.1%}, more than {config.max_cover:.1%}"
    if candidate.score < config.min_score:
        return "score", f"score {candidate.score:.2f}, less than {config.min_score:.2f}"
    if found.agreement < config.min_agreement:
        return (
            "agreement",
            f"colour agrees to {found.agreement:.2f}, less than {config.min_agreement:.2f}",
        )
    return "", ""


def _group(scene: str | None, found: Measures | None) -> str:
    if found is None or found.failed:
        return scene or "no label"
    return ", ".join(part for part in (scene, found.light, canopy(found.cover)) if part)


def _by_quality(verdicts: Mapping[str, Verdict]) -> list[str]:
    """Stems that are still in, best first; the name decides between equals."""
    kept = (stem for stem, verdict in verdicts.items() if verdict.keep)
    return sorted(kept, key=lambda stem: (-verdicts[stem].quality, stem))


def _rejected(verdict: Verdict, kind: str, reason: str) -> Verdict:
    return Verdict(False, kind, reason, verdict.quality, verdict.group)


def _drop_duplicates(
    verdicts: dict[str, Verdict], measures: Mapping[str, Measures], bits: int
) -> None:
    """Of pictures whose hashes differ in at most `bits` bits, the best stays."""
    stems = _by_quality(verdicts)
    signs = np.zeros((len(stems), HASH_BITS), np.float32)
    kept: list[str] = []
    for stem in stems:
        own = hash_signs(measures[stem].hash)
        apart = (HASH_BITS - signs[: len(kept)] @ own) / 2
        if len(apart) and apart.min() <= bits:
            nearest = int(apart.argmin())
            reason = f"nearly the same as {kept[nearest]} ({int(apart[nearest])} bits apart)"
            verdicts[stem] = _rejected(verdicts[stem], "duplicate", reason)
        else:
            signs[len(kept)] = own
            kept.append(stem)


def _keep_best_of_each_group(verdicts: dict[str, Verdict], wanted: int) -> None:
    """Leave `wanted` in: one of each group in turn, best first, until that many are taken."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for stem in _by_quality(verdicts):
        groups[verdicts[stem].group].append(stem)
    turns = sorted(
        (rank, -verdicts[stem].quality, stem)
        for stems in groups.values()
        for rank, stem in enumerate(stems)
    )
    for rank, _, stem in turns[wanted:]:
        reason = f"{rank} better ones of its kind ({verdicts[stem].group}) fill the share"
        verdicts[stem] = _rejected(verdicts[stem], "coverage", reason)


def summarise(verdicts: Mapping[str, Verdict]) -> dict[str, object]:
    """What was kept, why the rest was not, and how each kind of scene fared.

    Returns:
        pool, kept, kept_percent, paper (the same of DepthCropSeg), reasons (kind to number, most
        frequent first), groups (name to {"pool", "kept"}).
    """
    kept = sum(verdict.keep for verdict in verdicts.values())
    groups: dict[str, dict[str, int]] = {}
    for verdict in verdicts.values():
        counts = groups.setdefault(verdict.group, {"pool": 0, "kept": 0})
        counts["pool"] += 1
        counts["kept"] += verdict.keep
    reasons = Counter(verdict.kind for verdict in verdicts.values() if not verdict.keep)
    return {
        "pool": len(verdicts),
        "kept": kept,
        "kept_percent": round(100 * kept / max(1, len(verdicts)), 2),
        "paper": {
            "pool": PAPER_POOL,
            "kept": PAPER_KEPT,
            "kept_percent": round(100 * PAPER_KEPT / PAPER_POOL, 2),
        },
        "reasons": dict(reasons.most_common()),
        "groups": dict(sorted(groups.items())),
    }
