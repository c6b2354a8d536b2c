# SPDX-License-Identifier: Apache-2.0
"""One picture from start to end: place, draw, shade, expose, develop."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.core.typing import Float32Array, FloatArray, Int32Array, UInt8Array
from peft_dml_tools.sim.camera import exposure
from peft_dml_tools.sim.camera.exposure import Exposure
from peft_dml_tools.sim.camera.raster import draw, project
from peft_dml_tools.sim.camera.scene_mesh import SceneMesh
from peft_dml_tools.sim.camera.shading import View, shade_pixels
from peft_dml_tools.sim.camera.shadow import SunMaps
from peft_dml_tools.sim.camera.textures import RoadPaint
from peft_dml_tools.sim.raycast import Caster

GAIN_SPREAD: Final = 0.05  #: Share by which cameras differ in brightness from picture to picture
DEPTH_STEPS_PER_M: Final = 256.0
DEPTH_LIMIT_M: Final = 255.0
FLARE: Final = 0.06
#: Light that the lens scatters with the sun on its axis, and how fast it fades off that axis (1 - cos)
FLARE_WIDTH: Final = 0.25


@dataclass(frozen=True, slots=True)
class Picture:
    """What a camera took."""

    pixels: UInt8Array  #: (H, W, 3) uint8 RGB
    range_m: Float32Array  #: (H, W) float32 along each pixel's ray, infinite for the sky
    exposure: Exposure  #: How it was exposed


@dataclass(frozen=True, slots=True)
class _Buffers:
    inverse_z: Float32Array
    face: Int32Array
    light: Float32Array

    @classmethod
    def of(cls, height: int, width: int) -> "_Buffers":
        return cls(
            np.empty((height, width), np.float32),
            np.empty((height, width), np.int32),
            np.empty((height, width, 3), np.float32),
        )


class Renderer:
    """Takes pictures in one world. A picture depends on its arguments alone, not on those before it."""

    def __init__(self, caster: Caster) -> None:
        self._world = caster.world
        self._scene = SceneMesh(caster)
        self._sun_maps = SunMaps(self._scene, caster.world.sun)
        self._paint = RoadPaint.of(caster.world.road)
        self._cover = float(np.random.default_rng([caster.world.seed, 77]).uniform(0.1, 0.75))
        self._curve = exposure.tone_curve()
        self._homogeneous: Float32Array = np.empty_like(self._scene.vertices)
        self._buffers: dict[tuple[int, int], _Buffers] = {}

    def picture(self, base_SE3_camera: SE3, camera: CameraModel, time_s: float, rng: np.random.Generator) -> Picture:
        """Return a picture whose exposure has its middle at a time."""
        pose = self._world.world_SE3_base(time_s) @ base_SE3_camera
        shape = (camera.height_px, camera.width_px)
        buffers = self._buffers.setdefault(shape, _Buffers.of(*shape))
        self._scene.set(time_s)
        self._sun_maps.draw(self._world.world_SE3_base(time_s).translation)
        self._draw(pose, camera, buffers)
        range_m = self._shade(pose, camera, buffers)
        taken = exposure.expose(buffers.light, float(self._world.sun[2]))
        jitter = float(rng.uniform(1 - GAIN_SPREAD, 1 + GAIN_SPREAD))
        motion = self._motion(base_SE3_camera, camera, time_s, taken.time_s)
        pixels = np.empty((*shape, 3), np.uint8)
        exposure.develop(
            buffers.light,
            buffers.inverse_z,
            self._scene.looks.mover,
            buffers.face,
            motion,
            exposure.moving(motion, camera.intrinsics),
            _lens(camera),
            (taken.scale * jitter, taken.gain, self._flare(pose, camera, buffers.face)),
            self._curve,
            rng.integers(2**63, dtype=np.uint64),
            pixels,
        )
        return Picture(pixels, range_m, taken)

    def _draw(self, pose: SE3, camera: CameraModel, buffers: _Buffers) -> None:
        matrix = _matrix(pose.inverse(), camera.intrinsics)
        # Taken to the camera's own place first: world coordinates of hundreds of metres would cost precision.
        project(self._scene.vertices, matrix, self._homogeneous)
        buffers.inverse_z.fill(0.0)
        buffers.face.fill(-1)
        draw(self._homogeneous, self._scene.faces, buffers.inverse_z, buffers.face)

    def _shade(self, pose: SE3, camera: CameraModel, buffers: _Buffers) -> Float32Array:
        range_m = np.empty(buffers.face.shape, np.float32)
        maps, yaw = self._sun_maps, np.concatenate([[0.0], self._scene.poses[:, 2]])
        right, down, ahead = (_numbers(axis) for axis in pose.rotation.T)
        view = View(right, down, ahead, _numbers(pose.translation), _lens(camera))
        shade_pixels(
            view,
            maps.sunshine(self._cover),
            maps.maps,
            self._scene.looks,
            self._paint,
            np.column_stack([np.cos(yaw), np.sin(yaw)]),
            buffers.inverse_z,
            buffers.face,
            buffers.light,
            range_m,
        )
        return range_m

    def _motion(self, base_SE3_camera: SE3, camera: CameraModel, time_s: float, exposure_s: float) -> FloatArray:
        """Return motions (M + 1, 3, 4) as `develop` takes it."""
        begin = self._world.world_SE3_base(time_s) @ base_SE3_camera
        end = self._world.world_SE3_base(time_s + exposure_s) @ base_SE3_camera
        before, after = _planar(self._scene.poses), _planar(self._scene.poses_at(time_s + exposure_s))
        moved = np.concatenate([np.eye(4)[None], after @ np.linalg.inv(before)])
        motion: FloatArray = camera.intrinsics @ (_homogeneous(end.inverse()) @ moved @ _homogeneous(begin))[:, :3]
        return motion

    def _flare(self, pose: SE3, camera: CameraModel, face: Int32Array) -> float:
        """Return the light that the lens scatters over the picture when the sun shines into it."""
        towards = pose.rotation.T @ self._world.sun
        if towards[2] <= 0:
            return 0.0
        u, v, _ = camera.intrinsics @ (towards / towards[2])
        row, column = int(np.floor(v)), int(np.floor(u))
        inside = 0 <= row < camera.height_px and 0 <= column < camera.width_px
        if inside and face[row, column] >= 0:
            return 0.0
        return FLARE * float(np.exp(-(1 - towards[2]) / FLARE_WIDTH)) * (1.0 if inside else 0.5)


def encode_jpeg(pixels: UInt8Array, quality: int = 85) -> bytes:
    """Return the JPEG bytes of an RGB picture."""
    import cv2  # noqa: PLC0415 - keeps the rest of the simulator free of it

    ok, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {pixels.shape}")
    return bytes(data)


def encode_depth(range_m: Float32Array, camera: CameraModel, stride_px: int) -> bytes:
    """Return a 16-bit PNG of the depth along the optical axis at the centre of each cell of pixels.

    Values are 256 times the depth in m, as in KITTI's depth maps; 0 stands for the sky and what is further than 255 m.

    Args:
        range_m: (H, W) along each pixel's ray, infinite for the sky.
        camera: Projection.
        stride_px: Side of a cell.
    """
    import cv2  # noqa: PLC0415

    half, k = stride_px // 2, camera.intrinsics
    y = (np.arange(half, range_m.shape[0], stride_px) + 0.5 - k[1, 2]) / k[1, 1]
    x = (np.arange(half, range_m.shape[1], stride_px) + 0.5 - k[0, 2]) / k[0, 0]
    depth = range_m[half::stride_px, half::stride_px] / np.sqrt(x**2 + y[:, None] ** 2 + 1.0)
    steps = np.where(depth < DEPTH_LIMIT_M, np.round(depth * DEPTH_STEPS_PER_M), 0.0).astype(np.uint16)
    return bytes(cv2.imencode(".png", steps)[1])


def _lens(camera: CameraModel) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy."""
    k = camera.intrinsics
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def _numbers(vector: FloatArray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in vector)
    return x, y, z


def _homogeneous(pose: SE3) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.translation
    return matrix


def _matrix(camera_SE3_world: SE3, intrinsics: FloatArray) -> FloatArray:
    """Return the matrix (3, 4) from the world to homogeneous pixels."""
    matrix: FloatArray = intrinsics @ _homogeneous(camera_SE3_world)[:3]
    return matrix


def _planar(poses: FloatArray) -> FloatArray:
    """Return matrices (M, 4, 4) of x, y, yaw (M, 3)."""
    out = np.tile(np.eye(4), (len(poses), 1, 1))
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1] = cos, -sin, sin, cos
    out[:, :2, 3] = poses[:, :2]
    return out
