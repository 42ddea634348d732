"""Scene: every number that a simulated field is drawn from, and what the names stand for."""

from dataclasses import dataclass

import numpy as np

from cropseg_edge.errors import ConfigError
from cropseg_edge.simulator import crops, weeds

SPECIES = tuple(crops.BUILDERS)
WEEDS = tuple(weeds.BUILDERS)
PLANTS = SPECIES + WEEDS
CONDITIONS = ("sun", "shade", "cloud", "dusk", "night")
CAMERAS = ("oblique", "nadir")

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Light:
    """Where light comes from; colours are linear BGR factors.

    Attributes:
        direction: unit vector to the light in the world; for a lamp its position relative to the
            camera in metres.
        lamp: light comes from a lamp that travels with the camera.
        direct, ambient: colour of the direct light and of the sky.
        penumbra: width of a shadow's edge in pixels.
        shade: a large hard shadow (of a machine or a tree) lies over part of the field.
        exposure: mean brightness that the camera's exposure aims at (linear, 0 to 1).
        noise: deviation of the sensor's noise in grey levels (0 to 255) at mid grey.
    """

    direction: tuple[float, float, float]
    lamp: bool
    direct: Colour
    ambient: Colour
    penumbra: float
    shade: bool
    exposure: float
    noise: float


@dataclass(frozen=True, slots=True)
class Soil:
    """What the ground is made of.

    Attributes:
        colour: linear BGR albedo.
        clods: 0 to 1, relief of clods; `grain` that of fine grains.
        clod_size: mean size of a clod in metres.
        moisture: 0 to 1, share of dark wet patches.
        cracks: 0 to 1, dry cracks.
        stones, straw, leaves: pieces per square metre.
        straw_length: metres.
        moss: 0 to 1, greenish tint in patches (still background).
        hose: a drip hose lies along the rows.
        things: stakes, strings, plates per square metre, of any colour.
    """

    colour: Colour
    clods: float
    grain: float
    clod_size: float
    moisture: float
    cracks: float
    stones: float
    straw: float
    leaves: float
    straw_length: float = 0.12
    moss: float = 0.0
    hose: bool = False
    things: float = 0.0


@dataclass(frozen=True, slots=True)
class Mount:
    """How the camera is mounted: metres and radians.

    Attributes:
        height: above ground.
        pitch: from straight down (0) towards the horizon.
        yaw, roll: constant offsets of the mount.
        fov: vertical field of view.
        shake: deviation of the angles while driving; the position shakes in proportion.
    """

    height: float
    pitch: float
    yaw: float
    roll: float
    fov: float
    shake: float


@dataclass(frozen=True, slots=True)
class Lens:
    """What lens, sensor and its processing do.

    Attributes:
        blur: deviation of the point spread in pixels.
        motion_blur: length in pixels; `motion_angle` its direction, 0 up and down, radians.
        vignette: darkening of the corners, 0 to 1.
        white_balance: BGR gains.
        contrast: exponent around mid grey, 1 for none; `saturation` likewise, 1 for none.
        jpeg: quality of a JPEG round trip, 0 for none.
    """

    blur: float
    motion_blur: float
    vignette: float
    white_balance: Colour
    contrast: float
    saturation: float
    jpeg: int
    motion_angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Planting:
    """What grows where: metres; hues in degrees, saturation and value 0 to 1 (sRGB).

    Attributes:
        row_spacing, plant_spacing: between rows and within a row.
        gaps: share of missing plants.
        wander: deviation of a plant from its row.
        growth: of the crop, 0 emerged, 1 canopy nearly closed.
        crop_hsv, weed_hsv: mean colours of the upper leaves.
        weed_density: plants per square metre.
        weed_kinds: names out of PLANTS; a crop among them is a volunteer.
        weed_growth, weed_scale: stage and size factor of the weeds.
        patchiness: 0 even, 1 in patches.
    """

    row_spacing: float
    plant_spacing: float
    gaps: float
    wander: float
    growth: float
    crop_hsv: Colour
    weed_hsv: Colour
    weed_density: float
    weed_kinds: tuple[str, ...]
    weed_growth: float
    weed_scale: float
    patchiness: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A field, its light and a camera; `seed` settles everything that is still open.

    `species` is a name out of PLANTS: for training, what is a weed elsewhere may stand in rows.
    """

    species: str
    condition: str
    camera: str
    seed: int
    planting: Planting
    soil: Soil
    light: Light
    mount: Mount
    lens: Lens


def check_name(what: str, name: str, choices: tuple[str, ...]) -> str:
    """`name` if it is one of `choices`.

    Raises:
        ConfigError: it is not.
    """
    if name not in choices:
        raise ConfigError(f"{what} must be one of {', '.join(choices)}; got '{name}'")
    return name


def sun_direction(elevation_deg: float, azimuth_deg: float) -> tuple[float, float, float]:
    """Unit vector towards the sun, in the world (x along the rows, y left, z up)."""
    e, a = np.radians(elevation_deg), np.radians(azimuth_deg)
    return (float(np.cos(e) * np.cos(a)), float(np.cos(e) * np.sin(a)), float(np.sin(e)))
