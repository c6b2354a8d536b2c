# SPDX-License-Identifier: Apache-2.0
"""Undistorted images show each thing where the pinhole says."""

import cv2
import numpy as np
import pytest

from peft_dml_ros.core.camera_view import decoded, load_image, network_intrinsics
from peft_dml_ros.core.lenses import Lens
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.core.spec import CameraSpec

SIZE = (1280, 960)
K = np.array([[420.0, 0, 650.0], [0, 425.0, 470.0], [0, 0, 1]])
LENSES = {
    "equidistant": np.array([0.05, -0.01, 0.004, -0.001]),
    "rational_polynomial": np.array([0.3, 0.02, 1e-4, -2e-4, 1e-3, 0.62, 0.1, 3e-3]),
    "plumb_bob": np.array([-0.25, 0.06, 1e-4, -1e-4, -0.004]),
}
POINTS = np.array([[x, y, 4.0] for x in (-3.0, -1.0, 1.5, 3.5) for y in (-1.2, 0.3, 1.4)])


def raw_image(model):
    """White discs on black where the lens shows the points."""
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    zero = np.zeros(3)
    pixels = project(POINTS[None] if model == "equidistant" else POINTS, zero, zero, K, LENSES[model])[0].reshape(-1, 2)
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for x, y in pixels:
        cv2.circle(image, (round(x * 16), round(y * 16)), 12 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return image


def camera_of(model):
    lens = Lens.make(model, K, LENSES[model], "camera 'c'")
    return CameraModel(K, *SIZE, lens)


def discs(image):
    """Centres of the discs, by their order in the list of points."""
    grey = (image[..., 0] > 100).astype(np.uint8)
    return cv2.connectedComponentsWithStats(grey)[3][1:]


def worst_px(image, intrinsics):
    wanted = (POINTS / POINTS[:, 2:]) @ intrinsics.T
    inside = (wanted[:, 0] > 8) & (wanted[:, 0] < image.shape[1] - 8) & (wanted[:, 1] > 8)
    inside &= wanted[:, 1] < image.shape[0] - 8
    assert inside.sum() >= 6
    found = discs(image)
    return max(np.linalg.norm(found - p, axis=1).min() for p in wanted[inside, :2])


@pytest.mark.parametrize("model", LENSES)
def test_the_network_sees_what_the_pinhole_shows(model):
    spec, camera = CameraSpec(width_px=704, height_px=500), camera_of(model)
    image = CameraImage(0, pixels=raw_image(model))
    seen = load_image(image, spec, camera)
    assert seen.shape == (500, 704, 3)
    assert worst_px(seen, network_intrinsics(camera, spec)) < 1.0
    straight = load_image(image, spec, CameraModel(K, *SIZE))
    assert worst_px(straight, network_intrinsics(camera, spec)) > 5, "without the lens the discs lie elsewhere"


@pytest.mark.parametrize("model", LENSES)
def test_a_jpeg_at_half_size_and_a_picture_to_draw_into(model):
    camera, data = camera_of(model), cv2.imencode(".jpg", raw_image(model), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    drawn = decoded(CameraImage(0, jpeg=data.tobytes()), 600, camera)
    assert drawn.shape == (480, 640, 3)
    half = K.copy()
    half[:2] *= 0.5
    assert worst_px(drawn, half) < 0.8


def test_beyond_the_turn_of_a_polynomial_there_is_no_mirror_image():
    lens = Lens.make("plumb_bob", K, [-0.6, 0.0, 0.0, 0.0, 0.0], "camera 'c'")
    seen = lens.undistort(np.full((960, 1280, 3), 200, np.uint8), SIZE, np.diag([200.0, 200.0, 1.0]), SIZE)
    assert seen[0, 0, 0] == 200
    assert not seen[-1, -1].any()


def test_tables_are_made_once():
    camera, image = camera_of("equidistant"), CameraImage(0, pixels=raw_image("equidistant"))
    for _ in range(3):
        load_image(image, CameraSpec(), camera)
    assert len(camera.lens._tables) == 1
