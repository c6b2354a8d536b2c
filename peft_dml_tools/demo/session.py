# SPDX-License-Identifier: Apache-2.0
"""The processes of the demo: a drive is prepared, played into the perception node, and recorded."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peft_dml_ros.cli.environment import require_ros, ros_environment
from peft_dml_ros.conversions.topics import bag_topic, raw_image_topic_of, topic_of
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets.bags import BagSource
from peft_dml_tools.datasets.source import open_source
from peft_dml_tools.evaluation.recording import FaultWindow
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.readback import BOXES, NODE, Played
from peft_dml_tools.sim.faults import DEMO_FAULTS, Fault, check_sensors, dump_faults, load_faults

if TYPE_CHECKING:
    from peft_dml_ros.core.source import Source
    from peft_dml_tools.demo.drive import Steps

FRAME_S: Final = 0.1
"""Pace of frames that a perfect run keeps."""
RESULTS: Final = ("detections.mcap", "report.html", "metrics.json", "scores.json", "picture.png")
"""What a session writes; what an earlier one left is taken away, so that nothing in the folder is of another run."""
START_S: Final = 60.0
"""Longest wait for the nodes to load the model and to find each other."""
SETTLE_S: Final = 1.0
"""After the drive: the last frame is still being worked on."""
OVERRUN_S: Final = 20.0
DESIGNED_S: Final = 12.0
"""Length of the drive that the built-in faults are written for; they stretch with it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for; see the options of `peft-dml demo`."""

    source: Path | None
    scene: str | None
    seconds: float
    seed: int
    no_faults: bool
    faults: Path | None
    out: Path
    bundle: str
    domain_id: int
    discovery: str

    @property
    def bag(self) -> Path:
        """The recording."""
        return self.out / RESULTS[0]

    @property
    def details(self) -> str:
        """One sentence on how the session was made."""
        what = f"synthetic drive, seed {self.seed}" if self.source is None else self.source.name
        return f"Made by peft-dml demo: {what}, bundle {self.bundle}, real ROS 2 nodes over DDS."


@dataclass(frozen=True, slots=True)
class Drive:
    """What will be played.

    Attributes:
        path: Bag or nuScenes folder.
        rig: Its sensors.
        truth: True boxes by recorded stamp.
        faults: What will go wrong.
        title: One sentence on it.
        raw_cameras: Cameras whose images come uncompressed.
    """

    path: Path
    rig: Rig
    truth: dict[int, Boxes3D]
    faults: tuple[Fault, ...]
    title: str
    raw_cameras: frozenset[str] = frozenset()

    @property
    def listeners(self) -> list[str]:
        """Topics with the number of nodes that listen: the recorder takes each, the node those of its sensors."""
        raw = {name: raw_image_topic_of(name) for name in self.raw_cameras}
        return [f"{bag_topic(raw.get(n, topic_of(n)))}={2 if n in ALL_SENSORS else 1}" for n in self.rig.sensors]


def prepare(plan: Plan, scratch: Path, steps: Steps) -> Drive:
    """Check everything that can be checked before anything starts, and make the drive.

    Raises:
        PeftDmlError: bundle, source or fault script are not usable, or the recording cannot be written.
    """
    require_ros()
    load_bundle(plan.bundle)
    if plan.source is not None and plan.source.resolve() in {plan.bag.resolve(), plan.out.resolve()}:
        msg = f"--source {plan.source} is where this session would be written to; name another folder with --out"
        raise ConfigError(msg)
    plan.out.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:
        (plan.out / name).unlink(missing_ok=True)
    # What a recorder that was killed leaves behind.
    shutil.rmtree(plan.bag.with_suffix(".part"), ignore_errors=True)
    source: Source
    if plan.source is None:
        # The simulator's libraries are only needed here.
        from peft_dml_tools.demo.drive import simulate

        path, source = simulate(plan.seed, plan.seconds, scratch, steps)
        what = f"A synthetic drive of {plan.seconds:.0f} s, played in real time"
    else:
        path, source = plan.source, open_source(plan.source, scene=plan.scene)
        what = f"{source.name}, played in real time"
    faults = _faults(plan, source.rig)
    title = f"{what} over ROS 2 into the perception node. {_script(faults)}"
    raw = source.raw_cameras if isinstance(source, BagSource) else frozenset[str]()
    return Drive(path, source.rig, source.truth, faults, title, raw)


def _faults(plan: Plan, rig: Rig) -> tuple[Fault, ...]:
    """The script, checked against the rig; the built-in one is stretched, and left out where it does not fit."""
    if plan.no_faults:
        return ()
    if plan.faults is not None:
        faults = load_faults(plan.faults)
        check_sensors(faults, rig)
        return faults
    stretch = plan.seconds / DESIGNED_S
    scaled = (f.model_copy(update={"from_s": f.from_s * stretch, "to_s": f.to_s * stretch}) for f in DEMO_FAULTS)
    return tuple(
        f for f in scaled if f.sensor in rig.sensors or any(f.sensor == s.modality for s in rig.sensors.values())
    )


def _script(faults: tuple[Fault, ...]) -> str:
    """The faults in one sentence."""
    if not faults:
        return "All sensors work throughout."
    return f"On the way sensors fail: {', '.join(map(str, faults))}."


def play(plan: Plan, drive: Drive, scratch: Path, steps: Steps) -> tuple[Played, str | None]:
    """Run the session.

    Returns:
        What was played, and what went wrong, if anything did.
    """
    script = scratch / "faults.yaml"
    script.write_text(dump_faults(drive.faults), encoding="utf-8")
    environment = ros_environment(plan.domain_id, plan.discovery, scratch)
    # Nothing is played before all listen to everything.
    arguments = [str(drive.path), "--faults", str(script), "--wait-s", str(START_S), "--wait-for", *drive.listeners]
    # In a recording of an earlier session, its boxes would mix with those of this one.
    arguments += ["--exclude", f"^({NODE}/|/diagnostics$)"]
    arguments += ["--scene", plan.scene] if plan.scene else []
    with ExitStack() as stack:
        steps.begin("start", None, "perception node, recorder, replay")
        nodes = "peft_dml_tools.nodes"
        recorder = Child("recorder", f"{nodes}.recorder", ["--out", str(plan.bag)], environment)
        stack.callback(recorder.stop)
        bundle = ["--ros-args", "-p", f"bundle:={plan.bundle}"]
        perception = Child("perception", "peft_dml_ros.nodes.perception", bundle, environment)
        stack.callback(perception.stop)
        problem = _await_output(perception, recorder)
        if problem is not None:
            return Played(drive.title, 0, 0, 0), problem
        replay = Child("replay", f"{nodes}.replay", arguments, environment)
        stack.callback(replay.stop)
        problem = _follow(plan, perception, recorder, replay, steps)
        if problem is None:
            time.sleep(SETTLE_S)
    return _played(drive, replay, plan), problem


def _await_output(perception: Child, recorder: Child) -> str | None:
    """Wait until the node's output reaches the recorder; while it is blind, it publishes empty frames."""
    limit = time.monotonic() + START_S
    while not recorder.value("progress", "counts", {}).get(BOXES):
        if dead := _dead(perception, recorder):
            return dead
        if time.monotonic() > limit:
            return "the perception node did not start in time; its last lines:\n" + perception.last_words
        time.sleep(0.05)
    return None


def _dead(*children: Child) -> str | None:
    """Last words of a process that ended with an error."""
    dead = next((child for child in children if child.code not in {None, 0}), None)
    return None if dead is None else f"{dead.name} ended with status {dead.code}; its last lines:\n" + dead.last_words


def _follow(plan: Plan, perception: Child, recorder: Child, replay: Child, steps: Steps) -> str | None:
    """Watch the processes until the drive is over; returns what went wrong."""
    children, started, limit = (perception, recorder, replay), False, time.monotonic() + START_S + 5.0
    while True:
        if dead := _dead(*children):
            return dead
        if replay.code == 0 or replay.value("done", "position_s") is not None:
            steps.finish()
            return None
        if time.monotonic() > limit:
            return "the drive did not end in time; last lines of the node:\n" + perception.last_words
        if not started and "start" in replay.latest:
            started = True
            length_s = min(float(replay.value("start", "duration_s")), plan.seconds)
            limit = time.monotonic() + length_s + OVERRUN_S
            steps.begin("drive", length_s)
        if started:
            position_s = float(replay.value("progress", "position_s", 0.0))
            counts = recorder.value("progress", "counts", {})
            steps.update(position_s, f"{position_s:4.1f} s, {counts.get(BOXES, 0)} frames with boxes published")
            if position_s > plan.seconds:
                replay.stop()
        time.sleep(0.1)


def _played(drive: Drive, replay: Child, plan: Plan) -> Played:
    """Translate the drive to the live clock.

    Raises:
        DataError: the replay never started.
    """
    if "start" not in replay.latest:
        raise DataError("the replay never started; its last lines:\n" + replay.last_words)
    begin_ns, shift_ns = int(replay.value("start", "begin_ns")), int(replay.value("start", "shift_ns"))
    length_s = min(float(replay.value("start", "duration_s")), plan.seconds)
    from_ns, to_ns = begin_ns + shift_ns, begin_ns + shift_ns + int(length_s * 1e9)
    windows = (
        FaultWindow(f.sensor, f.fault, from_ns + int(f.from_s * 1e9), from_ns + int(min(f.to_s, length_s) * 1e9))
        for f in drive.faults
        if f.from_s < length_s
    )
    return Played(
        title=drive.title,
        from_ns=from_ns,
        to_ns=to_ns,
        # Of 1 s at 10 Hz, both ends counted, there are 11.
        frames_expected=int(length_s / FRAME_S + 1e-6) + 1,
        truth={stamp + shift_ns: boxes for stamp, boxes in drive.truth.items()},
        faults=tuple(windows),
    )
