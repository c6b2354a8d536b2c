# SPDX-License-Identifier: Apache-2.0
"""A vehicle with other names: topics are found, what is missing is named with its fix, a file may calibrate."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from radar_msgs.msg import RadarReturn, RadarScan
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from peft_dml_ros import conversions
from peft_dml_ros.core.lenses import Lens
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_tools.datasets import encode
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle
from tests.support.ros_processes import ros_process

pytestmark = [pytest.mark.ros, pytest.mark.slow]
MAKE = RclpyFactory()
CALIBRATION = """
sensors:
  LIDAR_TOP: {xyz: [0.9, 0.0, 1.8], rpy: [0.0, 0.0, -1.57]}
  CAM_FRONT:
    xyz: [1.7, 0.0, 1.5]
    rpy: [-1.57, 0.0, -1.57]
    camera: {width: 352, height: 198, fx: 280, fy: 280, cx: 176, cy: 99}
"""


class Vehicle:
    """Publishes a LiDAR and a camera under any names, and counts the boxes that come back."""

    def __init__(self, node, namespace):
        self.node, self.namespace = node, namespace
        self.executor = SingleThreadedExecutor(context=node.context)
        self.executor.add_node(node)
        self.frames = 0
        node.create_subscription(Detection3DArray, f"{namespace}/perception/detections", self.count, 10)
        self.outlets = []

    def count(self, _):
        self.frames += 1

    def send_lidar(self, topic, frame_id):
        publisher = self.node.create_publisher(PointCloud2, self.namespace + topic, 5)
        self.outlets.append((publisher, lambda ns: encode.lidar_to_msg(scenes.lidar(ns), frame_id, MAKE)))

    def send_camera(self, topic, info_topic, model):
        images = self.node.create_publisher(CompressedImage, self.namespace + topic, 5)
        infos = self.node.create_publisher(CameraInfo, self.namespace + info_topic, 5)
        self.outlets.append((images, lambda ns: conversions.image_to_msg(scenes.image(ns), "cam_front", MAKE)))
        self.outlets.append((infos, lambda ns: encode.camera_info_to_msg(model, ns, "cam_front", MAKE)))

    def drive(self, condition, seconds=60.0):
        clock = self.node.get_clock()
        begin_ns = clock.now().nanoseconds
        while not condition():
            now_ns = clock.now().nanoseconds
            assert now_ns - begin_ns < seconds * 1e9
            for publisher, message in self.outlets:
                publisher.publish(message(now_ns))
            for _ in range(10):
                self.executor.spin_once(timeout_sec=0.02)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("wiring") / "bundle")


@contextmanager
def perception(tmp_path, bundle, namespace, *parameters, report_after_s=3.0):
    given = [text for parameter in parameters for text in ("-p", parameter)]
    given += ["-p", f"bundle:={bundle}", "-p", f"startup_timeout_s:={report_after_s}"]
    with ros_process(
        "peft_dml_ros.nodes.perception", "--ros-args", "-r", f"__ns:={namespace}", *given, log=tmp_path / "log"
    ) as node:
        yield node
        assert node.stop() == 0
        assert "Traceback" not in node.text


CAMERA = CameraModel(np.array([[280.0, 0, 176], [0, 280, 99], [0, 0, 1]]), 352, 198)


@pytest.mark.parametrize(
    ("lidar", "image", "info", "frame"),
    [
        (
            "/sensing/lidar/top/pointcloud_raw_ex",
            "/sensing/camera/camera0/image_rect_color/compressed",
            "/sensing/camera/camera0/camera_info",
            "velodyne_top",
        ),
        ("/mast/scan3d", "/eyes/front/jpeg", "/eyes/front/camera_info", "lidar_top"),
    ],
)
def test_topics_of_other_makers_are_found(tmp_path, ros_node, bundle, lidar, image, info, frame):
    # Time enough to be discovered, and found under other names.
    with perception(tmp_path, bundle, "/other", "autodetect:=true", report_after_s=8.0) as node:
        vehicle = Vehicle(ros_node, "/other")
        vehicle.send_lidar(lidar, frame)
        vehicle.send_camera(image, info, CAMERA)
        rig = encode.tf_static_to_msg(scenes.rig(), MAKE)
        for transform in rig.transforms:
            if transform.child_frame_id == "lidar_top":
                transform.child_frame_id = frame
        ros_node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(rig)
        vehicle.drive(lambda: "sensors are in use" in node.text)
        assert "2 of 15 sensors are in use" in node.text
        vehicle.drive(lambda: vehicle.frames > 5)


def scan_msg(ns):
    """Never the same twice: a payload that repeats itself is a frozen radar's."""
    rng = np.random.default_rng(ns)
    returns = [
        RadarReturn(range=float(rng.uniform(5, 60)), azimuth=float(a), doppler_velocity=-3.0, amplitude=9.0)
        for a in rng.uniform(-0.7, 0.7, 30)
    ]
    return RadarScan(header=conversions.header(ns, "radar_front", MAKE), returns=returns)


@pytest.mark.parametrize(
    ("topic", "parameter"),
    [("/radar_front/points", "autodetect:=false"), ("/ars/front_radar/scan", "autodetect:=true")],
)
def test_a_radar_may_send_scans_instead_of_clouds(tmp_path, ros_node, bundle, topic, parameter):
    with perception(tmp_path, bundle, "/scans", "sensors:=[RADAR_FRONT]", parameter) as node:
        vehicle = Vehicle(ros_node, "/scans")
        vehicle.outlets.append((ros_node.create_publisher(RadarScan, f"/scans{topic}", 5), scan_msg))
        ros_node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(encode.tf_static_to_msg(scenes.rig(), MAKE))
        # A publisher that is discovered after the start-up report is announced when it comes.
        seen = ("1 of 1 sensors are in use", "sensors there: RADAR_FRONT")
        vehicle.drive(lambda: any(words in node.text for words in seen))
        assert "is not installed" not in node.text


def test_what_is_missing_is_named_with_its_fix(tmp_path, ros_node, bundle):
    with perception(tmp_path, bundle, "/bare", "sensors:=[LIDAR_TOP, CAM_FRONT, RADAR_FRONT]") as node:
        vehicle = Vehicle(ros_node, "/bare")
        vehicle.send_lidar("/velodyne/points", "lidar_top")
        vehicle.send_camera("/cam_front/image/compressed", "/front/camera_info", CAMERA)
        vehicle.drive(lambda: "RADAR_FRONT:" in node.text)
        assert (
            "LIDAR_TOP: nobody publishes /bare/lidar_top/points; fix: remap it (-r /bare/lidar_top/points:="
            in node.text
        )
        assert "/bare/velodyne/points" in node.text
        assert "static_transform_publisher --frame-id base_link --child-frame-id cam_front" in node.text
        assert "or leave RADAR_FRONT out of 'sensors'" in node.text


def test_topics_of_the_parameter_file_and_what_looks_wrong_with_the_sensors(tmp_path, ros_node, bundle):
    """Another scale of the intensity, a raw fisheye camera in an optical frame that only the file mounts: each once."""
    topics = ("sensors:=[LIDAR_TOP, CAM_FRONT]", "inputs.topics:=[LIDAR_TOP=/hint/os/points, CAM_FRONT=/hint/eye/raw]")
    infos = "inputs.infos:=[CAM_FRONT=/hint/eye/info]"
    mounted = CALIBRATION[: CALIBRATION.index("    camera:")]
    (tmp_path / "rig.yaml").write_text(mounted, encoding="utf-8")
    with perception(tmp_path, bundle, "/hint", *topics, infos, f"calibration:={tmp_path / 'rig.yaml'}") as node:
        vehicle = Vehicle(ros_node, "/hint")
        photons = ros_node.create_publisher(PointCloud2, "/hint/os/points", 5)
        vehicle.outlets.append((photons, lambda ns: encode.lidar_to_msg(bright(ns), "os", MAKE)))
        images = ros_node.create_publisher(Image, "/hint/eye/raw", 5)
        vehicle.outlets.append((images, mosaic_msg))
        lens = replace(CAMERA, lens=Lens.make("equidistant", CAMERA.intrinsics, [0.05, 0.0, 0.0, 0.0], "eye"))
        calibrations = ros_node.create_publisher(CameraInfo, "/hint/eye/info", 5)
        vehicle.outlets.append(
            (calibrations, lambda ns: encode.camera_info_to_msg(lens, ns, "eye_optical_frame", MAKE))
        )
        vehicle.drive(lambda: "SEN102" in node.text and "SEN204" in node.text and vehicle.frames > 3)
        assert "here [SEN102]; fix: inputs.intensity_scale [LIDAR_TOP=" in node.text
        assert "CAM_FRONT: its images are undistorted here (equidistant) [SEN204]" in node.text
        assert node.text.count("SEN102") == 1


def bright(ns):
    sweep = scenes.lidar(ns)
    sweep.points[:, 3] *= 300
    return sweep


def mosaic_msg(ns):
    data = np.random.default_rng(ns).integers(40, 200, 352 * 198, dtype=np.uint8)
    head = conversions.header(ns, "eye_optical_frame", MAKE)
    return Image(header=head, height=198, width=352, encoding="bayer_rggb8", step=352, data=MAKE.bytes(data))


def test_a_file_calibrates_without_transforms_and_camera_info(tmp_path, ros_node, bundle):
    (tmp_path / "rig.yaml").write_text(CALIBRATION, encoding="utf-8")
    with perception(tmp_path, bundle, "/file", f"calibration:={tmp_path / 'rig.yaml'}", report_after_s=8.0) as node:
        vehicle = Vehicle(ros_node, "/file")
        vehicle.send_lidar("/lidar_top/points", "somewhere")
        vehicle.send_camera("/cam_front/image/compressed", "/cam_front/other_info", CAMERA)
        vehicle.drive(lambda: vehicle.frames > 3 and "2 of 15 sensors are in use" in node.text)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (CameraModel(CAMERA.intrinsics, 640, 480), "its images are 352 x 198, its calibration is for 640 x 480"),
        (None, "not calibrated"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused_and_a_good_one_taken(tmp_path, ros_node, bundle, model, said):
    with perception(tmp_path, bundle, "/misfit", "sensors:=[CAM_FRONT]") as node:
        vehicle = Vehicle(ros_node, "/misfit")
        ros_node.create_publisher(TFMessage, "/tf_static", LATCHED).publish(encode.tf_static_to_msg(scenes.rig(), MAKE))
        vehicle.send_camera("/cam_front/image/compressed", "/cam_front/camera_info", model or CAMERA)
        if model is None:
            infos, make = vehicle.outlets[1]
            vehicle.outlets[1] = (infos, lambda ns: _without_focal_length(make(ns)))
        vehicle.drive(lambda: said in node.text)
        assert "CAM_FRONT" in node.text
        vehicle.outlets[1] = (
            vehicle.outlets[1][0],
            lambda ns: encode.camera_info_to_msg(CAMERA, ns, "cam_front", MAKE),
        )
        vehicle.frames = 0
        vehicle.drive(lambda: vehicle.frames > 8)


def _without_focal_length(info):
    info.k[0] = 0.0
    return info
