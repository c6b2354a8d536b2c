# SPDX-License-Identifier: Apache-2.0
"""Images to network size, and the voxel → pixel look-up table made from calibration."""

import cv2
import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import PNG, decode_sound, picture_header
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import CameraModel, Rig
from peft_dml_ros.core.spec import CameraSpec, GridSpec, ModelSpec
from peft_dml_ros.core.typing import AnyArray, FloatArray, Int32Array, UInt8Array

MAX_PIXELS = 64_000_000  #: Images beyond this are refused before they are decoded
#: Images and calibration may differ in scale, but not in shape: rounding at an eighth of the size is within this
SHAPE_TOLERANCE = 0.02


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


def load_image(image: CameraImage, spec: CameraSpec, camera: CameraModel | None = None) -> UInt8Array:
    """Decode an image, scale it to width, crop it from the top (or pad below) to the network's size.

    JPEGs much larger than needed are decoded at half, a quarter or an eighth of their size. An image of a camera with
    a lens is undistorted to its pinhole in the same step. Raises DataError: the bytes are no image.

    Args:
        image: Compressed or raw image.
        spec: Network size.
        camera: Its camera; None takes the image for rectified.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    pixels = decoded(image, spec.width_px)
    if camera is not None and camera.lens is not None:
        pinhole, size = network_intrinsics(camera, spec), (spec.width_px, spec.height_px)
        return camera.lens.undistort(pixels, (camera.width_px, camera.height_px), pinhole, size)
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


def decoded(image: CameraImage, width_px: int, camera: CameraModel | None = None) -> UInt8Array:
    """Return (H, W, 3) uint8 RGB of an image, shrunk by a whole factor where it is still `width_px` wide.

    Raises DataError: the bytes are no image.

    Args:
        image: Compressed or raw.
        width_px: Least width.
        camera: Its camera, to undistort the image where it has a lens; None leaves it as it is.
    """
    if image.pixels is None:
        pixels = decode(image.jpeg or b"", width_px, image.mosaic)
    elif (factor := image.pixels.shape[1] // width_px) > 1:
        size = (image.pixels.shape[1] // factor, image.pixels.shape[0] // factor)
        pixels = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    else:
        pixels = image.pixels
    if camera is None or camera.lens is None:
        return pixels
    height, width = pixels.shape[:2]
    pinhole = camera.intrinsics.copy()
    pinhole[:2] *= width / camera.width_px
    return camera.lens.undistort(pixels, (camera.width_px, camera.height_px), pinhole, (width, height))


def decode(data: bytes, width_px: int, mosaic: str = "") -> UInt8Array:
    """Return (H, W, 3) uint8 RGB of a JPEG or PNG, at 1/8, 1/4 or 1/2 of its size where that is still `width_px` wide.

    An orientation in the file (EXIF) is ignored: the calibration belongs to the pixels as the sensor sent them. Raises
    DataError: the bytes are no image, damaged, or of one larger than `MAX_PIXELS`.

    Args:
        data: The file.
        width_px: Least width.
        mosaic: Colours of the upper left 2 x 2 pixels of a Bayer mosaic, which is decoded whole; empty for a picture.
    """
    width, height, _ = picture_header(data)
    if width * height > MAX_PIXELS:
        raise DataError(f"image of {width} x {height} pixels is larger than {MAX_PIXELS}; fix: let its driver scale it")
    reduced = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    factor = 1 if mosaic else max((f for f in reduced if width // f >= width_px), default=1)
    sound = decode_sound(data, (-(-width // factor), -(-height // factor)), "GRAY" if mosaic else "RGB")
    if sound is None:
        sound = decode_any(data, cv2.IMREAD_GRAYSCALE if mosaic else reduced.get(factor, cv2.IMREAD_COLOR))
    if mosaic:
        code = getattr(cv2, f"COLOR_Bayer{mosaic.upper()}2RGB")
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(sound[..., 0]), code), dtype=np.uint8)
    return sound


def decode_any(data: bytes, flags: int) -> UInt8Array:
    """Return the pixels (H, W, 3 or 1) of what simplejpeg does not take; of 16 bits, the upper eight used.

    Raises DataError: OpenCV cannot decode it.
    """
    if data.startswith(PNG) and data[24:25] == b"\x10":
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DataError(f"cannot decode {len(data)} bytes as an image: {error}; fix: send JPEG or PNG") from error
    if pixels is None:
        raise DataError(f"cannot decode {len(data)} bytes as an image; fix: send JPEG or PNG")
    if pixels.dtype == np.uint16:
        pixels = eight_bits(pixels)
    if pixels.ndim == 2:
        return np.asarray(pixels[..., None], dtype=np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def thumbnail(image: CameraImage) -> UInt8Array | None:
    """Return the picture in grey at an eighth of its size; None for what is no picture.

    Raises DataError: it is damaged inside, or cannot be decoded at all.
    """
    if image.pixels is not None:
        small: UInt8Array = image.pixels[::8, ::8].mean(axis=2).astype(np.uint8)
        return small
    data = image.jpeg or b""
    try:
        width, height, _ = picture_header(data)
    except DataError:
        return None
    if width * height > MAX_PIXELS:
        return None
    sound = decode_sound(data, (-(-width // 8), -(-height // 8)), "GRAY")
    if sound is not None:
        return sound[:, :, 0]
    return decode_any(data, cv2.IMREAD_REDUCED_GRAYSCALE_8)[:, :, 0]


def eight_bits(values: AnyArray) -> UInt8Array:
    """Return the upper eight of the bits that are used: cameras of 10, 12 and 14 bits fill 16 from below."""
    most = int(values.max(initial=0))
    used = next(bits for bits in (8, 10, 12, 14, 16) if most < 1 << bits)
    return np.asarray(values >> (used - 8), dtype=np.uint8)


def shape_mismatch(image: CameraImage, camera: CameraModel | None) -> str:
    """Return in words that an image is not of its calibration's shape; empty when it is, at any scale.

    Raises DataError: it has no pixels, or is neither JPEG nor PNG.
    """
    if camera is None:
        return ""
    width, height = image_size(image)
    if not width * height:
        raise DataError(f"an image of {width} x {height} pixels; fix: check its driver")
    if abs(width * camera.height_px / (height * camera.width_px) - 1) <= SHAPE_TOLERANCE:
        return ""
    return f"its images are {width} x {height}, its calibration is for {camera.width_px} x {camera.height_px}"


def image_size(image: CameraImage) -> tuple[int, int]:
    """Return width and height of an image, not decoded. Raises DataError: neither JPEG nor PNG, or cut short."""
    if image.pixels is not None:
        return int(image.pixels.shape[1]), int(image.pixels.shape[0])
    return picture_header(image.jpeg or b"")[:2]


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
