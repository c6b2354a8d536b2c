# SPDX-License-Identifier: Apache-2.0
"""Images to network size, and the voxel → pixel look-up table made from calibration."""

import cv2
import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import decode_sound
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import CameraModel, Rig
from peft_dml_ros.core.spec import CameraSpec, GridSpec, ModelSpec
from peft_dml_ros.core.typing import FloatArray, Int32Array, UInt8Array

MAX_PIXELS = 64_000_000
"""Images beyond this are refused before they are decoded."""


def network_intrinsics(camera: CameraModel, spec: CameraSpec) -> FloatArray:
    """Return (3, 3) intrinsics after the image is scaled to the network's width and cropped from the top.

    Pixel centres sit at integer coordinates, hence the half-pixel terms.
    """
    scale = spec.width_px / camera.width_px
    scaled_height = round(camera.height_px * scale)
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= scale
    intrinsics[:2, 2] += 0.5 * scale - 0.5
    intrinsics[1, 2] -= max(scaled_height - spec.height_px, 0)
    return intrinsics


def load_image(image: CameraImage, spec: CameraSpec) -> UInt8Array:
    """Decode an image, scale it to width, crop it from the top (or pad below) to the network's size.

    JPEGs much larger than needed are decoded at half, a quarter or an eighth of their size.

    Args:
        image: Compressed or raw image.
        spec: Network size.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        DataError: the bytes are no image.
    """
    pixels = image.pixels if image.pixels is not None else decode(image.jpeg or b"", spec.width_px)
    height, width = pixels.shape[:2]
    scaled_height = round(height * spec.width_px / width)
    if (scaled_height, spec.width_px) != (height, width):
        interpolation = cv2.INTER_AREA if width > spec.width_px else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, (spec.width_px, scaled_height), interpolation=interpolation).astype(np.uint8)
    cropped: UInt8Array = pixels[max(scaled_height - spec.height_px, 0) :]
    if len(cropped) < spec.height_px:
        padded = np.zeros((spec.height_px, spec.width_px, 3), dtype=np.uint8)
        padded[: len(cropped)] = cropped
        return padded
    return cropped


def decode(data: bytes, width_px: int) -> UInt8Array:
    """Return (H, W, 3) uint8 RGB of a JPEG or PNG, at 1/8, 1/4 or 1/2 of its size where that is still `width_px` wide.

    Raises:
        DataError: the bytes are no image, damaged, or of one larger than `MAX_PIXELS`.
    """
    width, height = jpeg_size(data)
    if width * height > MAX_PIXELS:
        msg = f"image of {width} x {height} pixels is larger than {MAX_PIXELS} pixels"
        raise DataError(msg)
    reduced = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    factor = max((f for f in reduced if width // f >= width_px), default=1)
    sound = decode_sound(data, (-(-width // factor), -(-height // factor)))
    if sound is not None:
        return sound
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), reduced.get(factor, cv2.IMREAD_COLOR))
    except cv2.error as error:
        msg = f"cannot decode {len(data)} bytes as an image: {error}"
        raise DataError(msg) from error
    if pixels is None:
        msg = f"cannot decode {len(data)} bytes as an image; is it a JPEG or PNG?"
        raise DataError(msg)
    rgb: UInt8Array = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG (from its start-of-frame segment) or a PNG without decoding it.

    Raises:
        DataError: neither format, or cut before the size, or a JPEG without its end marker.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] != b"\xff\xd8":
        msg = f"{len(data)} bytes are neither JPEG nor PNG (first bytes {data[:4].hex()})"
        raise DataError(msg)
    # Cameras that send through a buffer of fixed size pad it with zeros.
    if b"\xff\xd9" not in data.rstrip(b"\0")[-64:]:
        msg = f"JPEG of {len(data)} bytes is cut short: no end marker"
        raise DataError(msg)
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + length
    msg = f"JPEG of {len(data)} bytes holds no start-of-frame segment"
    raise DataError(msg)


def image_size(image: CameraImage) -> tuple[int, int]:
    """Return the width and height of an image, without decoding it.

    Raises:
        DataError: compressed bytes that are neither JPEG nor PNG, or cut short.
    """
    if image.pixels is not None:
        return int(image.pixels.shape[1]), int(image.pixels.shape[0])
    return jpeg_size(image.jpeg or b"")


def voxel_centres(grid: GridSpec, heights_m: tuple[float, ...]) -> FloatArray:
    """Return (Z·size·size, 3) voxel centres in base_link, layer by layer, each in the grid's flat order."""
    ticks = (np.arange(grid.size) + 0.5) * grid.cell_m - grid.half_range_m
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    layers = [np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3) for z in heights_m]
    return np.concatenate(layers)


def voxel_lookup(spec: ModelSpec, rig: Rig) -> tuple[Int32Array, Int32Array]:
    """Return which image pixel and depth bin see each voxel.

    Args:
        spec: Grid, feature stride, depth bins.
        rig: Calibrated cameras; those that `spec.camera.cameras` names but the rig lacks see nothing.

    Returns:
        voxel_pixel (V,) int32: index into the flattened [camera, row, column] feature pixels, or their number where no
        camera sees the voxel; voxel_depth (V,) int32: index into the flattened [pixel, depth bin] distribution, same
        convention. Where two cameras see a voxel, the one nearer to its optical axis counts.
    """
    camera = spec.camera
    rows, columns = camera.feature_hw
    pixels, edges = rows * columns, camera.depth_edges_m
    points = voxel_centres(spec.grid, camera.voxel_heights_m)
    nothing = len(camera.cameras) * pixels
    voxel_pixel = np.full(len(points), nothing, dtype=np.int32)
    voxel_depth = np.full(len(points), nothing * camera.depth_bins, dtype=np.int32)
    best = np.full(len(points), np.inf)
    for slot, name in enumerate(camera.cameras):
        sensor = rig.sensors.get(name)
        if sensor is None or sensor.camera is None:
            continue
        optical = sensor.base_SE3_sensor.inverse().transform(points)
        depth = optical[:, 2]
        ahead = (depth > edges[0]) & (depth < edges[-1])
        safe = np.where(ahead, depth, 1.0)
        k = network_intrinsics(sensor.camera, camera)
        # Feature cell (r, c) covers pixels [stride·c - 0.5, stride·(c + 1) - 0.5).
        u = (k[0, 0] * optical[:, 0] / safe + k[0, 2] + 0.5) / camera.stride
        v = (k[1, 1] * optical[:, 1] / safe + k[1, 2] + 0.5) / camera.stride
        off_axis = np.abs(u - columns / 2)
        seen = ahead & (u >= 0) & (u < columns) & (v >= 0) & (v < rows) & (off_axis < best)
        pixel = slot * pixels + np.floor(v[seen]).astype(np.int32) * columns + np.floor(u[seen]).astype(np.int32)
        bins = np.searchsorted(edges, depth[seen], side="right") - 1
        voxel_pixel[seen] = pixel
        voxel_depth[seen] = pixel * camera.depth_bins + bins
        best[seen] = off_axis[seen]
    return voxel_pixel, voxel_depth
