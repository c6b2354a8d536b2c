# SPDX-License-Identifier: Apache-2.0
"""Rays against the world: one tree over what stands still, and a small one for each thing that moves.

Rays are taken into a mover's own frame, so that no tree is ever built twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array, FloatArray, Int32Array, IntArray
from peft_dml_tools.sim.mesh import Mesh, merge, normals_of
from peft_dml_tools.sim.mover_frame import MoverFrame
from peft_dml_tools.sim.world import World

MISS_M: Final = 1e9
FACE_SPREAD: Final = 0.45  #: Standard deviation of the logarithm of reflectance among faces of one material
RETRO_REFLECTANCE: Final = 0.9  #: Materials from here on are retro-reflectors
CLEAR_COATED: Final = frozenset({"car", "truck", "bus", "motorcycle"})
BLOCK: Final = 8  #: Rays that are taken or left together


@dataclass(frozen=True, slots=True)
class Hits:
    """Where rays end; `face` indexes the caster's face tables."""

    range_m: Float32Array  #: (N,) float32 along the unit direction; infinite for a miss
    face: IntArray  #: (N,) int64 index into `Caster.mesh`'s faces, -1 for a miss
    normal: Float32Array  #: (N, 3) float32 unit, turned towards the ray's origin; anything for a miss


class Caster:
    """Casts rays into one world.

    Attributes:
        mesh: All faces, the still ones first; vertices of the moving ones are in their actor's frame.
        owner: (F,) int32 actor index of each face, -1 for the background.
        still: Tree over what stands still.
        movers: (M,) indices of the actors that move.
        first_face: (M,) first face of each mover in `mesh`.
        radius_m: (M,) radius of a sphere around each mover's box.
        bead_m: (M,) radius of each of three spheres in a row that hold it too.
        length_m: (M,) length of each mover.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        actors = world.actors
        still = [i for i, a in enumerate(actors) if not a.moves]
        self.movers: IntArray = np.array([i for i, a in enumerate(actors) if a.moves], dtype=np.int64)
        placed = [actors[i].mesh.moved(world.poses[i, 0, [0, 1, 3]], world.poses[i, 0, 2]) for i in still]
        static = merge([world.background, *placed])
        moving = [actors[i].mesh for i in self.movers]
        self.mesh: Mesh = merge([static, *moving])
        owners = [np.full(len(actors[i].mesh.faces), i, np.int32) for i in [*still, *self.movers]]
        self.owner: Int32Array = np.concatenate([np.full(len(world.background.faces), -1, np.int32), *owners])
        self.first_face = len(static.faces) + np.cumsum([0, *[len(m.faces) for m in moving]])[:-1]
        self.radius_m: FloatArray = np.array([np.linalg.norm(actors[i].size_m) / 2 for i in self.movers])
        sizes = np.array([actors[i].size_m for i in self.movers]).reshape(-1, 3)
        self.length_m: FloatArray = sizes[:, 0]
        self.bead_m: FloatArray = np.linalg.norm(sizes / [3.0, 1.0, 1.0], axis=1) / 2
        self.half_height_m: FloatArray = np.array([actors[i].size_m[2] / 2 for i in self.movers])
        self.still = tree_of(static.vertices, static.faces)
        self._trees: dict[int, Any] = {}

    @cached_property
    def normals(self) -> Float32Array:
        """(F, 3) unit normals; of movers in their own frame."""
        return normals_of(self.mesh).astype(np.float32)

    @cached_property
    def clear_coated(self) -> BoolArray:
        """(F,) whether a face is of a car or motorcycle, whose paint mirrors part of what falls on it."""
        coated = np.array([*(CLASSES[a.label] in CLEAR_COATED for a in self.world.actors), False], dtype=np.bool_)
        faces: BoolArray = coated[self.owner]
        return faces

    @cached_property
    def laser_reflectance(self) -> Float32Array:
        """(F,) float32 share of a laser pulse that comes back: the material's, more or less from face to face.

        Retro-reflectors keep theirs.
        """
        spread = np.random.default_rng([self.world.seed, 11]).normal(0, FACE_SPREAD, len(self.mesh.faces))
        plain = self.mesh.reflectance < RETRO_REFLECTANCE
        varied = np.minimum(self.mesh.reflectance * np.exp(spread), RETRO_REFLECTANCE - 0.01)
        return np.where(plain, varied, self.mesh.reflectance).astype(np.float32)

    @cached_property
    def light_albedo(self) -> Float32Array:
        """(F, 3) albedo in linear light."""
        return self.mesh.albedo ** np.float32(1.6)

    def tree(self, mover: int) -> Any:
        """Return the tree of one mover, in its own frame; made when first needed."""
        if mover not in self._trees:
            mesh = self.world.actors[self.movers[mover]].mesh
            self._trees[mover] = tree_of(mesh.vertices, mesh.faces)
        return self._trees[mover]

    def at(self, time_s: float, span_s: float = 0.0) -> "InstantCaster":
        """Return the world at one instant; with a span, also how things moved during the time that ends then."""
        poses, _ = self.world.states(time_s)
        rates = np.zeros((len(self.movers), 4))
        if span_s > 0:
            begin = max(time_s - span_s, 0.0)
            change = self.world.states(begin + span_s)[0] - self.world.states(begin)[0]
            rates = change[self.movers] / span_s
        return InstantCaster(self, poses[self.movers], rates)


@dataclass(frozen=True, slots=True)
class InstantCaster:
    """Casts rays at one instant; made by `Caster.at`."""

    caster: Caster  #: The world
    poses: FloatArray  #: (M, 4) x, y, yaw of the movers, and z of their bottoms
    rates: FloatArray  #: (M, 4) their change per second

    def _centres(self, offset_s: float = 0.0) -> FloatArray:
        poses = self.poses + self.rates * offset_s
        return np.column_stack([poses[:, :2], poses[:, 3] + self.caster.half_height_m])

    def _beads(self, movers: IntArray, offset_s: float) -> FloatArray:
        """Return the centres (3, K, 3) of three spheres, of radius `Caster.bead_m`, that hold each mover's box."""
        yaw = (self.poses + self.rates * offset_s)[movers, 2]
        ahead = np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], axis=1) * (self.caster.length_m[movers] / 3)[:, None]
        beads: FloatArray = self._centres(offset_s)[movers] + np.array([-1.0, 0.0, 1.0])[:, None, None] * ahead
        return beads

    def cast(self, origin_m: AnyArray, directions: AnyArray, max_range_m: float = 150.0) -> Hits:
        """Return the first hits of rays from one point.

        Args:
            origin_m: (3,) world frame.
            directions: (N, 3) unit vectors, world frame; fastest where neighbours in the array are neighbours in space.
            max_range_m: Movers beyond this are left out.
        """
        origin = np.asarray(origin_m, dtype=np.float32)
        return self._cast(np.broadcast_to(origin, (len(directions), 3)), directions, None, max_range_m)

    def cast_rolling(
        self, origins_m: AnyArray, directions: AnyArray, offset_s: AnyArray, max_range_m: float = 150.0
    ) -> Hits:
        """Return the first hits of rays that start one after the other, from a moving point, at moving things.

        Args:
            origins_m: (N, 3) world frame.
            directions: As for `cast`.
            offset_s: (N,) time of each ray relative to this instant, ascending.
            max_range_m: Movers beyond this are left out.
        """
        return self._cast(origins_m, directions, np.asarray(offset_s, dtype=np.float32), max_range_m)

    def _cast(
        self, origins_m: AnyArray, directions: AnyArray, offset_s: Float32Array | None, max_range_m: float
    ) -> Hits:
        origins = np.ascontiguousarray(origins_m, dtype=np.float32)
        rays = np.ascontiguousarray(directions, dtype=np.float32)
        out = self.caster.still.run(origins, rays, output=True)
        ranges, face = out["tfar"], out["primID"].astype(np.int64)
        normal = self.caster.normals[face]
        for mover, chosen in self._candidates(origins, rays, offset_s, max_range_m):
            frame = self._frame(mover, None if offset_s is None else offset_s[chosen])
            found = self.caster.tree(mover).run(frame.points(origins[chosen]), frame.vectors(rays[chosen]), output=True)
            hit = np.flatnonzero(found["tfar"] < ranges[chosen])
            if len(hit):
                at = chosen[hit]
                ranges[at] = found["tfar"][hit]
                face[at] = self.caster.first_face[mover] + found["primID"][hit]
                normal[at] = frame.some(hit).back(self.caster.normals[face[at]])
        miss = ranges > MISS_M
        ranges[miss] = np.inf
        face[miss] = -1
        normal[np.einsum("ij,ij->i", normal, rays) > 0] *= -1
        return Hits(ranges, face, normal)

    def _candidates(
        self, origins: Float32Array, rays: Float32Array, offset_s: Float32Array | None, max_range_m: float
    ) -> Iterator[tuple[int, IntArray]]:
        """Return the movers in reach, and the rays that may meet each: those whose block comes near it."""
        origin, middle_s, sway_m = self._middle(origins, offset_s)
        far = np.linalg.norm(self._centres(middle_s) - origin, axis=1) - self.caster.radius_m - sway_m
        near = np.flatnonzero(far < max_range_m)
        whole = len(rays) // BLOCK * BLOCK
        blocks = rays[:whole].reshape(-1, BLOCK, 3)
        middle = blocks[:, BLOCK // 2]
        spread = float(np.arccos(np.clip(np.einsum("nbk,nk->nb", blocks, middle).min(initial=1.0), -1, 1)))
        inside = np.zeros((len(near), len(blocks)), np.bool_)
        for offset in self._beads(near, middle_s) - origin:
            distance = np.maximum(np.linalg.norm(offset, axis=1), 1e-6)
            sine = (self.caster.bead_m + sway_m)[near] / distance
            reach = np.where(sine < 1, np.arcsin(np.minimum(sine, 1.0)) + spread + 1e-3, np.pi)
            bound = np.cos(np.minimum(reach, np.pi)).astype(np.float32)
            inside |= (offset / distance[:, None]).astype(np.float32) @ middle.T >= bound[:, None]
        rest = np.arange(whole, len(rays))
        for k, mover in enumerate(near):
            chosen = (np.flatnonzero(inside[k])[:, None] * BLOCK + np.arange(BLOCK)).ravel()
            chosen = np.concatenate([chosen, rest])
            if len(chosen):
                yield int(mover), chosen

    def _middle(
        self, origins: Float32Array, offset_s: Float32Array | None
    ) -> tuple[FloatArray, float, FloatArray | float]:
        """Return where rays start in the middle of their time, that time, and how far (M,) movers get from there."""
        if offset_s is None or not len(offset_s):
            return origins[:1].sum(axis=0), 0.0, 0.0
        first, last = origins[0].astype(np.float64), origins[-1].astype(np.float64)
        half_s = float(offset_s[-1] - offset_s[0]) / 2
        own_mps = (last - first) / max(2 * half_s, 1e-9)
        relative = self.rates[:, [0, 1, 3]] - own_mps
        turning_m = np.abs(self.rates[:, 2]) * self.caster.radius_m
        sway_m: FloatArray = (np.linalg.norm(relative, axis=1) + turning_m) * half_s + 0.02
        return (first + last) / 2, float(offset_s[0]) + half_s, sway_m

    def _frame(self, mover: int, offset_s: Float32Array | None = None) -> MoverFrame:
        """Return a mover's own frame, now or at the time of each ray."""
        if offset_s is None:
            x, y, yaw, z = self.poses[mover]
            position = np.array([[x, y, z]], np.float32)
            return MoverFrame(position, np.array([np.cos(yaw)], np.float32), np.array([np.sin(yaw)], np.float32))
        x, y, yaw, z = self.poses[mover, :, None] + self.rates[mover, :, None] * offset_s
        position = np.stack([x, y, z], axis=1).astype(np.float32)
        return MoverFrame(position, np.cos(yaw).astype(np.float32), np.sin(yaw).astype(np.float32))


def tree_of(vertices: Float32Array, faces: Int32Array) -> Any:
    """Return an embree scene of one mesh."""
    from embreex import rtcore_scene  # noqa: PLC0415 - only the simulator needs it
    from embreex.mesh_construction import TriangleMesh  # noqa: PLC0415

    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))
    return scene
