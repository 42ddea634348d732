"""The contact sheet: every species under every condition in one picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.field import FieldSimulator
from cropseg_edge.simulator.scene import CAMERAS, CONDITIONS, SPECIES

_TILE = (320, 240)


def contact_sheet(seed: int = 0) -> NDArray[np.uint8]:
    """uint8 BGR: a row a species, a column a condition, nadir and oblique in turn."""
    rows = []
    for i, species in enumerate(SPECIES):
        tiles = []
        for j, condition in enumerate(CONDITIONS):
            camera = CAMERAS[(i + j) % len(CAMERAS)]
            image = FieldSimulator(species, condition, camera, seed + 10 * i + j).render(0).image
            tile = cv2.resize(image, _TILE, interpolation=cv2.INTER_AREA)
            name = f"{species}, {condition}"
            for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(
                    tile,
                    name,
                    (8, 20),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    0.5,
                    colour,
                    thickness,
                    cv2.LINE_AA,
                )
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    return np.asarray(np.vstack(rows), np.uint8)
