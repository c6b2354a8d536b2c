# SPDX-License-Identifier: Apache-2.0
"""The session of the demo: a drive is prepared, played into the perception node, and recorded."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peft_dml_ros.conversions.topics import raw_image_topic_of, topic_of
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.atomic_files import claim_folder
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_topics import bag_topic
from peft_dml_tools.datasets.bags import BagSource, write_bag
from peft_dml_tools.datasets.source import FirstSeconds, open_source
from peft_dml_tools.evaluation.recording import FaultWindow
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.environment import require_ros
from peft_dml_tools.live.process_monitor import ProcessMonitor, cpu_pct
from peft_dml_tools.live.readback import PlayedDrive
from peft_dml_tools.live.session import BOXES, NODE, START_S, STATUS, Session, SessionError, follow
from peft_dml_tools.live.viewer_address import announce
from peft_dml_tools.parameter_files import load_params
from peft_dml_tools.sim.faults import DEMO_FAULTS, Fault, check_sensors, load_faults

if TYPE_CHECKING:
    from peft_dml_tools.demo.progress import StepProgress
    from peft_dml_tools.measurement_source import Source

FRAME_S: Final = 0.1  #: Pace of frames that a perfect run keeps
#: What a session writes; files of an earlier one are removed, so that nothing in the folder is of another run
RESULTS: Final = ("detections.mcap", "report.html", "metrics.json", "scores.json", "picture.png")
SETTLE_S: Final = 1.0  #: After the drive: the last frame is still being worked on
OVERRUN_S: Final = 20.0
DESIGNED_S: Final = 12.0  #: Length of the drive that the built-in faults are written for; they stretch with it


@dataclass(frozen=True, slots=True)
class DemoRequest:
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
    config: Path | None = None
    view: bool = False
    port: int = 0

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
class PreparedDrive:
    """What will be played."""

    path: Path  #: Bag or nuScenes folder
    rig: Rig  #: Its sensors
    truth: dict[int, Boxes3D]  #: True boxes by recorded stamp
    faults: tuple[Fault, ...]  #: What will go wrong
    title: str  #: One sentence on it
    raw_cameras: frozenset[str] = frozenset()  #: Cameras whose images come uncompressed

    @property
    def listeners(self) -> list[str]:
        """Topics with their number of listeners: the recorder takes each, the node those of its sensors."""
        raw = {name: raw_image_topic_of(name) for name in self.raw_cameras}
        return [f"{bag_topic(raw.get(n, topic_of(n)))}={2 if n in ALL_SENSORS else 1}" for n in self.rig.sensors]


def prepare(request: DemoRequest, scratch: Path, steps: StepProgress) -> PreparedDrive:
    """Check everything that can be checked before anything starts, and make the drive.

    Raises PeftDmlError: bundle, source or fault script are not usable, or the recording cannot be written.
    """
    require_ros()
    load_bundle(request.bundle)
    if request.source is not None and request.source.resolve() in {request.bag.resolve(), request.out.resolve()}:
        msg = f"--source {request.source} is where this session would be written to"
        raise ConfigError(f"{msg}; fix: name another folder with --out")
    claim_folder(request.out, request.bag.name, request.bag.with_suffix(".part").name)
    for name in RESULTS:
        (request.out / name).unlink(missing_ok=True)
    # What a recorder that was killed leaves behind.
    shutil.rmtree(request.bag.with_suffix(".part"), ignore_errors=True)
    source: Source
    if request.source is None:
        # The simulator's libraries are only needed here.
        from peft_dml_tools.demo.drive import simulate

        path, source = simulate(request.seed, request.seconds, scratch, steps)
        what = f"A synthetic drive of {request.seconds:.0f} s, played in real time"
    else:
        path, source = _opened(request.source, request, scratch)
        what = f"{source.name}, played in real time"
    faults = _faults(request, source.rig)
    title = f"{what} over ROS 2 into the perception node. {_script(faults)}"
    raw = source.raw_cameras if isinstance(source, BagSource) and path == request.source else frozenset[str]()
    return PreparedDrive(path, source.rig, source.truth, faults, title, raw)


def _opened(path: Path, request: DemoRequest, scratch: Path) -> tuple[Path, Source]:
    """Return what is played and its source; with a parameter file, a copy in the topics and frames of this package.

    Raises PeftDmlError: file or source are not usable.
    """
    if request.config is None:
        return path, open_source(path, scene=request.scene)
    options = BagOptions.of(load_params(request.config, model=NodeParams), str(request.config))
    source = open_source(path, scene=request.scene, options=options)
    return write_bag(FirstSeconds(source, request.seconds), scratch / "drive.mcap"), source


def _faults(request: DemoRequest, rig: Rig) -> tuple[Fault, ...]:
    """Return the script, checked against the rig; the built-in one is stretched, and left out where it does not fit."""
    if request.no_faults:
        return ()
    if request.faults is not None:
        faults = load_faults(request.faults)
        check_sensors(faults, rig)
        return faults
    stretch = request.seconds / DESIGNED_S
    scaled = (f.model_copy(update={"from_s": f.from_s * stretch, "to_s": f.to_s * stretch}) for f in DEMO_FAULTS)
    return tuple(
        f for f in scaled if f.sensor in rig.sensors or any(f.sensor == s.modality for s in rig.sensors.values())
    )


def _script(faults: tuple[Fault, ...]) -> str:
    """Return the faults in one sentence."""
    if not faults:
        return "All sensors work throughout."
    return f"On the way sensors fail: {', '.join(map(str, faults))}."


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """How a session went."""

    played: PlayedDrive  #: What was played, in live time
    problem: str  #: What went wrong; empty when nothing did
    cores: dict[str, float]  #: Mean processor load of node, recorder and replay during the drive, in cores


def play(request: DemoRequest, drive: PreparedDrive, scratch: Path, steps: StepProgress) -> SessionOutcome:
    """Run the session; what goes wrong on the way is part of the outcome, since the recording until then is kept."""
    session = Session(scratch, request.bundle, request.domain_id, request.discovery)
    # Nothing is played before all listen to everything.
    arguments = ["--seconds", str(request.seconds), "--wait-for", *drive.listeners]
    # In a recording of an earlier session, its boxes would mix with those of this one.
    arguments += ["--exclude", f"^({NODE}/|/diagnostics$)"]
    arguments += ["--scene", request.scene] if request.scene else []
    with ExitStack() as stack:
        steps.begin("start", None, "perception node, recorder, replay")
        if request.view:
            viewer = session.viewer(request.port)
            stack.callback(viewer.stop)
            follow((viewer,), lambda: "ready" in viewer.latest, START_S, "the start of the viewer")
            announce(steps.console, str(viewer.value("ready", "address")))
        recorder = session.recorder(request.bag)
        stack.callback(recorder.stop)
        perception = session.perception()
        stack.callback(perception.stop)
        monitor = ProcessMonitor({"node": perception.pid, "recorder": recorder.pid})
        stack.callback(monitor.close)
        try:
            # While the node is blind, it publishes empty frames.
            follow(
                (perception, recorder),
                lambda: _frames(recorder) and _count(recorder, STATUS),
                START_S,
                "the start of the perception node",
            )
            replay = session.replay(drive.path, *arguments, faults=drive.faults)
            stack.callback(replay.stop)
            monitor.add("replay", replay.pid)
            children = (perception, recorder, replay)
            follow(children, lambda: "start" in replay.latest, START_S + 5.0, "the start of the replay")
            _drive(children, steps)
        except KeyboardInterrupt:
            # All at once: one after the other, each would be waited for.
            for child in (recorder, perception):
                child.interrupt()
            raise
        except SessionError as error:
            return SessionOutcome(PlayedDrive(drive.title, 0, 0, 0), str(error), {})
        played = _played(drive, replay)
        cores = {name: (cpu_pct(s, played.from_ns, played.to_ns) or 0.0) / 100 for name, s in monitor.samples.items()}
    return SessionOutcome(played, "", {name: round(value, 3) for name, value in cores.items()})


def _frames(recorder: Child) -> int:
    """Return the number of frames recorded so far."""
    return _count(recorder, BOXES)


def _count(recorder: Child, topic: str) -> int:
    """Return the number of messages of a topic recorded so far."""
    return int(recorder.value("progress", "counts", {}).get(topic, 0))


def _drive(children: tuple[Child, Child, Child], steps: StepProgress) -> None:
    """Watch the processes until the drive is over. Raises SessionError: one of them failed."""
    _, recorder, replay = children
    length_s, before = float(replay.value("start", "duration_s")), _frames(recorder)
    steps.begin("drive", length_s)

    def show() -> None:
        position_s = float(replay.value("progress", "position_s", 0.0))
        steps.step(position_s, f"{position_s:4.1f} s, {_frames(recorder) - before} frames published")

    def over() -> bool:
        return "done" in replay.latest or replay.code == 0

    follow(children, over, length_s + OVERRUN_S, "the end of the drive", show)
    steps.finish()
    time.sleep(SETTLE_S)


def _played(drive: PreparedDrive, replay: Child) -> PlayedDrive:
    """Translate the drive to the live clock."""
    begin_ns, shift_ns = int(replay.value("start", "begin_ns")), int(replay.value("start", "shift_ns"))
    length_s = float(replay.value("start", "duration_s"))
    from_ns, to_ns = begin_ns + shift_ns, begin_ns + shift_ns + int(length_s * 1e9)
    windows = (
        FaultWindow(f.sensor, f.fault, from_ns + int(f.from_s * 1e9), from_ns + int(min(f.to_s, length_s) * 1e9))
        for f in drive.faults
        if f.from_s < length_s
    )
    return PlayedDrive(
        title=drive.title,
        from_ns=from_ns,
        to_ns=to_ns,
        # Of 1 s at 10 Hz, both ends counted, there are 11.
        frames_expected=int(length_s / FRAME_S + 1e-6) + 1,
        truth={stamp + shift_ns: boxes for stamp, boxes in drive.truth.items()},
        faults=tuple(windows),
    )
