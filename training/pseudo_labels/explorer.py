"""The explorer page: pictures, depth, labels and verdicts in, one HTML file out.

The page needs no network and no server. Its pictures are small JPEGs in text blocks that the
browser decodes when they come into view, so thousands of them stay quick to go through.
"""

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import FrameError, StorageError
from cropseg_edge.frames.image import read_image
from cropseg_edge.labelled import read_mask
from training.pseudo_labels.decisions import FORMAT
from training.pseudo_labels.pool import Candidate, Measures
from training.pseudo_labels.screening import PAPER_KEPT, PAPER_POOL, Verdict
from training.pseudo_labels.traits import shrink

log = logging.getLogger(__name__)

_DEPTH_SUFFIXES = (".tif", ".tiff", ".png", ".npy")
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 9]


@dataclass(frozen=True)
class Card:
    """What the page shows of one picture."""

    candidate: Candidate
    measures: Measures
    verdict: Verdict
    person: bool | None  # what a person decided earlier; None: nothing yet


def write_explorer(
    path: Path,
    pool: str,
    cards: Sequence[Card],
    pool_size: int,
    kept_unseen: int,
    depth: Path | None = None,
    long_side: int = 384,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the HTML file.
        pool: name of the pool; goes into the decisions file.
        cards: the pictures in the order of the page.
        pool_size: number of images of the whole pool, shown or not.
        kept_unseen: how many that are not on the page are kept.
        depth: folder with STEM.tif (or .png, .npy); larger is farther.
        long_side: of the embedded pictures, pixels.
        progress: called with (done, total).

    Raises:
        StorageError: the disk is full or the folder not writable; an earlier page is still there.
    """
    page = resources.files("training.pseudo_labels").joinpath("explorer.html").read_text("utf-8")
    facts = {
        "format": FORMAT,
        "pool": pool,
        "key": _fingerprint(pool, cards),
        "size": pool_size,
        "keptUnseen": kept_unseen,
        "paper": {"kept": PAPER_KEPT, "pool": PAPER_POOL},
        "images": [_facts(card) for card in cards],
    }
    text = json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c")
    before, _, after = page.partition("<!--pictures-->")
    for asset in ("explorer.css", "explorer_view.js", "explorer.js"):
        source = resources.files("training.pseudo_labels").joinpath(asset).read_text("utf-8")
        before = before.replace(f"/*{asset}*/", source)
        after = after.replace(f"/*{asset}*/", source)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(before)
            file.write(f'<script type="application/json" id="facts">{text}</script>\n')
            for number, card in enumerate(cards):
                pictures = " ".join(_pictures(card, depth, long_side))
                file.write(f'<script type="text/plain" id="p{number}">{pictures}</script>\n')
                if progress:
                    progress(number + 1, len(cards))
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the page cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _fingerprint(pool: str, cards: Sequence[Card]) -> str:
    """Under which the browser keeps progress: other pictures, labels or decisions start afresh."""
    lines = [pool, *(f"{card.candidate.stem} {card.measures.label}" for card in cards)]
    lines += [f"{card.candidate.stem} {card.person}" for card in cards if card.person is not None]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _facts(card: Card) -> dict[str, object]:
    return {
        "stem": card.candidate.stem,
        "label": card.measures.label,
        "score": round(card.candidate.score, 4),
        "agreement": card.measures.agreement,
        "cover": card.measures.cover,
        "unsure": card.measures.unsure,
        "quality": card.verdict.quality,
        "group": card.verdict.group,
        "keep": card.verdict.keep,
        "kind": card.verdict.kind,
        "reason": card.verdict.reason,
        "person": card.person,
        "parts": {name: round(value, 4) for name, value in card.candidate.parts.items()},
    }


def _pictures(card: Card, depth: Path | None, long_side: int) -> list[str]:
    """Base64 of picture (JPEG), label (grey PNG of its values) and, where there is one, depth."""
    image, mask = read_image(card.candidate.image), read_mask(card.candidate.mask)
    small, small_mask = shrink(image, mask, long_side)
    files = [_encode(".jpg", small, _JPEG), _encode(".png", small_mask, _PNG)]
    try:
        distance = read_depth(depth, card.candidate.stem) if depth else None
    except FrameError as error:
        log.warning("no depth on the page: %s", error)
        distance = None
    if distance is not None:
        files.append(_encode(".jpg", shrink(paint_depth(distance), None, long_side // 2)[0], _JPEG))
    return files


def _encode(suffix: str, image: NDArray[np.uint8], options: list[int]) -> str:
    return base64.b64encode(cv2.imencode(suffix, image, options)[1].tobytes()).decode("ascii")


def read_depth(folder: Path, stem: str) -> NDArray[np.float32] | None:
    """A depth map float32 [H, W], larger is farther, NaN unknown; None where there is no file.

    Raises:
        FrameError: a file is there that is no depth map of one channel.
    """
    path = next((p for s in _DEPTH_SUFFIXES if (p := folder / f"{stem}{s}").is_file()), None)
    if path is None:
        return None
    try:
        if path.suffix == ".npy":
            depth = np.load(path, allow_pickle=False)
        else:
            data = np.frombuffer(path.read_bytes(), np.uint8)
            depth = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except (OSError, ValueError, cv2.error) as error:
        raise FrameError(f"{path}: cannot be read as depth: {error}") from error
    if depth is None or depth.ndim != 2:
        raise FrameError(f"{path}: a depth map must be a picture of one channel")
    depth = depth.astype(np.float32)
    depth[~np.isfinite(depth) | (depth <= 0)] = np.nan
    return np.asarray(depth, np.float32)


def paint_depth(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Depth float32 [H, W] as BGR uint8 [H, W, 3]: near is bright, unknown is grey.

    Coloured by 1 / depth between its 2nd and 98th percentile, so that the ground's slope does not
    hide the plants.
    """
    known = np.isfinite(depth)
    if not known.any():
        return np.full((*depth.shape, 3), 128, np.uint8)
    near = 1 / np.where(known, depth, np.nanmedian(depth))
    low, high = np.percentile(near[known], (2, 98))
    level = np.clip((near - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
    painted = cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)
    painted[~known] = 128
    return np.asarray(painted, np.uint8)
