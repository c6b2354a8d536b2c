# SPDX-License-Identifier: Apache-2.0
"""Shapes of pedestrians and cycles, with and without a rider."""

import numpy as np

from peft_dml_tools.sim.mesh import Material, Mesh, box, column, ellipsoid, merge, prism, wheel
from peft_dml_tools.sim.models import DARK, LAMP, METAL, RUBBER, paint

CLOTHES = (
    (0.08, 0.08, 0.10),
    (0.15, 0.18, 0.30),
    (0.45, 0.44, 0.42),
    (0.75, 0.74, 0.72),
    (0.45, 0.12, 0.10),
    (0.15, 0.30, 0.18),
    (0.55, 0.42, 0.25),
    (0.20, 0.35, 0.55),
)
HIGH_VISIBILITY = Material((0.80, 0.85, 0.10), 0.95)
SKINS = ((0.80, 0.60, 0.48), (0.55, 0.38, 0.28), (0.32, 0.21, 0.15))


def _cloth(rng: np.random.Generator) -> Material:
    return Material(CLOTHES[int(rng.integers(len(CLOTHES)))], float(rng.uniform(0.1, 0.5)))


def _limb(
    start_m: tuple[float, float, float], end_m: tuple[float, float, float], radius_m: float, of: Material
) -> Mesh:
    """Return a round limb between two points."""
    a, b = np.array(start_m), np.array(end_m)
    along = b - a
    length = float(np.linalg.norm(along))
    mesh = column([radius_m, radius_m * 0.85], [0.0, length], of, sides=6)
    z = along / length
    x = np.cross([0.0, 1.0, 0.0], z)
    x = x / np.linalg.norm(x) if np.linalg.norm(x) > 1e-6 else np.array([1.0, 0.0, 0.0])
    rotation = np.stack([x, np.cross(z, x), z], axis=1)
    vertices = (mesh.vertices @ rotation.T + a).astype(np.float32)
    return Mesh(vertices, mesh.faces, mesh.albedo, mesh.reflectance, mesh.surface, mesh.uv)


def person(rng: np.random.Generator, *, moving: bool, worker: bool = False) -> Mesh:
    """Return a standing or striding person 1.75 m tall, facing +x."""
    skin = Material(SKINS[int(rng.integers(len(SKINS)))], 0.4)
    trousers, jacket = _cloth(rng), HIGH_VISIBILITY if worker else _cloth(rng)
    stride = float(rng.uniform(0.15, 0.32)) if moving else float(rng.uniform(0.0, 0.06))
    if rng.random() < 0.5:
        stride = -stride
    parts = [
        _limb((0.0, 0.1, 0.88), (stride, 0.11, 0.04), 0.098, trousers),
        _limb((0.0, -0.1, 0.88), (-stride, -0.11, 0.04), 0.098, trousers),
        column([0.15, 0.17, 0.21, 0.1], [0.82, 1.05, 1.4, 1.5], jacket, 8, 1.25),
        _limb((0.0, 0.26, 1.38), (-0.8 * stride + 0.04, 0.29, 0.82), 0.055, jacket),
        _limb((0.0, -0.26, 1.38), (0.8 * stride + 0.04, -0.29, 0.82), 0.055, jacket),
        ellipsoid((0.1, 0.085, 0.13), (0.02, 0.0, 1.63), skin),
    ]
    if rng.random() < 0.65:
        parts.append(column([0.19, 0.17], [0.45, 0.85], jacket, 8, 1.15))  # a coat or a skirt
    if rng.random() < 0.25:
        parts.append(box((0.16, 0.3, 0.42), _cloth(rng), (-0.2, 0.0, 1.0)))
    return merge(parts)


def seated(rng: np.random.Generator) -> Mesh:
    """Return a person who sits on something low, facing +x."""
    trousers, jacket = _cloth(rng), _cloth(rng)
    skin = Material(SKINS[int(rng.integers(len(SKINS)))], 0.4)
    parts = [box((0.45, 0.5, 0.42), METAL, (-0.1, 0.0, 0.0))]
    for side in (-1, 1):
        parts += [
            _limb((-0.05, side * 0.1, 0.5), (0.38, side * 0.12, 0.5), 0.09, trousers),
            _limb((0.38, side * 0.12, 0.5), (0.4, side * 0.12, 0.02), 0.075, trousers),
            _limb((-0.05, side * 0.25, 0.98), (0.25, side * 0.2, 0.6), 0.055, jacket),
        ]
    parts.append(column([0.16, 0.18, 0.2, 0.1], [0.45, 0.7, 1.0, 1.1], jacket, 8, 1.25).moved((-0.08, 0.0, 0.0)))
    return merge([*parts, ellipsoid((0.1, 0.085, 0.13), (-0.05, 0.0, 1.24), skin)])


def _rider(
    rng: np.random.Generator, hips_m: tuple[float, float], hands_m: tuple[float, float], feet_z_m: float
) -> list[Mesh]:
    """Return the legs, back, arms and helmeted head of someone on a cycle."""
    trousers, jacket, helmet = _cloth(rng), _cloth(rng), paint(rng)
    hip_x, hip_z = hips_m
    shoulder = (hip_x + 0.22, hip_z + 0.52)
    parts = [
        ellipsoid((0.2, 0.21, 0.34), (hip_x + 0.1, 0.0, hip_z + 0.27), jacket),
        ellipsoid((0.13, 0.11, 0.14), (shoulder[0] + 0.07, 0.0, shoulder[1] + 0.2), helmet),
    ]
    for side in (-1, 1):
        knee = (hip_x + 0.38, side * 0.16, hip_z - 0.18 + 0.08 * side)
        parts += [
            _limb((hip_x, side * 0.1, hip_z), knee, 0.085, trousers),
            _limb(knee, (hip_x + 0.28, side * 0.14, feet_z_m + 0.08 * side), 0.07, trousers),
            _limb((shoulder[0], side * 0.2, shoulder[1]), (hands_m[0], side * 0.26, hands_m[1]), 0.05, jacket),
        ]
    return parts


def bicycle(rng: np.random.Generator, *, ridden: bool) -> Mesh:
    """Return two thin wheels, a diamond frame, handlebar; 1.7 m long."""
    frame = paint(rng)
    parts = [wheel(0.33, 0.05, (x, 0, 0.33), RUBBER, 12) for x in (-0.52, 0.52)]
    for start, end in (
        ((-0.52, 0.0, 0.33), (-0.12, 0.0, 0.30)),
        ((-0.12, 0.0, 0.30), (-0.25, 0.0, 0.92)),
        ((-0.22, 0.0, 0.80), (0.36, 0.0, 0.85)),
        ((-0.12, 0.0, 0.30), (0.38, 0.0, 0.75)),
        ((0.52, 0.0, 0.33), (0.36, 0.0, 1.0)),
    ):
        parts.append(_limb(start, end, 0.028, frame))
    parts += [box((0.05, 0.56, 0.05), DARK, (0.36, 0, 1.0)), box((0.26, 0.14, 0.06), DARK, (-0.26, 0, 0.92))]
    if rng.random() < 0.5:
        parts.append(box((0.3, 0.28, 0.25), DARK, (0.55, 0.0, 0.72)))  # a basket
    if ridden:
        parts += _rider(rng, (-0.22, 1.0), (0.36, 1.05), 0.28)
    return merge(parts)


def motorcycle(rng: np.random.Generator, *, ridden: bool) -> Mesh:
    """Return two wide wheels, engine, tank, seat, fork; 2.1 m long."""
    body = paint(rng)
    parts = [wheel(0.31, 0.15, (x, 0, 0.31), RUBBER, 12) for x in (-0.72, 0.72)]
    parts += [
        box((0.5, 0.3, 0.4), METAL, (0.0, 0, 0.25)),
        prism([(-0.1, 0.62), (0.42, 0.68), (0.4, 0.95), (0.05, 0.92)], 0.14, body),
        prism([(-0.95, 0.72), (-0.1, 0.66), (-0.08, 0.82), (-0.95, 0.88)], 0.12, DARK),
        _limb((0.72, 0.0, 0.31), (0.42, 0.0, 1.05), 0.07, METAL),
        box((0.08, 0.72, 0.06), DARK, (0.4, 0, 1.06)),
        box((0.1, 0.26, 0.24), body, (0.56, 0, 0.85)),
        box((0.05, 0.16, 0.1), LAMP, (-0.97, 0, 0.7)),
    ]
    if ridden:
        parts += _rider(rng, (-0.3, 0.86), (0.38, 1.05), 0.32)
    return merge(parts)
