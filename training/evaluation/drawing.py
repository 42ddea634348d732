"""Picture, truth and prediction in; the four panels of the page out. BGR uint8 throughout."""

import base64

import cv2
import numpy as np

from cropseg_edge.labelled import Labels, Meaning
from cropseg_edge.mask import BACKGROUND, CROP, UNKNOWN, WEED
from cropseg_edge.sinks.overlay import draw_overlay

WIDTH = 420  # pixels of a panel
_QUALITY = 82
# Orange, blue and yellow stay apart in the common forms of colour blindness (Okabe and Ito).
ERRORS = {
    "missed plant": ("#0072b2", (178, 114, 0)),
    "false plant": ("#d55e00", (0, 94, 213)),
    "crop and weed mixed up": ("#f0e442", (66, 228, 240)),
    "right": ("#ffffff", (255, 255, 255)),
    "not labelled": ("#5c6670", (112, 102, 92)),
}


def truth_labels(mask: Labels, meaning: Meaning) -> Labels:
    """What a mask states, uint8 [H, W]: 0, 1, 2; 255 where plant or soil is left open. Plants
    whose kind is open are drawn as crop."""
    return _table(meaning)[0][mask]


def error_map(labels: Labels, mask: Labels, meaning: Meaning) -> Labels:
    """Each pixel's verdict in the colours of `ERRORS`, uint8 [H, W, 3]: plants that are found
    white, soil that is found black, unlabelled pixels grey. Unknown predictions are wrong."""
    drawn, kind_known = (table[mask] for table in _table(meaning))
    plant = np.isin(labels, (CROP, WEED))
    wanted, soil = np.isin(drawn, (CROP, WEED)), drawn == BACKGROUND
    out = np.zeros((*mask.shape, 3), np.uint8)
    for name, pixels in (
        ("right", wanted & plant),
        ("missed plant", wanted & ~plant),
        ("false plant", soil & (labels != BACKGROUND)),
        ("crop and weed mixed up", wanted & plant & (kind_known > 0) & (drawn != labels)),
        ("not labelled", ~wanted & ~soil),
    ):
        out[pixels] = ERRORS[name][1]
    return out


def panels(image: Labels, mask: Labels, labels: Labels, meaning: Meaning) -> list[tuple[str, str]]:
    """(caption, data URI) of picture, truth, prediction and errors."""
    truth = truth_labels(mask, meaning)
    return [
        ("picture", jpeg_uri(image)),
        ("truth", jpeg_uri(draw_overlay(image, truth))),
        ("prediction", jpeg_uri(draw_overlay(image, labels))),
        ("errors", jpeg_uri(error_map(labels, mask, meaning))),
    ]


def jpeg_uri(image: Labels) -> str:
    """A picture, at most 420 pixels wide, as a JPEG data URI."""
    height, width = image.shape[:2]
    if width > WIDTH:
        size = (WIDTH, max(1, round(height * WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _table(meaning: Meaning) -> tuple[Labels, Labels]:
    """Look-up tables uint8 [256]: the label to draw, and whether a plant's kind is known."""
    drawn, kind_known = np.full(256, UNKNOWN, np.uint8), np.zeros(256, np.uint8)
    for value, classes in meaning.items():
        if len(set(classes)) == 1:
            drawn[value], kind_known[value] = next(iter(classes)), 1
        elif BACKGROUND not in classes:
            drawn[value] = CROP
    drawn[UNKNOWN] = UNKNOWN
    return drawn, kind_known
