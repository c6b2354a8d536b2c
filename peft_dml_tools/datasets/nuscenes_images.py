# SPDX-License-Identifier: Apache-2.0
"""Read the image files of nuScenes, and refuse those that are cut off or damaged."""

from pathlib import Path
from typing import Final

import numpy as np

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.jpeg import JPEG, jpeg_damage
from peft_dml_ros.core.typing import Float32Array

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_ENDS: Final = {JPEG: b"\xff\xd9", _PNG: b"IEND"}
_TAIL: Final = 4096  #: Cameras may write this much after the end of the image


def read_image(path: Path) -> bytes:
    """Read a whole and sound JPEG or PNG file. Raises DataError: it cannot be read, is cut off, damaged or no image."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; fix: copy it again") from error
    start = next((start for start in _ENDS if data.startswith(start)), None)
    if start is None:
        msg = f"{path} ({len(data)} bytes) is neither JPEG nor PNG: it begins with {data[:8].hex(' ') or 'nothing'}"
        raise DataError(f"{msg}; fix: copy it again")
    if data.rfind(_ENDS[start], max(0, len(data) - _TAIL)) < 0:
        msg = f"{path} is cut off: it stops at byte {len(data)} without the mark that ends an image; fix: copy it again"
        raise DataError(msg)
    if damage := jpeg_damage(data):
        raise DataError(f"{path} is damaged inside ({damage}); fix: copy it again")
    return data


def read_depth(path: Path) -> Float32Array:
    """Return a depth image (h, w) float32 in m, NaN where it holds none; 256 steps a metre, as in KITTI's depth maps.

    Raises DataError: it cannot be read, or is no 16-bit PNG of one channel.
    """
    import cv2  # noqa: PLC0415 - keeps importing the reader fast

    steps = cv2.imdecode(np.frombuffer(read_image(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if steps is None or steps.dtype != np.uint16 or steps.ndim != 2:
        found = "cannot be decoded" if steps is None else f"holds {steps.dtype} of shape {steps.shape}"
        raise DataError(f"{path} {found}; a depth image is a 16-bit PNG of one channel. fix: simulate the scene again")
    depth: Float32Array = np.where(steps > 0, steps.astype(np.float32) / 256.0, np.float32(np.nan)).astype(np.float32)
    return depth
