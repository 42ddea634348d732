"""Scenes by name (species, condition, camera), and scenes at random for training."""

from dataclasses import replace

import numpy as np

from cropseg_edge.simulator.scene import (
    CAMERAS,
    CONDITIONS,
    PLANTS,
    SPECIES,
    WEEDS,
    Colour,
    Lens,
    Light,
    Mount,
    Planting,
    Scene,
    Soil,
    check_name,
    sun_direction,
)

# (row spacing, plant spacing, wander, leaf colour as hue, saturation, value)
_HABIT: dict[str, tuple[float, float, float, Colour]] = {
    "maize": (0.75, 0.17, 0.010, (84, 0.62, 0.60)),
    "beet": (0.48, 0.18, 0.008, (95, 0.60, 0.58)),
    "cereal": (0.13, 0.022, 0.010, (98, 0.40, 0.52)),
    "soybean": (0.45, 0.085, 0.015, (98, 0.50, 0.58)),
    "peanut": (0.40, 0.16, 0.020, (105, 0.45, 0.68)),
    "cauliflower": (0.60, 0.45, 0.015, (145, 0.25, 0.66)),
    "carrot": (0.42, 0.12, 0.020, (100, 0.60, 0.52)),
}
_UNUSUAL = (0.42, 0.16, 0.015, (98.0, 0.52, 0.57))  # a weed as crop

# Linear BGR albedos, from dark wet loam over red earth to light dry sand.
_SOILS: tuple[Colour, ...] = (
    (0.035, 0.050, 0.070),
    (0.060, 0.085, 0.115),
    (0.085, 0.130, 0.190),
    (0.045, 0.085, 0.170),
    (0.140, 0.200, 0.270),
    (0.230, 0.280, 0.330),
    (0.110, 0.125, 0.140),
)


def _light(rng: np.random.Generator, condition: str) -> Light:
    azimuth = float(rng.uniform(0, 360))
    if condition in ("sun", "shade"):
        sun = sun_direction(float(rng.uniform(28, 68)), azimuth)
        strong = float(rng.uniform(0.9, 1.25))
        direct = (0.86 * strong, 0.95 * strong, 1.0 * strong)
        sky = float(rng.uniform(0.16, 0.34))
        ambient = (1.3 * sky, 1.05 * sky, 0.9 * sky)
        return Light(
            sun, False, direct, ambient, float(rng.uniform(0.8, 2.0)), condition == "shade",
            float(rng.uniform(0.22, 0.40)), float(rng.uniform(1.0, 3.0)),
        )  # fmt: skip
    if condition == "cloud":
        soft = sun_direction(float(rng.uniform(65, 88)), azimuth)
        part = float(rng.uniform(0.1, 0.4))
        ambient = (0.85, 0.83, 0.8)
        return Light(
            soft, False, (part, part, part), ambient, float(rng.uniform(9, 24)), False,
            float(rng.uniform(0.20, 0.36)), float(rng.uniform(1.5, 3.5)),
        )  # fmt: skip
    if condition == "dusk":
        low = sun_direction(float(rng.uniform(9, 20)), azimuth)
        warm = float(rng.uniform(0.2, 1.3))
        return Light(
            low, False, (0.30 * warm, 0.62 * warm, 1.0 * warm), (0.40, 0.34, 0.32),
            float(rng.uniform(1.5, 5)), False, float(rng.uniform(0.07, 0.15)),
            float(rng.uniform(3, 6)),
        )  # fmt: skip
    offset = (
        float(rng.uniform(-0.3, 0.4)),
        float(rng.uniform(-0.45, 0.45)),
        float(rng.uniform(-0.1, 0.3)),
    )
    tone = float(rng.uniform(0.75, 1.1))
    return Light(
        offset, True, (tone, 1.0, 1.0), (0.012, 0.010, 0.009), float(rng.uniform(1.0, 2.5)), False,
        float(rng.uniform(0.08, 0.18)), float(rng.uniform(3.5, 7)),
    )  # fmt: skip


def _soil(rng: np.random.Generator) -> Soil:
    a, b = (np.array(_SOILS[i]) for i in rng.integers(len(_SOILS), size=2))
    mix = rng.uniform(0, 1)
    colour = (a * mix + b * (1 - mix)) * rng.uniform(0.8, 1.25)
    colour += rng.uniform(0, 0.7) * (colour.mean() - colour)
    residue = rng.random()
    return Soil(
        (float(colour[0]), float(colour[1]), float(colour[2])),
        float(rng.uniform(0.1, 1.4)),
        float(rng.uniform(0.3, 1.4)),
        float(rng.uniform(0.008, 0.035)),
        float(rng.random() ** 2),
        float(max(0.0, rng.uniform(-1.5, 1.0))),
        float(rng.choice([0, 8, 40, 120]) * rng.random()),
        float((0 if residue < 0.4 else 60 if residue < 0.75 else 1500) * rng.random()),
        float(rng.choice([0, 0, 3, 15]) * rng.random()),
        float(rng.uniform(0.04, 0.2)),
        float(max(0.0, rng.uniform(-1.5, 0.8))),
        bool(rng.random() < 0.1),
    )


def _planting(rng: np.random.Generator, species: str, others: tuple[str, ...] = WEEDS) -> Planting:
    row, spacing, wander, (hue, saturation, value) = _HABIT.get(species, _UNUSUAL)
    kinds = tuple(str(k) for k in rng.choice(others, int(rng.integers(2, 5)), replace=False))
    growth = float(rng.uniform(0.2, 0.6)) * (0.7 if species == "cereal" else 1.0)
    weed_hsv = (
        float(rng.uniform(85, 110)),
        float(rng.uniform(0.45, 0.65)),
        float(rng.uniform(0.5, 0.65)),
    )
    return Planting(
        row, spacing, 0.06, wander, growth, (hue, saturation, value), weed_hsv,
        float(rng.uniform(15, 60)), kinds, float(rng.uniform(0.2, 0.7)), 1.0, 0.6,
    )  # fmt: skip


def named_scene(species: str, condition: str, camera: str, seed: int) -> Scene:
    """The scene that the names stand for; `seed` varies soil, weeds, light and growth.

    Raises:
        ConfigError: a name is unknown.
    """
    check_name("species", species, SPECIES)
    check_name("condition", condition, CONDITIONS)
    check_name("camera", camera, CAMERAS)
    rng = np.random.default_rng((seed, 1))
    soil = _soil(rng)
    planting = _planting(rng, species)
    light = _light(rng, condition)
    close = species == "cereal"
    if camera == "nadir":
        mount = Mount(0.5 if close else 1.0, 0.0, 0.0, 0.0, np.radians(42), 0.006)
    else:
        mount = Mount(
            0.55 if close else 1.2, np.radians(42 if close else 48), 0.0, 0.0, np.radians(44), 0.008
        )
    lens = Lens(0.6, 0.6, 0.2, (1.0, 1.0, 1.0), 1.0, 1.0, 0)
    return Scene(species, condition, camera, seed, planting, soil, light, mount, lens)


def _random_mount(rng: np.random.Generator, camera: str, species: str, growth: float) -> Mount:
    size = 0.25 if species in ("cereal", "peanut", "carrot", *WEEDS) else 0.45
    height = float(rng.uniform(1.2, 4.0) * size + 0.55 * growth * size)
    fov = float(np.radians(rng.uniform(34, 60)))
    if camera == "nadir":
        pitch, yaw = float(abs(rng.normal(0, 0.12))), float(rng.uniform(-np.pi, np.pi))
    else:
        pitch = float(min(rng.uniform(0.3, 1.0), np.radians(80) - fov / 2))
        yaw = float(rng.normal(0, 0.25))
    return Mount(height, pitch, yaw, float(rng.normal(0, 0.04)), fov, 0.01)


def _shifted(rng: np.random.Generator, hsv: Colour, hue: float) -> Colour:
    return (
        float(np.clip(hsv[0] + rng.normal(0, hue), 77, 165)),
        float(np.clip(hsv[1] * rng.uniform(0.75, 1.3), 0.15, 0.85)),
        float(np.clip(hsv[2] * rng.uniform(0.75, 1.25), 0.3, 0.85)),
    )


def training_scene(rng: np.random.Generator, seed: int) -> Scene:
    """A scene with everything at random, far wider than any one field: for training.

    In half of the scenes any plant may be the crop and any other a weed, so that rows, size and
    spacing tell which, not looks: fields will have species that no training picture shows.
    """
    swapped = rng.random() < 0.5
    species = str(rng.choice(PLANTS if swapped else SPECIES))
    others = tuple(name for name in PLANTS if name != species) if swapped else WEEDS
    condition = str(rng.choice(CONDITIONS, p=(0.32, 0.14, 0.34, 0.12, 0.08)))
    camera = "nadir" if rng.random() < 0.7 else "oblique"
    light = _light(rng, condition)
    base = _planting(rng, species, others)
    growth = float(rng.uniform(0.0, 1.0) ** 1.2)
    heavy = rng.random()
    density = (0, 25, 120, 500)[int(np.searchsorted((0.12, 0.5, 0.8), heavy))] * rng.uniform(0.4, 1)
    density *= 0.4 if swapped else 1  # volunteers are large
    hue = 6 if species == "maize" else 10
    planting = replace(
        base,
        row_spacing=base.row_spacing * float(rng.uniform(0.7, 1.4)),
        plant_spacing=base.plant_spacing * float(rng.uniform(0.6, 1.6)),
        gaps=float(rng.random() ** 2 * 0.5),
        wander=base.wander * float(rng.uniform(0.5, 3)),
        growth=growth,
        crop_hsv=_shifted(rng, base.crop_hsv, hue),
        weed_hsv=_shifted(rng, base.weed_hsv, 14),
        weed_density=float(density),
        weed_growth=float(rng.random()),
        weed_scale=float(rng.uniform(0.5, 1.6)),
        patchiness=float(rng.random()),
    )
    lens = Lens(
        float(rng.choice([0.45, 0.6, 0.9, 1.4])),
        float(max(0.0, rng.normal(0, 3))),
        float(rng.uniform(0, 0.5)),
        (float(rng.normal(1, 0.1)), 1.0, float(rng.normal(1, 0.1))),
        float(rng.uniform(0.8, 1.3)),
        float(rng.uniform(0.6, 1.35)),
        int(rng.integers(45, 96)) if rng.random() < 0.6 else 0,
        float(rng.uniform(0, np.pi)),
    )
    light = replace(light, exposure=light.exposure * float(rng.uniform(0.6, 1.5)))
    mount = _random_mount(rng, camera, species, growth)
    soil = replace(_soil(rng), things=float(rng.uniform(0.5, 8) * (rng.random() < 0.25)))
    return Scene(species, condition, camera, seed, planting, soil, light, mount, lens)


def sample_scene(seed: int) -> Scene:
    """The random scene that `seed` stands for: what `field.sample_frame` shows."""
    rng = np.random.default_rng((seed, 4))
    return training_scene(rng, int(rng.integers(2**31)))
