# SPDX-License-Identifier: Apache-2.0
"""Rules of the running system: topics, QoS, transforms, calibration, clocks, and the node itself."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from peft_dml_ros.conversions.topics import BASE_FRAME, other_types_of, type_of
from peft_dml_ros.core.params import SyncParams
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_tools.commands.doctor.rules import DoctorContext, Finding, rule
from peft_dml_tools.datasets.checks.severity import Severity

UPSTREAM_HASH: Final = "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
LARGE_BYTES: Final = 500_000
LATE_S: Final = 0.2


def _live(context: DoctorContext) -> dict[str, Mapping[str, Any]]:
    """Return the sensors that have a publisher."""
    return {name: facts for name, facts in context.survey["sensors"].items() if facts["publishers"]}


@rule("ROS003", Severity.ERROR, "A node can be started", live=True)
def starts(context: DoctorContext) -> Iterator[Finding]:
    """Report why the survey, itself a node, did not start."""
    if context.survey_error:
        yield Finding(context.survey_error, "run `python -m peft_dml_tools.nodes.system_survey` to see all of it")


@rule("ROS004", Severity.ERROR, "vision_msgs/Detection3DArray has the type hash of upstream", live=True)
def type_hash(context: DoctorContext) -> Iterator[Finding]:
    """Compare its hash, where this ROS distribution has hashes: a subscriber with another one receives nothing."""
    for kind, value in context.survey.get("type_hashes", {}).items():
        if UPSTREAM_HASH not in value and value.strip("0") != "RIHS01_":
            yield Finding(f"{kind} has the hash {value}", "install vision_msgs from ROS, or build interfaces/ again")


@rule("LIV001", Severity.WARNING, "Some LiDAR, camera or radar is published on a usual topic", live=True)
def something(context: DoctorContext) -> Iterator[Finding]:
    """Find at least one sensor that detects objects."""
    seeing = [n for n in _live(context) if modality_of_channel(n) in {"lidar", "camera", "radar"}]
    if not seeing:
        kinds = {type_of(name) for name in context.survey["sensors"]}
        others = sorted(t for t, types in context.survey["topics"].items() if kinds & set(types))
        have = f"; topics of fitting types: {', '.join(others[:6])}" if others else ""
        yield Finding(
            f"none of them is{have}", "start the drivers, remap (-r lidar_top/points:=TOPIC), or autodetect:=true"
        )


@rule("LIV002", Severity.ERROR, "Sensor topics carry the expected message type", live=True)
def types(context: DoctorContext) -> Iterator[Finding]:
    """Compare types: a subscription of another type receives nothing, silently."""
    for name, facts in _live(context).items():
        if facts["types"] not in [[kind] for kind in (type_of(name), *other_types_of(name))]:
            yield Finding(f"{facts['topic']} carries {', '.join(facts['types'])}", f"publish {type_of(name)}, or remap")


@rule("LIV003", Severity.WARNING, "One publisher per sensor topic", live=True)
def single(context: DoctorContext) -> Iterator[Finding]:
    """Count publishers: two of them look like one sensor with jitter."""
    for facts in _live(context).values():
        if facts["publishers"] > 1:
            yield Finding(
                f"{facts['topic']} has {facts['publishers']} publishers", "stop one, or use one namespace per vehicle"
            )


@rule("LIV004", Severity.WARNING, "What is published arrives", live=True)
def arrives(context: DoctorContext) -> Iterator[Finding]:
    """Count messages: best-effort clouds larger than the segment get lost."""
    for facts in _live(context).values():
        if not facts["messages"]:
            yield Finding(f"nothing arrived from {facts['topic']}", "see DDS001; check the driver with ros2 topic hz")
        elif facts["best_effort"] and facts["bytes"] > LARGE_BYTES:
            size = f"{facts['bytes'] / 1e6:.1f} MB"
            yield Finding(f"{facts['topic']}: {size} each, best effort", "see DDS001, or publish reliable")


@rule("LIV005", Severity.ERROR, f"A chain of static transforms leads from {BASE_FRAME} to every sensor", live=True)
def transforms(context: DoctorContext) -> Iterator[Finding]:
    """Follow the chain of every sensor but odometry."""
    for name, facts in _live(context).items():
        frame = facts["frame"]
        if modality_of_channel(name) is None or not facts["messages"]:
            continue
        if _root(frame, context.survey["parents"]) != _root(BASE_FRAME, context.survey["parents"]):
            fix = f"ros2 run tf2_ros static_transform_publisher --frame-id {BASE_FRAME} --child-frame-id {frame} .."
            yield Finding(f"{name} measures in '{frame}', which no /tf_static connects to {BASE_FRAME}", fix)


def _root(frame: str, parents: Mapping[str, str]) -> str:
    seen = {frame}
    while frame in parents and parents[frame] not in seen:
        frame = parents[frame]
        seen.add(frame)
    return frame


@rule("LIV006", Severity.ERROR, "Every camera has a CameraInfo, calibrated", live=True)
def calibrated(context: DoctorContext) -> Iterator[Finding]:
    """Check CameraInfo: K[0] = 0 means uncalibrated."""
    for name, facts in _live(context).items():
        if modality_of_channel(name) != "camera":
            continue
        info = facts["camera_info"]
        if not info:
            yield Finding(f"{name} has no CameraInfo", "publish it with the images, or give calibration:=FILE")
        elif info["fx"] <= 0 or not info["width"] or not info["height"]:
            yield Finding(f"{name}: CameraInfo says {info}", "calibrate it: K[0] > 0, width and height of the images")


@rule("LIV007", Severity.ERROR, "Stamps agree with the clock of this machine", live=True)
def clocks(context: DoctorContext) -> Iterator[Finding]:
    """Compare stamps with this clock: the node refuses stamps from the future and from far in the past."""
    sync = SyncParams()
    for name, facts in _live(context).items():
        late = facts["late_s"]
        if late and late["min"] < -sync.max_future_s:
            fix = "synchronise the clocks (chrony, PTP), or sync.offsets for a constant error"
            yield Finding(f"{name} is stamped {-late['min']:.3f} s ahead of this clock", fix)
        elif late and late["median"] > sync.max_past_s:
            fix = "set use_sim_time:=true for a bag with its own time, else synchronise the clocks"
            yield Finding(f"{name} is stamped {late['median']:.1f} s in the past", fix)


@rule("LIV008", Severity.WARNING, "Measurements arrive soon after their stamp", live=True)
def latency(context: DoctorContext) -> Iterator[Finding]:
    """Measure the delay: late measurements make a late frame, or are left out of it."""
    for name, facts in _live(context).items():
        late = facts["late_s"].get("median", 0.0)
        if LATE_S < late <= SyncParams().max_past_s:
            yield Finding(f"{name} arrives {late * 1e3:.0f} ms after its stamp", "check its driver and the network")


@rule("LIV010", Severity.WARNING, "Measurements have the units, scales and places that the network knows", live=True)
def plausible(context: DoctorContext) -> Iterator[Finding]:
    """Repeat the hints on sensors; their ids are explained in docs/troubleshooting.md."""
    for hint in context.survey.get("hints", ()):
        yield Finding(f"{hint['sensor']}: {hint['problem']} [{hint['id']}]", hint["fix"])


@rule("LIV009", Severity.INFO, "The perception node runs", live=True)
def node(context: DoctorContext) -> Iterator[Finding]:
    """Look for the node, so that the user sees whether this is the intended system."""
    if not any(name.endswith("/perception") for name in context.survey["nodes"]):
        yield Finding(
            "no node 'perception' is running", "ros2 launch peft_dml_ros perception.launch.py, or peft-dml node"
        )
