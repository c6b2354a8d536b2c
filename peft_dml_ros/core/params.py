# SPDX-License-Identifier: Apache-2.0
"""Robot facts: every parameter of the perception stack, with default, range and description, in this one place.

`config/perception.yaml`, the ROS declarations and the table in the docs are made from these classes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticUndefined

from peft_dml_ros.core.engine import EngineName, ParameterPrecision
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.spec import CameraSpec, Frozen

ALL_SENSORS = (
    "LIDAR_TOP",
    *CameraSpec().cameras,
    *(f"RADAR_{place}" for place in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK_LEFT", "BACK_RIGHT")),
    *("IMU", "GNSS", "ODOM"),
)


def numbers_by_sensor(entries: tuple[str, ...], unit: str = "SECONDS") -> dict[str, float]:
    """Return `("CAM_FRONT=-0.03",)` as `{"CAM_FRONT": -0.03}`: ROS parameters know lists, but no mappings.

    Raises ValueError: an entry is not of that form.
    """
    try:
        return {name: float(value) for name, value in words_by_sensor(entries, unit).items()}
    except ValueError:
        msg = f"{', '.join(entries)}: each must be of the form SENSOR={unit}, e.g. {ALL_SENSORS[1]}=-0.03"
        raise ValueError(msg) from None


def words_by_sensor(entries: tuple[str, ...], what: str) -> dict[str, str]:
    """Return `("LIDAR_TOP=/points",)` as `{"LIDAR_TOP": "/points"}`. Raises ValueError: an entry of another form."""
    found = {}
    for entry in entries:
        name, _, value = (part.strip() for part in entry.partition("="))
        if not name or not value:
            raise ValueError(f"'{entry}' is not of the form SENSOR={what}, e.g. {ALL_SENSORS[0]}={what.lower()}")
        found[name] = value
    return found


class InputParams(Frozen):
    """How messages become measurements."""

    topics: tuple[str, ...] = Field(
        (), description="Topics of sensors, e.g. LIDAR_TOP=/velodyne/points; node and offline commands take them"
    )
    infos: tuple[str, ...] = Field((), description="Topics of CameraInfo by camera, e.g. CAM_FRONT=/front/camera_info")
    rectified: tuple[str, ...] = Field(
        (),
        description="Cameras whose images are rectified, though their CameraInfo has distortion; topics with 'rect'"
        " in their name are anyway",
    )
    thermal: tuple[str, ...] = Field(
        (),
        description="Cameras whose 16UC1 images are pictures (thermal, infrared); of others they are depths, refused",
    )
    intensity_field: tuple[str, ...] = Field(
        (), description="Field of a LiDAR's clouds that holds the intensity, e.g. LIDAR_TOP=reflectivity"
    )
    intensity_scale: tuple[str, ...] = Field(
        (), description="Factor that makes a LiDAR's intensity 0 to 255, e.g. LIDAR_TOP=255 for reflectances of 0 to 1"
    )


class SyncParams(Frozen):
    """When a frame is made."""

    period_s: float = Field(
        0.1, ge=0.02, le=2.0, description="Shortest time between two frames without LiDAR; pace when blind"
    )
    deadline_s: float = Field(
        0.15, ge=0.02, le=5.0, description="LiDAR silence after which another sensor sets the time"
    )
    max_future_s: float = Field(
        0.05, ge=0.0, le=1.0, description="Stamps further than this ahead of the clock are refused"
    )
    max_past_s: float = Field(
        5.0, ge=0.1, le=60.0, description="A clock that steps back by more than this resets all buffers"
    )
    offsets: tuple[str, ...] = Field(
        (), description="Seconds to add to a sensor's stamps, e.g. CAM_FRONT=-0.031 for a driver that stamps late"
    )


class HealthParams(Frozen):
    """When a sensor is gated."""

    max_age_lidar_s: float = Field(0.25, gt=0.0, le=5.0, description="Oldest LiDAR sweep used")
    max_age_camera_s: float = Field(
        0.12, gt=0.0, le=5.0, description="Oldest image used, beyond the camera's own period"
    )
    max_age_radar_s: float = Field(0.5, gt=0.0, le=5.0, description="Oldest radar sweep used")
    max_age_imu_s: float = Field(0.1, gt=0.0, le=5.0, description="Oldest IMU sample that keeps the modality alive")
    max_age_gnss_s: float = Field(2.0, gt=0.0, le=30.0, description="Oldest fix that keeps the modality alive")
    max_ages: tuple[str, ...] = Field(
        (), description="Oldest measurement used of single sensors, in seconds, e.g. RADAR_FRONT=0.2"
    )
    late_s: float = Field(
        0.03, ge=0.0, le=5.0, description="Beyond one and a half periods without a measurement, this late: LATE"
    )
    frozen_after: int = Field(3, ge=2, le=100, description="Equal payloads in a row that count as a frozen sensor")
    fault_after: int = Field(
        2, ge=1, le=100, description="Bad measurements in a row that shut a sensor out; single ones are only left out"
    )
    readmit_after: int = Field(2, ge=1, le=100, description="Good measurements in a row that let it in again")
    min_lidar_points: int = Field(
        100, ge=0, le=100000, description="Fewer points than this beyond 1 m in a sweep: degraded, gated"
    )
    max_invalid_share: float = Field(
        0.5, ge=0.0, le=1.0, description="Larger share of points that are not finite in a sweep: degraded, gated"
    )
    min_image_brightness: float = Field(
        6.0, ge=0.0, le=255.0, description="Mean grey level below which an image is dark: degraded, gated"
    )
    min_image_contrast: float = Field(
        3.0, ge=0.0, le=127.0, description="Deviation of grey levels below which it is blank: degraded, gated"
    )
    image_check_s: float = Field(
        0.5, ge=0.0, le=60.0, description="Every so often an image of each camera is looked at for that"
    )


class DetectionParams(Frozen):
    """What is published."""

    score_threshold: float = Field(0.15, ge=0.0, le=1.0, description="Boxes below this confidence are not published")
    max_boxes: int = Field(200, ge=1, le=500, description="Most boxes in one message")
    nms_scale: float = Field(
        1.0, ge=0.0, le=5.0, description="Factor on the per-class distance of non-maximum suppression"
    )


class PaceParams(Frozen):
    """How often encoders run; between two runs, the last result is moved by the ego motion."""

    camera_hz: float = Field(
        5.0,
        ge=0.0,
        le=50.0,
        description="Most runs of the camera encoder a second while a LiDAR is there; 0: each frame",
    )
    radar_hz: float = Field(
        0.0,
        ge=0.0,
        le=50.0,
        description="Most runs of the radar encoder a second while a LiDAR is there; 0: each frame",
    )


#: What the load controller gives up, in this order: pace of cameras, pace of radars, LiDAR sweeps
GIVEN_UP = ("cameras", "radars", "sweeps")


class LoadParams(Frozen):
    """What happens when the machine is too slow."""

    max_latency_ms: float = Field(
        150.0, ge=10.0, le=10000.0, description="Median time from a measurement's arrival to the boxes that is aimed at"
    )
    keep: tuple[str, ...] = Field((), description="Never given up under load, of cameras, radars, sweeps")

    @field_validator("keep")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse names of what is not given up anyway."""
        for name in names:
            if name not in GIVEN_UP:
                raise ValueError(f"'{name}' is never given up; {nearest(name, GIVEN_UP)}")
        return names


class RouterParams(Frozen):
    """Whether the adapter is chosen by what the sensors see; see `adapter_router`."""

    enabled: bool = Field(
        default=False, description="Choose the adapter by weather and sensors that are there; may change at any time"
    )
    window_s: float = Field(3.0, gt=0.0, le=60.0, description="Time over which what is seen is averaged")
    hold_s: float = Field(5.0, ge=0.0, le=600.0, description="An adapter must lead for so long before it is taken")
    margin: float = Field(
        0.2, ge=0.0, le=10.0, description="By so much mean log-likelihood another adapter must fit better"
    )


class TrackingParams(Frozen):
    """What becomes a track, and for how long it stays one."""

    birth_score: float = Field(0.15, ge=0.0, le=1.0, description="Boxes below this confidence start no track")
    birth_trust: float = Field(
        0.4, gt=0.0, le=1.0, description="Existence of a new track, as a share of its confidence"
    )
    publish: float = Field(
        0.15, ge=0.0, le=1.0, description="Tracks below this probability of existence are not published"
    )
    death: float = Field(0.05, gt=0.0, le=1.0, description="Tracks below this probability of existence end")
    max_coast_s: float = Field(4.0, gt=0.0, le=30.0, description="Tracks that were not detected for so long end")


class PerceptionParams(Frozen):
    """All parameters of the perception node."""

    bundle: str = Field("demo", description="Model bundle: a folder, or the name of an installed bundle")
    adapter: str = Field(
        "default",
        description="Adapter of the bundle's base: name, folder, or a mix such as default=0.7,rain=0.3; none: the base",
    )
    trusted_key: str = Field(
        "", description="Public key, or its file, that must have signed the bundle; empty takes any; set at start only"
    )
    engine: EngineName = Field("auto", description="Inference engine; auto takes the fastest that this CPU has")
    precision: ParameterPrecision = Field(
        "auto", description="Precision, of those that the bundle holds; auto takes the one that suits the engine"
    )
    threads: int = Field(
        0, ge=0, le=64, description="Threads of the inference engine; 0 takes the cores that other work leaves free"
    )
    base_frame: str = Field("base_link", min_length=1, description="Frame in which boxes are published")
    sensors: tuple[str, ...] = Field(ALL_SENSORS, description="Sensors to listen to; none of them is required")
    inputs: InputParams = InputParams()
    sync: SyncParams = SyncParams()
    health: HealthParams = HealthParams()
    detection: DetectionParams = DetectionParams()
    pace: PaceParams = PaceParams()
    load: LoadParams = LoadParams()
    router: RouterParams = RouterParams()
    tracking: TrackingParams = TrackingParams()

    @model_validator(mode="after")
    def _entries_of_sensors(self) -> "PerceptionParams":
        """Refuse entries of sensors that nobody listens to."""
        inputs = self.inputs
        named: dict[str, Iterable[str]] = {
            "sync.offsets": numbers_by_sensor(self.sync.offsets),
            "health.max_ages": numbers_by_sensor(self.health.max_ages),
            "inputs.topics": words_by_sensor(inputs.topics, "/TOPIC"),
            "inputs.infos": words_by_sensor(inputs.infos, "/TOPIC"),
            "inputs.rectified": inputs.rectified,
            "inputs.thermal": inputs.thermal,
            "inputs.intensity_field": words_by_sensor(inputs.intensity_field, "FIELD"),
            "inputs.intensity_scale": numbers_by_sensor(inputs.intensity_scale, "FACTOR"),
        }
        for where, entries in named.items():
            for name in entries:
                if name not in self.sensors:
                    raise ValueError(f"{where}: sensor '{name}': {nearest(name, self.sensors)}")
        return self

    @field_validator("sensors")
    @classmethod
    def _known_sensors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse names of no known kind, and those that make no topic."""
        for name in names:
            if not re.fullmatch("[A-Z][A-Z0-9_]*", name):
                msg = f"sensor name '{name}' must consist of capital letters, digits and _, e.g. {ALL_SENSORS[0]}"
                raise ValueError(msg)
            try:
                modality_of_channel(name)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return names


class ParamInfo(NamedTuple):
    """One parameter as ROS, YAML and the docs show it."""

    name: str
    default: Any
    description: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] = ()


def describe(model: type[BaseModel] = PerceptionParams, prefix: str = "") -> Iterator[ParamInfo]:
    """Yield every parameter with a dotted name, in order of definition."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from describe(field.annotation, f"{prefix}{name}.")
            continue
        bounds = {
            kind: getattr(m, kind) for m in field.metadata for kind in ("ge", "gt", "le", "lt") if hasattr(m, kind)
        }
        default = None if field.default is PydanticUndefined else field.default
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        yield ParamInfo(prefix + name, default, field.description or "", low, high, _choices(field.annotation))


def _choices(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"sync.period_s": 1}` as `{"sync": {"period_s": 1}}`. Raises ConfigError: a name is value and group."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, leaf = str(dotted).split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                msg = f"parameter '{dotted}': '{parent}' has a value of its own ({node!r})"
                raise ConfigError(f"{msg}; fix: leave one of the two out")
        node[leaf] = value
    return tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], tree: Mapping[str, Any], where: str) -> Model:
    """Build a configuration, or raise one error that lists everything wrong in it.

    Raises ConfigError: unknown keys (with the nearest known one) and values outside their range.
    """
    known = [info.name for info in describe(model)]
    problems = [f"unknown parameter '{key}': {nearest(key, known)}" for key in _flat(tree) if key not in known]
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        for item in (item for item in error.errors() if item["type"] != "extra_forbidden"):
            name, said = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
            shown = f"parameter '{name}' = {item['input']!r}: " if name else ""
            problems.append(shown + said.replace("valid tuple", "list, such as [A, B]"))
        raise ConfigError(f"{where}: " + "; ".join(problems or [str(error)])) from None
