# SPDX-License-Identifier: Apache-2.0
"""Triangles into pixels: a scan-line rasteriser with a depth buffer, for pictures and for shadows.

The buffer holds what is linear on the screen and grows towards the viewer: 1 / z of a perspective view, or the height
towards the light of a parallel one. Pixel (row, column) is covered where its centre, at + 0.5, lies inside.
"""

from typing import Final

import numba
import numpy as np

from peft_dml_ros.core.typing import Float32Array, FloatArray, Int32Array

NEAR_M: Final = 0.1
#: Parallel depth where there is no face; a perspective buffer starts at 0, which is infinitely far
NOTHING: Final = np.float32(-1e9)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _span(across: float, other: float, width: int) -> tuple[int, int]:
    """Return the first and one past the last column whose centre lies between two edges."""
    left, right = (across, other) if across < other else (other, across)
    first = int(np.ceil(max(left, 0.0) - 0.5))
    last = int(np.ceil(min(right, float(width)) - 0.5))
    return max(first, 0), min(last, width)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill(a, b, c, number, depth, face):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Draw a triangle of corners (u, v, w) where its w is greater; with an empty `face` into the depth alone."""
    # Down the screen; both triangles of an edge then compute the same crossing, so that no pixel is lost between.
    if b[1] < a[1]:
        a, b = b, a
    if c[1] < b[1]:
        b, c = c, b
    if b[1] < a[1]:
        a, b = b, a
    height, width = depth.shape
    top = int(np.ceil(max(a[1], 0.0) - 0.5))
    bottom = int(np.ceil(min(c[1], float(height)) - 0.5))
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    if top >= bottom or area == 0.0:
        return
    per_u = ((b[2] - a[2]) * (c[1] - a[1]) - (c[2] - a[2]) * (b[1] - a[1])) / area
    per_v = ((c[2] - a[2]) * (b[0] - a[0]) - (b[2] - a[2]) * (c[0] - a[0])) / area
    # Slivers have wild gradients.
    low, high = min(a[2], b[2], c[2]), max(a[2], b[2], c[2])
    numbered = face.shape[0] > 0
    for row in range(max(top, 0), bottom):
        y = row + 0.5
        across = a[0] + (y - a[1]) * (c[0] - a[0]) / (c[1] - a[1])
        if y < b[1]:
            other = a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
        else:
            other = b[0] + (y - b[1]) * (c[0] - b[0]) / (c[1] - b[1])
        first, last = _span(across, other, width)
        at = a[2] + per_v * (y - a[1]) + per_u * (0.5 - a[0])
        for column in range(first, last):
            w = np.float32(min(max(at + per_u * column, low), high))
            if w > depth[row, column]:
                depth[row, column] = w
                if numbered:
                    face[row, column] = number


@numba.njit(cache=True, nogil=True, error_model="numpy")
def project(vertices: Float32Array, matrix: FloatArray, out: Float32Array) -> None:
    """Return homogeneous pixels (V, 3) float32 of points (V, 3), by a (3, 4) matrix that is camera times pose."""
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for k in range(3):
            out[i, k] = matrix[k, 0] * x + matrix[k, 1] * y + matrix[k, 2] * z + matrix[k, 3]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _outside(p, q, r, width, height):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return whether a face of three homogeneous pixels lies wholly beyond one side of the view."""
    if p[2] < NEAR_M and q[2] < NEAR_M and r[2] < NEAR_M:
        return True
    if (p[0] < 0 and q[0] < 0 and r[0] < 0) or (p[1] < 0 and q[1] < 0 and r[1] < 0):
        return True
    if p[0] > width * p[2] and q[0] > width * q[2] and r[0] > width * r[2]:
        return True
    return p[1] > height * p[2] and q[1] > height * q[2] and r[1] > height * r[2]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _screen(p):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return (u, v, 1 / z) of a homogeneous pixel."""
    w = 1.0 / p[2]
    return p[0] * w, p[1] * w, w


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cut(p, q):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return where an edge meets the near plane."""
    t = (NEAR_M - p[2]) / (q[2] - p[2])
    return _screen((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]), NEAR_M))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill_cut(p, q, r, number, depth, face):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return a face that the near plane cuts."""
    # Turn it until the first corner is in front and the last behind.
    while not (p[2] >= NEAR_M and r[2] < NEAR_M):
        p, q, r = q, r, p
    a, d = _screen(p), _cut(p, r)
    if q[2] < NEAR_M:
        _fill(a, _cut(p, q), d, number, depth, face)
        return
    b, c = _screen(q), _cut(q, r)
    _fill(a, b, c, number, depth, face)
    _fill(a, c, d, number, depth, face)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _corner(pixels, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return float(pixels[index, 0]), float(pixels[index, 1]), float(pixels[index, 2])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw(pixels: Float32Array, faces: Int32Array, depth: Float32Array, face: Int32Array) -> None:
    """Draw faces in perspective.

    Args:
        pixels: (V, 3) float32 homogeneous pixels: u z, v z, z with z in m.
        faces: (F, 3) int32 vertex indices.
        depth: (H, W) float32 1 / z in 1/m, changed in place; begin with 0.
        face: (H, W) int32 nearest face, changed in place; begin with -1.
    """
    height, width = depth.shape
    for i in range(faces.shape[0]):
        p = _corner(pixels, faces[i, 0])
        q = _corner(pixels, faces[i, 1])
        r = _corner(pixels, faces[i, 2])
        if _outside(p, q, r, width, height):
            continue
        if min(p[2], q[2], r[2]) < NEAR_M:
            _fill_cut(p, q, r, i, depth, face)
        else:
            _fill(_screen(p), _screen(q), _screen(r), i, depth, face)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw_parallel(pixels: Float32Array, faces: Int32Array, first: int, last: int, depth: Float32Array) -> None:
    """Draw the faces `first` to `last` (exclusive) as a far light sees them.

    Args:
        pixels: (V, 3) float32: u, v in pixels, height towards the light in m.
        faces: (F, 3) int32 vertex indices.
        first: First face.
        last: One past the last.
        depth: (H, W) float32 height of what is nearest to the light, changed in place; begin with `NOTHING`.
    """
    nothing = np.empty((0, 0), np.int32)
    for i in range(first, last):
        a = _corner(pixels, faces[i, 0])
        b = _corner(pixels, faces[i, 1])
        c = _corner(pixels, faces[i, 2])
        _fill(a, b, c, i, depth, nothing)
