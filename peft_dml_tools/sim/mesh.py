# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes with a material per face, and the few primitives that every simulated thing is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from peft_dml_ros.core.typing import AnyArray, Float32Array, FloatArray, Int32Array, UInt8Array


class Surface(IntEnum):
    """What a face is, for those sensors that draw a texture or reflect differently by it."""

    PLAIN = 0
    ROAD = 1
    PAVEMENT = 2
    GRASS = 3
    FACADE = 4
    FOLIAGE = 5
    GLASS = 6
    CROSSING = 7


@dataclass(frozen=True, slots=True)
class Material:
    """How a face looks."""

    albedo: tuple[float, float, float]  #: Red, green, blue in [0, 1]
    reflectance: float = 0.3  #: Share of a 905 nm laser pulse that comes back at normal incidence, [0, 1]
    surface: Surface = Surface.PLAIN  #: Texture family


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles; all arrays of a face share its index."""

    vertices: Float32Array  #: (V, 3) float32, metres
    faces: Int32Array  #: (F, 3) int32 vertex indices, counter-clockwise from outside
    albedo: Float32Array  #: (F, 3) float32 in [0, 1]
    reflectance: Float32Array  #: (F,) float32 in [0, 1]
    surface: UInt8Array  #: (F,) uint8, a `Surface`
    uv: Float32Array  #: (V, 2) float32 texture coordinates in metres; road station and offset on the ground, else 0

    @classmethod
    def make(cls, vertices: npt.ArrayLike, faces: AnyArray, material: Material, uv: AnyArray | None = None) -> "Mesh":
        """Return a mesh of one material."""
        points = np.asarray(vertices, dtype=np.float32).reshape(-1, 3)
        n = len(faces)
        return cls(
            points,
            np.asarray(faces, dtype=np.int32).reshape(n, 3),
            np.tile(np.asarray(material.albedo, dtype=np.float32), (n, 1)),
            np.full(n, material.reflectance, dtype=np.float32),
            np.full(n, int(material.surface), dtype=np.uint8),
            np.zeros((len(points), 2), np.float32) if uv is None else np.asarray(uv, dtype=np.float32),
        )

    def moved(self, translation_m: npt.ArrayLike, yaw_rad: float = 0.0) -> "Mesh":
        """Return the mesh turned about +z, then shifted."""
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        vertices = (self.vertices @ rotation.T + np.asarray(translation_m)).astype(np.float32)
        return Mesh(vertices, self.faces, self.albedo, self.reflectance, self.surface, self.uv)

    def fitted(self, size_m: npt.ArrayLike, margin_m: float = 0.03) -> "Mesh":
        """Return the mesh scaled to fill a box on the origin, less a margin at every side but the bottom.

        Annotated boxes hold their object with a little air, so that noisy returns from its surface still lie inside.
        """
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        room = np.maximum(np.asarray(size_m) - [2 * margin_m, 2 * margin_m, margin_m], 0.02)
        scale = room / np.maximum(high - low, 1e-6)
        centre = (low + high) / 2
        centre[2] = low[2]
        vertices = ((self.vertices - centre) * scale).astype(np.float32)
        return Mesh(vertices, self.faces, self.albedo, self.reflectance, self.surface, self.uv)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh of several; an empty sequence gives an empty mesh."""
    if not meshes:
        return Mesh.make(np.zeros((0, 3)), np.zeros((0, 3), np.int32), Material((0.0, 0.0, 0.0)))
    starts = np.cumsum([0, *[len(m.vertices) for m in meshes[:-1]]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + np.int32(s) for m, s in zip(meshes, starts, strict=True)]),
        np.concatenate([m.albedo for m in meshes]),
        np.concatenate([m.reflectance for m in meshes]),
        np.concatenate([m.surface for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
    )


def prism(profile_xz: npt.ArrayLike, half_widths: npt.ArrayLike, material: Material) -> Mesh:
    """Return a convex side profile drawn out to both sides.

    Args:
        profile_xz: (P, 2) corners, counter-clockwise seen from the right-hand side (x right, z up).
        half_widths: Half width at each corner, or one for all; a smaller value at the roof slants the sides.
        material: Of every face.
    """
    corners = np.asarray(profile_xz, dtype=np.float64)
    p = len(corners)
    half = np.broadcast_to(np.asarray(half_widths, dtype=np.float64), (p,))
    right = np.stack([corners[:, 0], -half, corners[:, 1]], axis=1)
    left = np.stack([corners[:, 0], half, corners[:, 1]], axis=1)
    i = np.arange(p)
    j = (i + 1) % p
    fan = np.stack([np.zeros(p - 2, np.int64), np.arange(1, p - 1), np.arange(2, p)], axis=1)
    rim = np.concatenate([np.stack([i, p + i, j], axis=1), np.stack([j, p + i, p + j], axis=1)])
    return Mesh.make(np.concatenate([right, left]), np.concatenate([fan, fan[:, ::-1] + p, rim]), material)


def box(size_m: npt.ArrayLike, material: Material, base_m: npt.ArrayLike = (0.0, 0.0, 0.0)) -> Mesh:
    """Return a cuboid (length, width, height) whose bottom centre is `base_m`."""
    length, width, height = np.asarray(size_m, dtype=np.float64)
    profile = [(-length / 2, 0.0), (length / 2, 0.0), (length / 2, height), (-length / 2, height)]
    return prism(profile, width / 2, material).moved(base_m)


def wheel(radius_m: float, width_m: float, centre_m: npt.ArrayLike, material: Material, sides: int = 10) -> Mesh:
    """Return a disc whose axle lies along y."""
    angle = np.arange(sides) * 2 * np.pi / sides
    return prism(radius_m * np.stack([np.cos(angle), np.sin(angle)], axis=1), width_m / 2, material).moved(centre_m)


def column(
    radii_m: Sequence[float], heights_m: Sequence[float], material: Material, sides: int = 8, lean: float = 1.0
) -> Mesh:
    """Return a body of revolution about +z through rings of the given radii and heights; `lean` scales its y radius.

    Poles, cones, heads, trunks and crowns are all of this kind. Both ends are closed.
    """
    angle = (np.arange(sides) + 0.5) * 2 * np.pi / sides
    circle = np.stack([np.cos(angle), np.sin(angle) * lean], axis=1)
    rings = [
        np.concatenate([circle * r, np.full((sides, 1), z)], axis=1) for r, z in zip(radii_m, heights_m, strict=True)
    ]
    ends = np.array([[0.0, 0.0, heights_m[0]], [0.0, 0.0, heights_m[-1]]])
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = []
    for ring in range(len(rings) - 1):
        a, b = ring * sides, (ring + 1) * sides
        faces += [np.stack([a + i, a + j, b + i], axis=1), np.stack([a + j, b + j, b + i], axis=1)]
    bottom, top, last = len(rings) * sides, len(rings) * sides + 1, (len(rings) - 1) * sides
    faces += [np.stack([j, i, np.full(sides, bottom)], axis=1)]
    faces += [np.stack([last + i, last + j, np.full(sides, top)], axis=1)]
    return Mesh.make(np.concatenate([*rings, ends]), np.concatenate(faces), material)


def ellipsoid(radii_m: tuple[float, float, float], centre_m: npt.ArrayLike, material: Material, sides: int = 8) -> Mesh:
    """Return an ellipsoid of few faces."""
    polar = np.linspace(-np.pi / 2, np.pi / 2, 6)[1:-1]
    radii = [float(radii_m[0] * np.cos(a)) for a in polar]
    heights = [float(radii_m[2] * np.sin(a)) for a in polar]
    return column(radii, heights, material, sides, radii_m[1] / radii_m[0]).moved(centre_m)


def normals_of(mesh: Mesh) -> FloatArray:
    """Return the outward unit normals (F, 3) float64."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    normal = np.cross(b - a, c - a)
    unit: FloatArray = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return unit
