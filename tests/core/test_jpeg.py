# SPDX-License-Identifier: Apache-2.0
"""The decoder that tells of damage gives what OpenCV gives, refuses what is damaged, and leaves the rest alone."""

import cv2
import numpy as np
import pytest

from peft_dml_ros.core import camera_view
from peft_dml_ros.core.camera_view import decode
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.health import poor_picture
from peft_dml_ros.core.jpeg import decode_sound, jpeg_damage
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import HealthParams

RNG = np.random.default_rng(6)


def jpeg(width, height, *options, channels=3):
    coarse = RNG.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    ok, data = cv2.imencode(".jpg", cv2.resize(coarse, (width, height)), options)
    assert ok
    return data.tobytes()


def without_some(data):
    return data[: len(data) // 2] + data[len(data) // 2 + 200 :]


def with_another_order(data):
    return data[: len(data) // 2] + data[len(data) // 2 : len(data) // 2 + 400][::-1] + data[len(data) // 2 + 400 :]


@pytest.mark.parametrize("wanted_px", [1, 150, 300, 700])
@pytest.mark.parametrize(
    "data",
    [
        jpeg(641, 363),
        jpeg(1281, 727, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        jpeg(640, 480, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        jpeg(640, 480, channels=1),
    ],
)
def test_pixels_are_those_of_opencv_at_every_scale(monkeypatch, data, wanted_px):
    found = decode(data, wanted_px)
    assert found.dtype == np.uint8
    monkeypatch.setattr(camera_view, "decode_sound", lambda *_: None)
    np.testing.assert_array_equal(found, decode(data, wanted_px))


@pytest.mark.parametrize("damage", [without_some, with_another_order])
def test_damage_inside_is_refused_by_decoder_and_health_alike(damage):
    pictures = [damage(jpeg(640, 480)) for _ in range(10)]
    assert all(data.endswith(b"\xff\xd9") for data in pictures)
    damaged = [data for data in pictures if jpeg_damage(data)]
    # By chance the rest may be another valid picture: nothing but a checksum would tell.
    assert len(damaged) >= 7
    for data in damaged:
        with pytest.raises(DataError, match="damaged inside"):
            decode(data, 352)
        assert poor_picture(CameraImage(0, data), HealthParams()) == "damaged image"


def test_padding_other_kinds_and_words_of_makers_are_no_damage():
    sound = jpeg(640, 480)
    for data in (sound, sound + bytes(500), sound[:-2] + b"\0\0\0" + sound[-2:], sound[:11] + b"\x07" + sound[12:]):
        assert not jpeg_damage(data)
        assert decode(data, 640).shape == (480, 640, 3)
        assert poor_picture(CameraImage(0, data), HealthParams()) is None
    ok, png = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))
    assert ok
    assert decode_sound(png.tobytes(), (30, 20)) is None
    assert decode(png.tobytes(), 30).shape == (20, 30, 3)
