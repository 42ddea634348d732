"""The pinhole camera on a drive along the rows: intrinsics, pose in time, projection."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.simulator.rng import F32, hash01
from cropseg_edge.simulator.scene import Mount

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera without distortion, in pixels; pixel centres are at whole numbers."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def matrix(self) -> F64:
        """float64 [3, 3], the K of a ROS CameraInfo."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the camera is.

    Attributes:
        position: float64 [3], metres in the world (x along the rows, y left, z up).
        rotation: float64 [3, 3], columns are the camera's optical axes (x right, y down,
            z forward; REP-103) in the world.
    """

    position: F64
    rotation: F64

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """The rotation as (x, y, z, w)."""
        turn = cv2.Rodrigues(self.rotation)[0].ravel()
        angle = float(np.linalg.norm(turn))
        x, y, z = turn / max(angle, 1e-12) * np.sin(angle / 2)
        return (float(x), float(y), float(z), float(np.cos(angle / 2)))


def intrinsics(mount: Mount, width: int, height: int) -> Intrinsics:
    """Square pixels, the principal point in the middle, `mount.fov` from top to bottom."""
    f = height / 2 / float(np.tan(mount.fov / 2))
    return Intrinsics(f, f, (width - 1) / 2, (height - 1) / 2, width, height)


def pose_at(mount: Mount, seed: int, time_s: float, speed_m_s: float) -> Pose:
    """The camera's pose at a time of the drive, shaken smoothly as a machine shakes it."""
    phase = hash01(seed, np.arange(18, dtype=np.int64)).astype(np.float64) * 2 * np.pi
    rates = np.array([0.7, 1.9, 4.3])
    wave = (np.sin(2 * np.pi * rates * time_s + phase.reshape(6, 3)) * (0.6, 0.3, 0.15)).sum(1)
    pitch = mount.pitch + mount.shake * wave[0]
    yaw = mount.yaw + mount.shake * wave[1]
    roll = mount.roll + mount.shake * wave[2]
    x = 40 * float(hash01(seed, 77)) + speed_m_s * time_s + mount.shake * wave[3] * mount.height
    y = mount.shake * wave[4] * 2 * mount.height
    z = mount.height * (1 + mount.shake * wave[5])
    cp, sp, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    # Pitched about the image's x axis from straight down, with the drive's direction up.
    tilted = np.array([[0, -cp, sp], [-1, 0, 0], [0, -sp, -cp]])
    turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1.0]])
    spin = np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1.0]]
    )
    return Pose(np.array([x, y, z]), turn @ tilted @ spin)


def project(camera: Intrinsics, pose: Pose, points: F32 | F64) -> F32:
    """World points [..., 3] as float32 [..., 3]: pixel x, pixel y, depth along the axis (m)."""
    local = (np.asarray(points, np.float64) - pose.position).astype(
        np.float32
    ) @ pose.rotation.astype(np.float32)
    z = local[..., 2]
    safe = np.where(np.abs(z) < 1e-6, np.float32(1e-6), z)
    x = local[..., 0] / safe * np.float32(camera.fx) + np.float32(camera.cx)
    y = local[..., 1] / safe * np.float32(camera.fy) + np.float32(camera.cy)
    return np.stack([x, y, z], -1)


def ground_homography(camera: Intrinsics, pose: Pose) -> F64:
    """float64 [3, 3] from ground points (x, y, 1) in metres to pixels; third value is depth."""
    world_to_camera = pose.rotation.T
    translation = -world_to_camera @ pose.position
    return np.asarray(
        camera.matrix
        @ np.column_stack([world_to_camera[:, 0], world_to_camera[:, 1], translation]),
        np.float64,
    )


def ground_corners(camera: Intrinsics, pose: Pose) -> F64:
    """float64 [4, 2]: where the rays of the image's corners meet the ground, in metres."""
    w, h = camera.width - 0.5, camera.height - 0.5
    pixels = np.array([[-0.5, -0.5, 1], [w, -0.5, 1], [w, h, 1], [-0.5, h, 1]])
    rays = (pose.rotation @ np.linalg.inv(camera.matrix) @ pixels.T).T
    # Rays at or above the horizon are cut at 15 camera heights.
    down = np.minimum(rays[:, 2], -np.linalg.norm(rays, axis=1) / 15)
    return np.asarray(pose.position[:2] + rays[:, :2] * (pose.position[2] / -down)[:, None])
