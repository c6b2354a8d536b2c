# SPDX-License-Identifier: Apache-2.0
"""Rays against the world: one tree over what stands still, and a small one for each thing that moves.

Rays are taken into a mover's own frame, so that no tree is ever built twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array, FloatArray, Int32Array, IntArray
from peft_dml_ros.sim.mesh import Mesh, merge
from peft_dml_ros.sim.world import World

MISS_M: Final = 1e9
SHADOW_REACH_M: Final = 60.0


@dataclass(frozen=True, slots=True)
class Hits:
    """Where rays end; `face` indexes the caster's face tables.

    Attributes:
        range_m: (N,) float32 along the unit direction; infinite for a miss.
        face: (N,) int64 index into `Caster.mesh`'s faces, -1 for a miss.
        normal: (N, 3) float32 unit, turned towards the ray's origin; 0 for a miss.
        uv: (N, 2) float32 texture coordinates.
    """

    range_m: Float32Array
    face: IntArray
    normal: Float32Array
    uv: Float32Array


class Caster:
    """Casts rays into one world.

    Attributes:
        mesh: All faces, the still ones first; vertices of the moving ones are in their actor's frame.
        owner: (F,) int32 actor index of each face, -1 for the background.
        still: Tree over what stands still.
        movers: (M,) indices of the actors that move.
        first_face: (M,) first face of each mover in `mesh`.
        radius_m: (M,) radius of a sphere around each mover's box.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        actors = world.actors
        still = [i for i, a in enumerate(actors) if not a.moves]
        self.movers: IntArray = np.array([i for i, a in enumerate(actors) if a.moves], dtype=np.int64)
        placed = [
            actors[i].mesh.moved((*world.poses[i, 0, :2], actors[i].base_z_m), world.poses[i, 0, 2]) for i in still
        ]
        static = merge([world.background, *placed])
        moving = [actors[i].mesh for i in self.movers]
        self.mesh: Mesh = merge([static, *moving])
        owners = [np.full(len(actors[i].mesh.faces), i, np.int32) for i in [*still, *self.movers]]
        self.owner: Int32Array = np.concatenate([np.full(len(world.background.faces), -1, np.int32), *owners])
        self.first_face = len(static.faces) + np.cumsum([0, *[len(m.faces) for m in moving]])[:-1]
        self.radius_m: FloatArray = np.array([np.linalg.norm(actors[i].size_m) / 2 for i in self.movers])
        self.base_z_m: FloatArray = np.array([actors[i].base_z_m for i in self.movers])
        self.half_height_m: FloatArray = np.array([actors[i].size_m[2] / 2 for i in self.movers])
        self.still = _tree(static.vertices, static.faces)
        self._trees: dict[int, Any] = {}

    @cached_property
    def corner_uv(self) -> Float32Array:
        """(F, 3, 2) texture coordinates of each face's corners."""
        return self.mesh.uv[self.mesh.faces]

    def tree(self, mover: int) -> Any:
        """Tree of one mover, in its own frame; made when first needed."""
        if mover not in self._trees:
            mesh = self.world.actors[self.movers[mover]].mesh
            self._trees[mover] = _tree(mesh.vertices, mesh.faces)
        return self._trees[mover]

    def at(self, time_s: float) -> Instant:
        """The world at one instant."""
        poses, _ = self.world.states(time_s)
        return Instant(self, poses[self.movers])


@dataclass(frozen=True, slots=True)
class Instant:
    """Casts rays at one instant; made by `Caster.at`.

    Attributes:
        caster: The world.
        poses: (M, 3) x, y, yaw of the movers.
    """

    caster: Caster
    poses: FloatArray

    def _centres(self) -> FloatArray:
        return np.column_stack([self.poses[:, :2], self.caster.base_z_m + self.caster.half_height_m])

    def cast(self, origin_m: AnyArray, directions: AnyArray, max_range_m: float = 150.0) -> Hits:
        """First hits of rays from one point.

        Args:
            origin_m: (3,) world frame.
            directions: (N, 3) unit vectors, world frame.
            max_range_m: Movers beyond this are left out.
        """
        origin = np.asarray(origin_m, dtype=np.float32)
        rays = np.ascontiguousarray(directions, dtype=np.float32)
        out = self.caster.still.run(np.ascontiguousarray(np.broadcast_to(origin, rays.shape)), rays, output=True)
        ranges, face, normal = out["tfar"], out["primID"].astype(np.int64), out["Ng"]
        bary_u, bary_v = out["u"], out["v"]
        offset = self._centres() - origin
        distance = np.linalg.norm(offset, axis=1)
        near = np.flatnonzero(distance - self.caster.radius_m < max_range_m)
        if len(near):
            towards = (offset[near] / np.maximum(distance[near], 1e-6)[:, None]).astype(np.float32)
            sine = np.minimum(self.caster.radius_m[near] / np.maximum(distance[near], 1e-6), 1.0)
            bound = np.where(sine < 1.0, np.sqrt(1.0 - sine**2), -1.0).astype(np.float32)
            inside = towards @ rays.T > bound[:, None]
            for k, mover in enumerate(near):
                chosen = np.flatnonzero(inside[k])
                if len(chosen) == 0:
                    continue
                hit, found, turned = self._cast_one(int(mover), origin, rays[chosen], ranges[chosen])
                if len(hit):
                    at = chosen[hit]
                    ranges[at], bary_u[at], bary_v[at] = found["tfar"][hit], found["u"][hit], found["v"][hit]
                    face[at] = self.caster.first_face[mover] + found["primID"][hit]
                    normal[at] = turned
        return self._finish(rays, ranges, face, normal, bary_u, bary_v)

    def _cast_one(
        self, mover: int, origin: Float32Array, rays: Float32Array, ranges: Float32Array
    ) -> tuple[IntArray, dict[str, AnyArray], AnyArray]:
        """Rays against one mover: which come nearer than before, the raw result, their normals in the world frame."""
        rotation, own_origin = self._into(mover, origin[None])
        own = np.ascontiguousarray(rays @ rotation)
        found = self.caster.tree(mover).run(
            np.ascontiguousarray(np.broadcast_to(own_origin, own.shape)), own, output=True
        )
        hit = np.flatnonzero(found["tfar"] < ranges)
        return hit, found, found["Ng"][hit] @ rotation.T

    def _into(self, mover: int, points: Float32Array) -> tuple[Float32Array, Float32Array]:
        """World_R_mover (3, 3), and points (N, 3) in the mover's frame."""
        x, y, yaw = self.poses[mover]
        cos, sin = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], np.float32)
        shifted = points - np.array([x, y, self.caster.base_z_m[mover]], np.float32)
        return rotation, np.ascontiguousarray(shifted @ rotation, dtype=np.float32)

    def _finish(
        self, rays: Float32Array, ranges: AnyArray, face: IntArray, normal: AnyArray, u: AnyArray, v: AnyArray
    ) -> Hits:
        miss = ranges > MISS_M
        ranges[miss] = np.inf
        face[miss] = -1
        length = np.sqrt(np.einsum("ij,ij->i", normal, normal))
        sign = np.where(np.einsum("ij,ij->i", normal, rays) > 0, np.float32(-1.0), np.float32(1.0))
        normal *= (sign / np.maximum(length, np.float32(1e-20)))[:, None]
        corner = self.caster.corner_uv[np.maximum(face, 0)]
        uv = corner[:, 0] + u[:, None] * (corner[:, 1] - corner[:, 0]) + v[:, None] * (corner[:, 2] - corner[:, 0])
        return Hits(ranges, face, normal, uv)

    def blocked(self, origins_m: Float32Array, direction: Float32Array, viewer_m: Float32Array) -> BoolArray:
        """Whether anything lies between points (N, 3) and a far light in one direction (3,).

        Movers further than `SHADOW_REACH_M` from the viewer cast no shadow.
        """
        starts = np.ascontiguousarray(origins_m, dtype=np.float32)
        rays = np.ascontiguousarray(np.broadcast_to(direction, starts.shape), dtype=np.float32)
        hit: BoolArray = self.caster.still.run(starts, rays, query="OCCLUDED") >= 0
        centres = self._centres()
        for mover in np.flatnonzero(np.linalg.norm(centres - viewer_m, axis=1) < SHADOW_REACH_M):
            offset = starts - centres[mover].astype(np.float32)
            along = offset @ direction
            radius = self.caster.radius_m[mover]
            aside = np.einsum("ij,ij->i", offset, offset) - along**2
            chosen = np.flatnonzero((aside < radius**2) & (along < radius) & ~hit)
            if len(chosen):
                rotation, own = self._into(int(mover), starts[chosen])
                turned = np.ascontiguousarray(np.broadcast_to(direction @ rotation, own.shape))
                hit[chosen] = self.caster.tree(int(mover)).run(own, turned, query="OCCLUDED") >= 0
        return hit


def _tree(vertices: Float32Array, faces: Int32Array) -> Any:
    """An embree scene of one mesh."""
    from embreex import rtcore_scene  # noqa: PLC0415 - only the simulator needs it
    from embreex.mesh_construction import TriangleMesh  # noqa: PLC0415

    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))
    return scene
