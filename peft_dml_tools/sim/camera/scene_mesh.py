# SPDX-License-Identifier: Apache-2.0
"""The world as the renderer keeps it: all vertices at one instant, and what each face looks like."""

from typing import NamedTuple

import numba
import numpy as np

from peft_dml_ros.core.typing import BoolArray, Float32Array, FloatArray, Int32Array, IntArray, UInt8Array
from peft_dml_tools.sim.mesh import Mesh, Surface
from peft_dml_tools.sim.raycast import Caster


class FaceAppearance(NamedTuple):
    """What faces look like, for the shading kernel."""

    normal: Float32Array  #: (F, 3) float32 unit; of movers in their own frame
    albedo: Float32Array  #: (F, 3) float32 linear
    surface: UInt8Array  #: (F,) uint8, a `Surface`
    mover: Int32Array  #: (F,) int32 which mover it belongs to, -1 for what stands still
    chart: Int32Array  #: (F,) int32 row of `charts`; the first, of zeros, where there is no texture in road coordinates
    charts: FloatArray  #: (K, 2, 4) float64: world position to station and offset on the road


@numba.njit(cache=True, nogil=True)
def _place(own: Float32Array, poses: FloatArray, ranges: IntArray, world: Float32Array) -> None:
    """Move vertices of movers from their own frames to the world's."""
    for m in range(poses.shape[0]):
        cos, sin = np.cos(poses[m, 2]), np.sin(poses[m, 2])
        for i in range(ranges[m, 0], ranges[m, 1]):
            world[i, 0] = poses[m, 0] + cos * own[i, 0] - sin * own[i, 1]
            world[i, 1] = poses[m, 1] + sin * own[i, 0] + cos * own[i, 1]
            world[i, 2] = poses[m, 3] + own[i, 2]


class SceneMesh:
    """Faces of one world at one instant.

    Attributes:
        vertices: (V, 3) float32 world frame, at the instant last set.
        faces: (F, 3) int32, the still ones first.
        still_faces: How many of them stand still.
        moving_vertices: How many vertices, the last ones, are of movers.
        centre_m: (M, 3) middle of each mover now.
        radius_m: (M,) radius around that.
        poses: (M, 4) x, y, yaw and z of the bottom now.
        looks: What the faces look like.
    """

    def __init__(self, caster: Caster) -> None:
        self._caster = caster
        mesh, actors = caster.mesh, caster.world.actors
        meshes = [actors[i].mesh for i in caster.movers]
        self._own: Float32Array = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
        self.vertices: Float32Array = self._own.copy()
        self.faces: Int32Array = np.ascontiguousarray(mesh.faces, dtype=np.int32)
        self._vertex_range: IntArray = _ranges(len(mesh.vertices), [len(m.vertices) for m in meshes])
        self.moving_vertices = sum(len(m.vertices) for m in meshes)
        self._face_range: IntArray = _ranges(len(mesh.faces), [len(m.faces) for m in meshes])
        self.still_faces = len(mesh.faces) - sum(len(m.faces) for m in meshes)
        middle = [(m.vertices.min(axis=0) + m.vertices.max(axis=0)) / 2 for m in meshes]
        self._middle: FloatArray = np.array(middle, dtype=np.float64).reshape(-1, 3)
        reach = [np.linalg.norm(m.vertices - c, axis=1).max() for m, c in zip(meshes, middle, strict=True)]
        self.radius_m: FloatArray = np.array(reach, dtype=np.float64)
        self.looks = self._looks(mesh)
        self.set(0.0)

    def _looks(self, mesh: Mesh) -> FaceAppearance:
        mover = np.full(len(mesh.faces), -1, np.int32)
        for m, (first, last) in enumerate(self._face_range):
            mover[first:last] = m
        painted: BoolArray = np.isin(mesh.surface, [int(Surface.ROAD), int(Surface.PAVEMENT)]) & (mover < 0)
        chart = np.zeros(len(mesh.faces), np.int32)
        chart[painted] = 1 + np.arange(painted.sum())
        albedo = np.ascontiguousarray(self._caster.light_albedo)
        normal = np.ascontiguousarray(self._caster.normals)
        return FaceAppearance(normal, albedo, mesh.surface, mover, chart, _charts(mesh, np.flatnonzero(painted)))

    def poses_at(self, time_s: float) -> FloatArray:
        """Return (M, 4) x, y, yaw of the movers, and z of their bottoms."""
        poses: FloatArray = self._caster.world.states(time_s)[0][self._caster.movers].astype(np.float64)
        return poses

    def set(self, time_s: float) -> None:
        """Put everything where it is at a time."""
        self.poses: FloatArray = self.poses_at(time_s)
        _place(self._own, self.poses, self._vertex_range, self.vertices)
        cos, sin = np.cos(self.poses[:, 2]), np.sin(self.poses[:, 2])
        x, y, z = self._middle.T
        turned = np.stack([cos * x - sin * y, sin * x + cos * y, self.poses[:, 3] + z], axis=1)
        turned[:, :2] += self.poses[:, :2]
        self.centre_m: FloatArray = turned


def _ranges(total: int, counts: list[int]) -> IntArray:
    """Return the first (M, 2) and one past the last of runs that end at `total`."""
    ends = total - sum(counts) + np.cumsum([0, *counts])
    ranges: IntArray = np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64)
    return ranges


def _charts(mesh: Mesh, chosen: IntArray) -> FloatArray:
    """Return affine maps (1 + K, 2, 4) float64, the first zero, from positions to texture coordinates."""
    corners = mesh.vertices[mesh.faces[chosen]].astype(np.float64)
    uv = mesh.uv[mesh.faces[chosen]].astype(np.float64)
    along, across = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(along, across)
    frame = np.stack([along, across, normal], axis=1)
    sound = np.abs(np.linalg.det(frame)) > 1e-12
    frame[~sound] = np.eye(3)
    steps = np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0], np.zeros((len(chosen), 2))], axis=1)
    # Rows of `frame` times the gradient are the steps.
    slope = np.linalg.solve(frame, steps).transpose(0, 2, 1)
    slope[~sound] = 0.0
    start = uv[:, 0] - np.einsum("kij,kj->ki", slope, corners[:, 0])
    charts = np.concatenate([slope, start[..., None]], axis=2)
    return np.concatenate([np.zeros((1, 2, 4)), charts])
