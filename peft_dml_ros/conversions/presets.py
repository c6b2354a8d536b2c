# SPDX-License-Identifier: Apache-2.0
"""Topic names of other makers: nuscenes2bag's, Autoware's, and a guess by type and frame for all others.

The names of this package are in `conversions.topics`; a bag is looked at with these here when it holds none of those.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from peft_dml_ros.conversions import topics
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.spec import CameraSpec

DEFAULT: Final = "default"
GUESSED: Final = "guessed"

_CAMERAS: Final = CameraSpec().cameras
_RADARS: Final = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
#: By the number in Autoware's camera topics, as data sets in its format have it
_AUTOWARE_CAMERAS: Final = (
    "CAM_FRONT",
    "CAM_BACK",
    "CAM_FRONT_LEFT",
    "CAM_BACK_LEFT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
)
_LIDAR_WORDS: Final = ("lidar", "velodyne", "laser", "pandar", "hesai", "ouster", "livox", "rslidar", "robosense")


@dataclass(frozen=True, slots=True)
class Preset:
    """Topic names of one maker."""

    name: str  #: What to call it
    #: Sensor -> topics that may carry it; the first is written, the first that is there is read
    sensors: dict[str, tuple[str, ...]]
    infos: dict[str, str]  #: Camera -> topic of its calibration
    raw_images: dict[str, str]  #: Camera -> topic of its uncompressed images


@dataclass(frozen=True, slots=True)
class BagTopics:
    """Which topics of a bag are which sensors."""

    preset: str  #: Name of the preset that fits, `DEFAULT` or `GUESSED`
    sensors: dict[str, str] = field(default_factory=dict)  #: Topic -> sensor
    infos: dict[str, str] = field(default_factory=dict)  #: Topic of a camera's calibration -> camera


def _nuscenes2bag() -> Preset:
    """Return its lower-case channel names; those of IMU, GNSS and CameraInfo are from its forks."""
    points: dict[str, tuple[str, ...]] = {name: (f"/{name.lower()}",) for name in ("LIDAR_TOP", *_RADARS)}
    images = {name: (f"/{name.lower()}/compressed", f"/{name.lower()}/raw") for name in _CAMERAS}
    return Preset(
        "nuscenes2bag",
        {**points, **images, "IMU": ("/imu",), "GNSS": ("/gps",), "ODOM": ("/odom",)},
        {name: f"/{name.lower()}/camera_info" for name in _CAMERAS},
        {name: f"/{name.lower()}/raw" for name in _CAMERAS},
    )


def _autoware() -> Preset:
    """Return the sample sensor kit's names; Autoware's radars send tracks, clouds have other names."""
    lidar = ("top/pointcloud_raw_ex", "top/pointcloud_raw", "top/pointcloud", "concatenated/pointcloud")
    sensors: dict[str, tuple[str, ...]] = {"LIDAR_TOP": tuple(f"/sensing/lidar/{name}" for name in lidar)}
    places = ("front_center", "front_left", "front_right", "rear_left", "rear_right")
    for radar, place in zip(_RADARS, places, strict=True):
        sensors[radar] = (f"/sensing/radar/{place}/pointcloud", f"/sensing/radar/{place}/detections")
    folders = {camera: f"/sensing/camera/camera{i}" for i, camera in enumerate(_AUTOWARE_CAMERAS)}
    kinds = ("image_rect_color/compressed", "image_raw/compressed", "image_rect_color", "image_raw")
    for camera in _CAMERAS:
        sensors[camera] = tuple(f"{folders[camera]}/{kind}" for kind in kinds)
    sensors["IMU"] = ("/sensing/imu/imu_data", "/sensing/imu/tamagawa/imu_raw")
    receivers = ("ublox/", "septentrio/", "")
    sensors["GNSS"] = tuple(f"/sensing/gnss/{receiver}nav_sat_fix" for receiver in receivers)
    sensors["ODOM"] = ("/localization/kinematic_state",)
    infos = {camera: f"{folders[camera]}/camera_info" for camera in _CAMERAS}
    return Preset("autoware", sensors, infos, {camera: f"{folders[camera]}/image_raw" for camera in _CAMERAS})


#: Presets by name, next to `DEFAULT`
PRESETS: Final[dict[str, Preset]] = {preset.name: preset for preset in (_nuscenes2bag(), _autoware())}


def check_preset(preset: str) -> None:
    """Refuse a name that is no preset. Raises ConfigError: names the nearest one."""
    if preset not in {DEFAULT, *PRESETS}:
        now = f"it is called '{DEFAULT}' now" if preset == "ours" else nearest(preset, [DEFAULT, *PRESETS])
        raise ConfigError(f"no topic preset '{preset}'; {now}")


def recognise(
    connections: Mapping[str, str], frame_of: Callable[[str], str], preset: str | None = None
) -> BagTopics | None:
    """Return which topics are which sensors, by the preset that explains most of them, else by type and frame.

    Raises ConfigError: no such preset. None when no LiDAR, radar or camera is found.

    Args:
        connections: Topic -> message type.
        frame_of: `header.frame_id` of the first message of a topic; asked only when names tell nothing.
        preset: The only preset to try; None tries all.
    """
    if preset is not None:
        check_preset(preset)
    tried = [_by_name(connections, table) for name, table in PRESETS.items() if preset in {None, name}]
    found = [(len(table.sensors), i, table) for i, table in enumerate(tried) if detects(table)]
    if found:
        return max(found, key=lambda entry: (entry[0], -entry[1]))[2]
    guess = guessed(connections, frame_of) if preset is None else BagTopics(GUESSED)
    return guess if detects(guess) else None


def _by_name(connections: Mapping[str, str], preset: Preset) -> BagTopics:
    out = BagTopics(preset.name)
    for sensor, candidates in preset.sensors.items():
        fitting = (topic for topic in candidates if connections.get(topic) in _types(sensor))
        if topic := next(fitting, ""):
            out.sensors[topic] = sensor
    for camera, topic in preset.infos.items():
        if connections.get(topic) == topics.CAMERA_INFO:
            out.infos[topic] = camera
    return out


def guessed(connections: Mapping[str, str], frame_of: Callable[[str], str]) -> BagTopics:
    """Guess by frames that are channel names, else by words in topic and frame; the only one of a kind is taken."""
    known = {topics.POINT_CLOUD, topics.RADAR_SCAN, topics.ARS548, topics.COMPRESSED_IMAGE, topics.IMAGE}
    out, taken = BagTopics(GUESSED), set()
    for topic in sorted(connections, key=lambda name: (connections[name] == topics.IMAGE, name)):
        sensor = _sensor_by_words(connections[topic], topic, frame_of(topic)) if connections[topic] in known else ""
        if sensor and sensor not in taken:
            out.sensors[topic] = sensor
            taken.add(sensor)
    for sensor, msgtype in (("IMU", topics.IMU), ("GNSS", topics.FIX), ("ODOM", topics.ODOMETRY)):
        alike = sorted(topic for topic, kind in connections.items() if kind == msgtype)
        if alike:
            out.sensors[min(alike, key=len)] = sensor
    infos = sorted(topic for topic, kind in connections.items() if kind == topics.CAMERA_INFO)
    cameras = {topic: sensor for topic, sensor in out.sensors.items() if sensor.startswith("CAM_")}
    for info in infos:
        parent = info.rpartition("/")[0] + "/"
        if camera := next((sensor for topic, sensor in cameras.items() if topic.startswith(parent)), ""):
            out.infos[info] = camera
    return out


def _sensor_by_words(msgtype: str, topic: str, frame: str) -> str:
    """Return the sensor that topic and frame speak of; empty when they do not tell."""
    channel = topics.sensor_of_frame(frame)
    cloud, scan = msgtype == topics.POINT_CLOUD, msgtype in {topics.RADAR_SCAN, topics.ARS548}
    if channel in (_RADARS if scan else ("LIDAR_TOP", *_RADARS) if cloud else _CAMERAS):
        return channel
    text = f"{topic} {frame}".lower()
    sides = [side for side in ("left", "right") if side in text]
    ends = [end for end, words in (("front", ("front",)), ("back", ("back", "rear"))) if any(w in text for w in words)]
    place = "_".join(chain(ends[:1] or ["front"], sides[:1])).upper()
    if not cloud and not scan:
        return name if (name := f"CAM_{place}") in _CAMERAS else ""
    if scan or "radar" in text:
        return name if (name := f"RADAR_{place}") in _RADARS else ""
    return "LIDAR_TOP" if any(word in text for word in _LIDAR_WORDS) or "points" in text else ""


def _types(sensor: str) -> tuple[str, ...]:
    others = (topics.IMAGE,) if sensor.startswith("CAM") else topics.other_types_of(sensor)
    return (topics.type_of(sensor), *others)


def detects(table: BagTopics) -> bool:
    """Return whether a LiDAR, a radar or a camera is among the sensors."""
    try:
        modalities = {modality_of_channel(sensor) for sensor in table.sensors.values()}
    except ConfigError:
        return False
    return bool(modalities & {"lidar", "radar", "camera"})
