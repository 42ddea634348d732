"""The simulated field: what a frame promises to whoever trains or tests on it."""

import hashlib

import cv2
import numpy as np
import pytest

from cropseg_edge.errors import ConfigError
from cropseg_edge.simulator import (
    CAMERAS,
    CONDITIONS,
    SPECIES,
    FieldSimulator,
    SimulatedFrame,
    sample_frame,
)
from cropseg_edge.simulator.camera import project

SIZE = {"width": 160, "height": 120}


def digest(frame: SimulatedFrame) -> str:
    parts = (frame.image, frame.labels, frame.depth_m, frame.plants.pixel)
    return hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()


@pytest.fixture(scope="module")
def nadir() -> SimulatedFrame:
    return FieldSimulator("maize", "cloud", "nadir", seed=4, width=320, height=240).render(3)


def test_same_seed_same_bytes_whatever_was_rendered_before() -> None:
    first = FieldSimulator(seed=5, **SIZE)
    straight = digest(first.render(7))
    second = FieldSimulator(seed=5, **SIZE)
    second.render(0)
    assert digest(second.render(7)) == straight
    assert digest(FieldSimulator(seed=6, **SIZE).render(7)) != straight


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = digest(FieldSimulator("beet", seed=1, **SIZE).render(2))
        cv2.setNumThreads(4)
        four = digest(FieldSimulator("beet", seed=1, **SIZE).render(2))
    finally:
        cv2.setNumThreads(before)
    assert one == four


def test_random_samples_repeat_and_differ_from_seed_to_seed() -> None:
    assert digest(sample_frame(3, **SIZE)) == digest(sample_frame(3, **SIZE))
    assert digest(sample_frame(3, **SIZE)) != digest(sample_frame(4, **SIZE))


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_species_renders_under_every_condition(species: str, condition: str) -> None:
    camera = CAMERAS[(SPECIES.index(species) + CONDITIONS.index(condition)) % 2]
    frame = FieldSimulator(species, condition, camera, seed=2, **SIZE).render(0)
    assert frame.image.shape == (120, 160, 3)
    assert frame.image.dtype == np.uint8
    assert frame.labels.shape == frame.depth_m.shape == (120, 160)
    assert frame.labels.dtype == np.uint8
    assert frame.depth_m.dtype == np.float32
    assert set(np.unique(frame.labels)) <= {0, 1, 2}
    assert (frame.labels == 1).any()
    assert np.isfinite(frame.depth_m).all()
    assert (frame.depth_m > 0).all()
    assert frame.image.std() > 3


def test_odd_sizes_are_exact() -> None:
    frame = FieldSimulator(width=101, height=67).render(0)
    assert frame.image.shape[:2] == frame.labels.shape == frame.depth_m.shape == (67, 101)


def test_crop_is_nearer_than_the_ground_around_it(nadir: SimulatedFrame) -> None:
    height = nadir.pose.position[2]
    assert nadir.depth_m[nadir.labels == 1].mean() < nadir.depth_m[nadir.labels == 0].mean() - 0.01
    assert nadir.depth_m[nadir.labels == 0].max() <= height * 1.1


def test_leaves_are_greener_than_the_ground(nadir: SimulatedFrame) -> None:
    b, g, r = np.moveaxis(nadir.image.astype(float), 2, 0)
    excess = 2 * g - r - b
    assert excess[nadir.labels > 0].mean() > excess[nadir.labels == 0].mean() + 20


@pytest.mark.parametrize("camera", CAMERAS)
def test_rows_run_where_the_crop_is_densest(camera: str) -> None:
    frame = FieldSimulator("beet", "cloud", camera, seed=3, width=320, height=240).render(0)
    crop = cv2.blur((frame.labels == 1).astype(np.float32), (9, 9))
    on_rows = []
    for row in frame.rows:
        points = np.linspace(row.image[0], row.image[1], 60)
        on_rows.append(crop[points[:, 1].round().astype(int), points[:, 0].round().astype(int)])
    assert frame.rows
    assert np.concatenate(on_rows).mean() > 1.4 * crop.mean()


def test_plants_lie_in_the_image_and_project_to_where_they_are_said_to_be() -> None:
    frame = FieldSimulator("soybean", "sun", "oblique", seed=1, **SIZE).render(4)
    plants = frame.plants
    assert len(plants.label) > 5
    assert set(plants.label) <= {1, 2}
    assert (plants.pixel >= -0.5).all()
    assert (plants.pixel < (159.5, 119.5)).all()
    seen = project(frame.camera, frame.pose, plants.world_m)
    np.testing.assert_allclose(seen[:, :2], plants.pixel, atol=1e-2)


def test_ground_depth_agrees_with_the_pose() -> None:
    frame = FieldSimulator("cereal", "cloud", "oblique", seed=8, **SIZE).render(0)
    v, u = np.nonzero(frame.labels == 0)
    rays = np.stack([u, v, np.ones_like(u)], 1) @ np.linalg.inv(frame.camera.matrix).T
    points = rays * frame.depth_m[v, u][:, None] @ frame.pose.rotation.T + frame.pose.position
    assert np.abs(points[:, 2]).max() < 0.06  # the relief of the ground


def test_camera_drives_along_the_rows() -> None:
    simulator = FieldSimulator(speed_m_s=0.8, rate_hz=5, **SIZE)
    first, later = simulator.render(0), simulator.render(10)
    travelled = later.pose.position - first.pose.position
    assert travelled[0] == pytest.approx(1.6, abs=0.05)
    assert abs(travelled[1]) < 0.1
    assert later.stamp_ns == 2_000_000_000
    x, y, z, w = later.pose.quaternion
    assert x * x + y * y + z * z + w * w == pytest.approx(1)
    np.testing.assert_allclose(later.pose.rotation @ later.pose.rotation.T, np.eye(3), atol=1e-9)


def test_plants_stand_still_while_the_camera_moves() -> None:
    simulator = FieldSimulator("beet", "cloud", "nadir", seed=2, width=320, height=240)
    first, next_one = (simulator.render(i).plants.world_m for i in (0, 1))
    shared = {tuple(p) for p in first.round(6)} & {tuple(p) for p in next_one.round(6)}
    assert len(shared) > 0.5 * len(first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"species": "oak"}, "maize, beet"),
        ({"condition": "fog"}, "sun, shade, cloud, dusk, night"),
        ({"camera": "fisheye"}, "oblique, nadir"),
        ({"width": 8}, "16 to 8192"),
        ({"rate_hz": 0}, "above 0"),
        ({"rate_hz": float("inf")}, "0.001 to 10000"),
        ({"speed_m_s": float("nan")}, "100 m/s"),
    ],
)
def test_wrong_arguments_are_refused_with_the_choices(arguments: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FieldSimulator(**arguments)
