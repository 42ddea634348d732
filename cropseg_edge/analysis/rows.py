"""Crop rows in a picture, from where its plants are.

Rows that are parallel and equally spaced on flat ground appear as a pencil of lines: with x and y
from the middle of the picture, row k lies at

    x = slope y + (k + offset) spacing (1 + growth y)

whatever the camera's height, tilt and heading, as long as its horizon is parallel to the picture's
x axis (growth is 0 looking straight down, and 2 where the upper edge is the horizon). So every
plant has a phase, its place between two rows, and rows are the pencil for which the phases of all
plants agree: its `strength` is the length of their mean on the circle (Mardia and Jupp, Directional
Statistics, 2.3), 1 where every plant stands in line and 0 where they stand anywhere.
"""

import cmath
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LEAST_STRENGTH, MARGIN = 0.5, 0.1  # of the strength that counts; over what chance would give

_POINTS = 1500  # the search looks at about this many pixels of plants
_EVERY = 3  # of them is enough for a first guess
_LEAST_POINTS = 50
_SPACINGS = np.geomspace(0.05, 1.0, 40).tolist()
_LEAST_ROWS = 1.5  # seen side by side in the middle of the picture
_GROWTHS = np.arange(-0.4, 1.81, 0.2).tolist()  # the picture's lower edge is nearer to the camera
_GROWTHS_ACROSS = np.arange(-0.8, 0.81, 0.2).tolist()
_STEEPEST = 1.1  # of the slope; lines that lie flatter are found with the axes exchanged
_NARROWEST = 0.02  # spacing at any plant
_STEP = 0.35  # of the slope in the search, spacings over the picture's height
_REFINED = 12  # of the best guesses
_AS_STRONG = 0.88  # of the strength, where rows a multiple as far apart are taken instead
_CELLS = 4  # plants within a quarter of a spacing count as one by chance


@dataclass(frozen=True)
class Rows:
    """A pencil of rows. Lengths are in heights of the picture (in widths where `across`).

    Attributes:
        spacing: between rows, in the middle of the picture.
        growth: of the spacing, per height of the picture downwards.
        slope: of the row through the middle of the picture, dx / dy.
        offset: of the row nearest to the middle, in spacings, -0.5 to 0.5.
        across: rows run from side to side rather than from top to bottom: x and y are exchanged.
        strength: 0 to 1, how well plants stand in line.
        chance: what strength would be by chance alone: three standard deviations of the mean of as
            many random phases as there are places where plants were seen.
    """

    spacing: float
    growth: float
    slope: float
    offset: float
    across: bool
    strength: float
    chance: float

    @property
    def least(self) -> float:
        """The strength from which these rows count as found."""
        return max(LEAST_STRENGTH, self.chance + MARGIN)

    @property
    def found(self) -> bool:
        """Whether plants stand in line clearly more than chance lets them."""
        return self.strength >= self.least

    def along(self, height: int, width: int) -> NDArray[np.float32]:
        """Place of each pixel along the rows, -0.5 to 0.5, float32 [height, width]."""
        y, x = np.indices((height, width), np.float32)
        return _coordinates(x, y, (height, width), self.across)[0].astype(np.float32)

    def phase(self, height: int, width: int) -> NDArray[np.float32]:
        """Number of rows to the right of the row in the middle, float32 [height, width]: an
        integer on a row, half between two; NaN at and beyond the point where the rows meet."""
        y, x = np.indices((height, width), np.float32)
        along, side = _coordinates(x, y, (height, width), self.across)
        spacing = self.spacing * (1 + self.growth * along)
        with np.errstate(divide="ignore", invalid="ignore"):
            phase = (side - self.slope * along) / spacing - self.offset
        return np.where(spacing > _NARROWEST / 2, phase, np.nan).astype(np.float32)


def find_rows(plants: NDArray[np.bool_]) -> Rows | None:
    """The strongest pencil of rows; look at `Rows.found` before trusting it.

    Args:
        plants: bool [H, W], True on plants (crop or weed).

    Returns:
        Rows; None where hardly anything grows.
    """
    y, x = np.nonzero(plants)
    if len(x) < _LEAST_POINTS:
        return None
    chosen = np.random.default_rng(0).permutation(len(x))[:_POINTS]
    guesses = []
    for across in (False, True):
        along, side = _coordinates(x[chosen], y[chosen], plants.shape, across)
        seen = _Seen(along, side, plants.shape, across)
        guesses += [(rows, seen) for rows in seen.search(_SPACINGS)]
    guesses.sort(key=lambda guess: guess[0].chance - guess[0].strength)
    refined = [(seen.refined(rows), seen) for rows, seen in guesses[:_REFINED]]
    best, seen = max(refined, key=lambda guess: guess[0].strength - guess[0].chance)
    # Rows half or a third as far apart are nearly as strong: all between are empty.
    wider = [seen.search([times * best.spacing]) for times in (2, 3)]
    trials = [seen.refined(max(rows, key=_strength)) for rows in wider if rows]
    widest = max(trials, key=_strength, default=best)
    return widest if widest.strength >= _AS_STRONG * best.strength else best


def _strength(rows: Rows) -> float:
    return rows.strength


def _coordinates(
    x: NDArray[Any], y: NDArray[Any], shape: tuple[int, ...], across: bool
) -> tuple[F64, F64]:
    """(along, side): pixels from the middle of the picture, along rows and across them, as shares
    of the side of the picture that rows run along."""
    height, width = shape
    from_middle = (y - (height - 1) / 2) / height, (x - (width - 1) / 2) / height
    if not across:
        return from_middle
    return from_middle[1] * height / width, from_middle[0] * height / width


class _Seen:
    """Plants at (`along`, `side`) in a picture of this shape, and the pencils that they allow."""

    def __init__(self, along: F64, side: F64, shape: tuple[int, ...], across: bool) -> None:
        self._along, self._side = along.astype(np.float32), side.astype(np.float32)
        self._across = across
        long, short = (shape[1], shape[0]) if across else shape
        self._widest = short / long / _LEAST_ROWS

    def search(self, distances: Iterable[float]) -> list[Rows]:
        """For each spacing and growth the slope for which plants stand in line best."""
        found = []
        for distance in distances:
            slopes = np.arange(-_STEEPEST, _STEEPEST, max(_STEP * distance, 0.02)).astype(
                np.float32
            )
            for growth in _GROWTHS_ACROSS if self._across else _GROWTHS:
                rows = Rows(distance, growth, 0.0, 0.0, self._across, 0.0, 0.0)
                if not self.allows(rows):
                    continue
                some = slice(None, None, _EVERY)
                phase, spacings = (part[some] for part in self._phase(rows))
                angles = phase - slopes[:, None] * (self._along[some] / spacings)
                angles *= np.float32(2 * np.pi)
                strengths = np.hypot(
                    np.cos(angles) @ (1 / spacings), np.sin(angles) @ (1 / spacings)
                )
                best = replace(rows, slope=float(slopes[strengths.argmax()]))
                found.append(self.weighed(self.placed(best)))
        return found

    def refined(self, guess: Rows) -> Rows:
        """The strongest pencil near a guess, climbed to in ever smaller steps."""
        best, steps = guess, np.array([0.03, 0.1, 0.1 * guess.spacing])
        for _ in range(8):
            changes = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3), -1).reshape(-1, 3) * steps
            pencils = [
                replace(
                    best,
                    spacing=best.spacing * (1 + spacing),
                    growth=best.growth + growth,
                    slope=best.slope + slope,
                )
                for spacing, growth, slope in changes.tolist()
            ]
            trials = [self.placed(rows) for rows in pencils if self.allows(rows)]
            stronger = max(trials, key=_strength, default=best)
            if stronger.strength > best.strength + 1e-6:
                best = stronger
            else:
                steps = steps / 2
        return self.weighed(best)

    def allows(self, rows: Rows) -> bool:
        """Whether several rows would be seen, and all plants on this side of where they meet."""
        widening = 1 + rows.growth * self._along
        return bool(
            rows.spacing * widening.min() >= _NARROWEST
            and rows.spacing <= self._widest
            and abs(rows.slope) <= _STEEPEST
        )

    def placed(self, rows: Rows) -> Rows:
        """The same pencil with the offset that fits these plants best, and how well it does."""
        phase, spacing = self._phase(rows)
        angles = np.float32(2 * np.pi) * phase
        mean = complex(np.cos(angles) @ (1 / spacing), np.sin(angles) @ (1 / spacing))
        mean /= float((1 / spacing).sum())  # what is far away is seen small
        return replace(rows, offset=cmath.phase(mean) / (2 * cmath.pi), strength=abs(mean))

    def weighed(self, rows: Rows) -> Rows:
        """The same pencil with what chance would give. Places are cells of a quarter of a spacing
        on the ground; few large ones count for less."""
        phase, spacing = self._phase(rows)
        cells = np.round(_CELLS * np.stack([phase, self._along / spacing])).astype(np.int64)
        _, counts = np.unique(cells[0] * 10_007 + cells[1], return_counts=True)
        places = float(counts.sum() ** 2 / np.square(counts).sum())
        return replace(rows, chance=3 / places**0.5)

    def _phase(self, rows: Rows) -> tuple[F32, F32]:
        spacing = (rows.spacing * (1 + rows.growth * self._along)).astype(np.float32)
        return (self._side - np.float32(rows.slope) * self._along) / spacing, spacing
