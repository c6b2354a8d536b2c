# SPDX-License-Identifier: Apache-2.0
"""Image scaling and the voxel table: a point lands in the feature cell that its pixel belongs to."""

import cv2
import numpy as np
import pytest

from peft_dml_ros.core.camera_view import load_image, network_intrinsics, voxel_centres, voxel_lookup
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.jpeg import picture_header
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor
from peft_dml_ros.core.spec import CameraSpec, ModelSpec

base_R_optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
K = np.array([[1266.0, 0, 816.0], [0, 1266.0, 491.0], [0, 0, 1]])


def front_rig():
    camera = CameraModel(K, 1600, 900)
    return Rig({"CAM_FRONT": Sensor("CAM_FRONT", "camera", SE3(base_R_optical, np.array([1.7, 0, 1.5])), camera)})


def jpeg(width, height, colour=(200, 30, 60)):
    ok, data = cv2.imencode(".jpg", np.full((height, width, 3), colour[::-1], np.uint8))
    assert ok
    return data.tobytes()


@pytest.mark.parametrize("size", [(1600, 900), (352, 198), (704, 396), (300, 300), (1600, 300)])
def test_any_image_becomes_network_size_and_stays_rgb(size):
    spec = CameraSpec()
    pixels = load_image(CameraImage(0, jpeg(*size)), spec)
    assert pixels.shape == (spec.height_px, spec.width_px, 3)
    np.testing.assert_allclose(pixels[5, 100].astype(int), (200, 30, 60), atol=6)


def test_a_marked_pixel_is_where_the_scaled_intrinsics_say():
    spec = CameraSpec()
    image = np.zeros((900, 1600, 3), np.uint8)
    image[600:609, 400:409] = 255
    small = load_image(CameraImage(0, pixels=image), spec)
    v, u = np.argwhere(small[..., 0] > 100).mean(axis=0)
    ray = np.linalg.inv(K) @ (404.0, 604.0, 1.0)
    scaled = network_intrinsics(CameraModel(K, 1600, 900), spec) @ ray
    assert (u, v) == (pytest.approx(scaled[0], abs=0.6), pytest.approx(scaled[1], abs=0.6))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"no image at all", jpeg(64, 64)[:-200], jpeg(64, 64)[:300]])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DataError):
        load_image(CameraImage(0, data), CameraSpec())


def test_size_is_read_without_decoding_and_limits_memory():
    assert picture_header(jpeg(1600, 900))[:2] == (1600, 900)
    ok, png = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))
    assert ok
    assert picture_header(png.tobytes())[:2] == (30, 20)
    # Buffers of fixed size end in zeros.
    assert picture_header(jpeg(1600, 900) + bytes(5000))[:2] == (1600, 900)
    with pytest.raises(DataError, match="cut short"):
        picture_header(jpeg(1600, 900)[:-70] + bytes(5000))
    bomb = b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (60000).to_bytes(4, "big") * 2
    with pytest.raises(DataError, match="larger than"):
        load_image(CameraImage(0, bomb), CameraSpec())


def test_voxels_map_to_the_pixel_and_depth_bin_of_their_projection():
    spec, rig = ModelSpec(), front_rig()
    voxel_pixel, voxel_depth = voxel_lookup(spec, rig)
    rows, columns = spec.camera.feature_hw
    nothing = len(spec.camera.cameras) * rows * columns
    points = voxel_centres(spec.grid, spec.camera.voxel_heights_m)
    seen = np.flatnonzero(voxel_pixel < nothing)
    assert len(seen) > 3000
    assert (points[seen, 0] > 3.0).all()
    assert (voxel_depth[voxel_pixel == nothing] == nothing * spec.camera.depth_bins).all()
    k = network_intrinsics(rig["CAM_FRONT"].camera, spec.camera)
    for i in seen[:: len(seen) // 50]:
        x, y, z = points[i] - (1.7, 0, 1.5)
        u, v = k[0, 0] * -y / x + k[0, 2], k[1, 1] * -z / x + k[1, 2]
        assert voxel_pixel[i] == int((v + 0.5) // 8) * columns + int((u + 0.5) // 8)
        depth_bin = voxel_depth[i] - voxel_pixel[i] * spec.camera.depth_bins
        edges = spec.camera.depth_edges_m
        assert edges[depth_bin] <= x < edges[depth_bin + 1]


def test_a_rig_without_cameras_sees_nothing():
    voxel_pixel, _ = voxel_lookup(ModelSpec(), Rig())
    assert len(np.unique(voxel_pixel)) == 1
