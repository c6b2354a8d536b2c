# SPDX-License-Identifier: Apache-2.0
"""Feeds malformed messages to the callbacks of the live intake, or over DDS to a node that runs.

    python -m peft_dml_tools.nodes.chaos_fuzz drive.mcap --messages 100000 --seed 0
    python -m peft_dml_tools.nodes.chaos_fuzz drive.mcap --messages 3000 --live

Stdout carries JSON lines: `progress` and `done`.
"""

import argparse
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import rclpy.logging
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image, PointCloud2

from peft_dml_ros import conversions
from peft_dml_ros.conversions import topics
from peft_dml_ros.conversions.cdr import HEADER_END, leading_stamp_ns
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.measurements import CameraImage, LidarSweep
from peft_dml_ros.core.rig import Rig, modality_of_channel
from peft_dml_ros.nodes.calibrations import info_of
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.intake import Intake
from peft_dml_ros.nodes.matched_subscription import LATCHED, installed, message_class
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FrameJob
from peft_dml_ros.nodes.runtime import ros_main
from peft_dml_ros.nodes.subscriptions import raw_of
from peft_dml_tools.datasets import encode
from peft_dml_tools.nodes.chaos_malformed import MalformedMessages
from peft_dml_tools.nodes.command_line import emit
from peft_dml_tools.nodes.message_stamps import shift_leading
from peft_dml_tools.nodes.player import wall_clock_ns
from peft_dml_tools.nodes.recordings import open_recording, sensors_by_topic
from peft_dml_tools.nodes.replay_parameters import spinning

HANG_S: Final = 1.0
#: What a message claims to hold may not be allocated: more than this is refused by the system, and reported
MEMORY_BYTES: Final = 8 << 30
POINTS: Final = 300  #: Of the LiDAR sample: small messages are damaged where it matters more often, and faster
SOUND_EVERY: Final = 5
INPUTS_EVERY: Final = 2  #: Frames of which the inputs of the network are made, to decode what has come in
VARIETY: Final = 10  #: Different sound messages of each input: a sensor that repeats itself is a frozen one
Samples = dict[str, tuple[list[bytes], type[Any]]]


def samples_of(path: Path) -> Samples:
    """Return the sound messages of each input, by its key among the connections of an intake, and raw images.

    One of the radars sends scans, where that message is installed.
    """
    recording, make = open_recording(path), RclpyFactory()
    sensors = sensors_by_topic(recording.channels)
    found: Samples = {}
    for message in (*recording.latched(), *islice(recording.messages(), 2000)):
        key = message.topic
        if message.topic != topics.TF_STATIC:
            sensor = sensors.get(message.topic)
            if sensor is None:
                continue
            key = info_of(sensor) if message.topic.endswith("/camera_info") else sensor
        cdrs, _ = found.setdefault(key, ([], recording.channels[message.topic].type))
        if len(cdrs) < VARIETY:
            cdrs.append(_thin(message.cdr, make) if key == "LIDAR_TOP" else message.cdr)
    radar = max((key for key in found if key.startswith("RADAR")), default="")
    if radar and installed(topics.RADAR_SCAN):
        found[radar] = ([_scan(cdr) for cdr in found[radar][0]], message_class(topics.RADAR_SCAN))
    camera = next(key for key in found if key.startswith("CAM") and key.isupper())
    found[raw_of(camera)] = ([_raw_image(camera, i, make) for i in range(VARIETY)], Image)
    return found


def _thin(cdr: bytes, make: RclpyFactory) -> bytes:
    sweep = conversions.lidar_from_msg(deserialize_message(cdr, PointCloud2))
    thin = LidarSweep(sweep.stamp_ns, sweep.points[:: max(1, len(sweep.points) // POINTS)])
    return bytes(serialize_message(encode.lidar_to_msg(thin, "lidar_top", make)))


def _scan(cdr: bytes) -> bytes:
    cloud = deserialize_message(cdr, PointCloud2)
    points = conversions.radar_from_msg(cloud).points
    scan = message_class(topics.RADAR_SCAN)(header=cloud.header)
    one = message_class("radar_msgs/msg/RadarReturn")
    scan.returns = [
        one(range=float(np.hypot(p["x"], p["y"])), azimuth=float(np.arctan2(p["y"], p["x"])), amplitude=float(p["rcs"]))
        for p in points
    ]
    return bytes(serialize_message(scan))


def _raw_image(camera: str, seed: int, make: RclpyFactory) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    return bytes(serialize_message(conversions.image_to_msg(CameraImage(0, pixels=pixels), camera.lower(), make)))


def stamped_now(cdr: bytes) -> bytes:
    """Return the message with its leading header stamped now, if it is long enough for one."""
    if len(cdr) < HEADER_END:
        return cdr
    return shift_leading(cdr, wall_clock_ns() - leading_stamp_ns(cdr))


class IntakeHarness:
    """An intake of its own, whose callbacks are called as the executor would call them."""

    def __init__(self, node: Node, samples: Samples, bundle: str) -> None:
        self.jobs, self.reasons, self._turn = 0, dict[str, str](), 0
        self.sees: set[str] = set()
        self._samples = samples
        sensors = [key for key in samples if key.isupper()]
        self.drops = DropCounter(self)
        # The intake takes raw images, and scans, only where somebody publishes them and nothing else.
        raw = next(key for key in samples if key.endswith(" raw"))
        node.create_publisher(Image, topics.raw_image_topic_of(raw.removesuffix(" raw")), 1)
        kinds = {key: samples[key][1] for key in sensors if key.startswith("RADAR")}
        for key, kind in kinds.items():
            node.create_publisher(kind, topics.topic_of(key), 1)
        self.intake = Intake(node, NodeParams(sensors=tuple(sensors)), self.drops, self._on_job)
        limit = time.monotonic() + 10.0
        while not self._listens(raw, kinds) and time.monotonic() < limit:
            time.sleep(0.1)
            self.intake.refresh()
        self._callbacks = {key: c.callback for key, c in self.intake.connections().items() if key in samples}
        self._spec = load_bundle(bundle).spec
        self._assembler: tuple[Rig, InputAssembler] | None = None

    def _listens(self, raw: str, kinds: Mapping[str, type[Any]]) -> bool:
        connections = self.intake.connections()
        return raw in connections and all(connections[key].kind is kind for key, kind in kinds.items())

    def warning(self, text: str) -> None:
        """Take a line of the drop counter, in place of a logger."""
        reason, _, detail = text.removeprefix("dropped, ").partition(" (")
        self.reasons.setdefault(reason, detail[:300])

    def __call__(self, key: str, cdr: bytes) -> None:
        """Hand over one message."""
        self._callbacks[key](cdr)

    def sound(self) -> None:
        """Hand over every sensor, /tf_static and the calibrations as they should be."""
        self._turn += 1
        for key in self._callbacks:
            cdrs = self._samples[key][0]
            cdr = cdrs[self._turn % len(cdrs)]
            self(key, cdr if key == topics.TF_STATIC else stamped_now(cdr))

    @property
    def inputs(self) -> list[str]:
        """Keys that can be fed."""
        return list(self._callbacks)

    def unaccounted(self) -> int:
        """Return messages of sensors that were neither admitted nor counted."""
        drops, left = self.intake.drops(), 0
        for name, report in self.intake.reports().items():
            counted = sum(
                n for r, n in drops.items() if r.startswith(f"{name}: ") and r != f"{name}: points not finite"
            )
            left += abs(report.received - report.admitted - counted - (name in self.intake.waiting))
        return left

    def _on_job(self, job: FrameJob) -> None:
        self.jobs += 1
        self.sees |= {modality_of_channel(n) or "" for n in (*job.snapshot.lidar, *job.snapshot.radars)}
        self.sees |= {modality_of_channel(n) or "" for n in job.snapshot.cameras}
        if self.jobs % INPUTS_EVERY == 0:
            if self._assembler is None or self._assembler[0].version != job.rig.version:
                self._assembler = (job.rig, InputAssembler(self._spec, job.rig))
            for reason, n in self._assembler[1](job.snapshot).drops.items():
                self.drops.count(reason, n=n)


def fuzz(options: argparse.Namespace, stop: threading.Event) -> None:
    """Feed the callbacks of an intake in this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rclpy.logging.set_logger_level("chaos_fuzz", rclpy.logging.LoggingSeverity.FATAL)
    node = Node("chaos_fuzz")
    samples = samples_of(options.source)
    harness = IntakeHarness(node, samples, options.bundle)
    _warm_up(harness)
    kinds: Counter[str] = Counter()
    longest_s, hangs, begun_s = 0.0, 0, time.monotonic()
    inputs = {key: (samples[key][0][0], samples[key][1]) for key in harness.inputs}
    for i, (key, what, cdr) in enumerate(islice(MalformedMessages(inputs, options.seed), options.messages)):
        # Nine of ten have a stamp of now, else nothing but their stamps would be refused.
        fresh = stamped_now(cdr) if i % 10 and key != topics.TF_STATIC and what != "header" else cdr
        took_s = _seconds(harness, key, fresh)
        longest_s, hangs = max(longest_s, took_s), hangs + (took_s > HANG_S)
        kinds[f"{samples[key][1].__name__}, {what}"] += 1
        if i % (SOUND_EVERY * len(inputs)) == 0:
            harness.sound()
        if i % 1000 == 0:
            emit("progress", messages=i)
        if stop.is_set():
            break
    harness.sees.clear()
    for _ in range(8):
        time.sleep(0.1)
        harness.sound()
    drops = harness.intake.drops()
    emit(
        "done",
        messages=sum(kinds.values()),
        hangs=hangs,
        longest_ms=round(longest_s * 1e3, 1),
        seconds=round(time.monotonic() - begun_s, 1),
        frames=harness.jobs,
        uncounted=harness.unaccounted(),
        sees_after=sorted(harness.sees),
        by_kind=dict(sorted(kinds.items())),
        reasons=_by_reason(drops),
        errors_inside={r: harness.reasons.get(r, "") for r in drops if r.endswith(": failed")},
    )
    node.destroy_node()


def _warm_up(harness: IntakeHarness) -> None:
    """Make the inputs of a frame once: what is compiled for it, a node has compiled before it is active."""
    limit = time.monotonic() + 60.0
    while harness.jobs <= INPUTS_EVERY and time.monotonic() < limit:
        harness.sound()
        time.sleep(0.05)


def _seconds(harness: IntakeHarness, key: str, cdr: bytes) -> float:
    """Return how long a message takes; one that hung without work, since other processes ran, is tried again."""
    took_s = HANG_S
    for _ in range(2):
        before_s, busy_s = time.perf_counter(), time.thread_time()
        harness(key, cdr)
        took_s, busy_s = time.perf_counter() - before_s, time.thread_time() - busy_s
        if took_s <= HANG_S or busy_s > HANG_S:
            break
    return took_s


def _by_reason(drops: Mapping[str, int]) -> dict[str, int]:
    """Return drops with the names of the sensors taken out."""
    found: Counter[str] = Counter()
    for reason, n in drops.items():
        found[reason.partition(": ")[2] or reason] += n
    return dict(found.most_common())


def live(options: argparse.Namespace, stop: threading.Event) -> None:
    """Publish malformed messages to a node that runs, and watch whether its frames go on."""
    node = Node("chaos_fuzz")
    samples = samples_of(options.source)
    seen_s: list[float] = []
    node.create_subscription(DiagnosticArray, "perception/status", lambda _: seen_s.append(time.monotonic()), 50)
    publishers = {key: _publisher(node, key, kind) for key, (_, kind) in samples.items()}
    with spinning(node):
        _until(lambda: seen_s and all(p.get_subscription_count() for k, p in publishers.items() if "raw" not in k))
        publishers[topics.TF_STATIC].publish(samples[topics.TF_STATIC][0][0])
        sent, before = 0, len(seen_s)
        for key, cdr in _mixed(samples, options.seed, options.messages):
            publishers[key].publish(cdr)
            sent += 1
            time.sleep(1.0 / options.rate_hz)
            if sent % 200 == 0:
                emit("progress", messages=sent)
            if stop.is_set():
                break
        time.sleep(0.5)
        frames = seen_s[max(0, before - 1) :]
    gaps = [b - a for a, b in pairwise(frames)]
    emit("done", messages=sent, frames=len(frames), longest_gap_s=round(max(gaps, default=float("inf")), 3))
    node.destroy_node()


def _publisher(node: Node, key: str, kind: type[Any]) -> Any:
    if key == topics.TF_STATIC:
        return node.create_publisher(kind, key, LATCHED)
    camera = key.partition(" ")[0]
    if key.endswith(" raw"):
        return node.create_publisher(kind, topics.raw_image_topic_of(camera), 10)
    topic = topics.camera_info_topic_of(camera) if " " in key else topics.topic_of(key)
    return node.create_publisher(kind, topic, 10)


def _mixed(samples: Samples, seed: int, messages: int) -> Iterator[tuple[str, bytes]]:
    """Yield as many messages as asked for: malformed ones, and a sound one of each sensor now and then."""
    sensors = [(key, cdrs) for key, (cdrs, _) in samples.items() if key != topics.TF_STATIC]
    inputs = {key: (cdrs[0], kind) for key, (cdrs, kind) in samples.items()}
    for i, (key, what, cdr) in enumerate(islice(MalformedMessages(inputs, seed), messages)):
        if i % SOUND_EVERY == 0:
            name, whole = sensors[i // SOUND_EVERY % len(sensors)]
            yield name, stamped_now(whole[i // SOUND_EVERY // len(sensors) % len(whole)])
        yield key, stamped_now(cdr) if what != "header" and key != topics.TF_STATIC else cdr


def _until(condition: Any, limit_s: float = 60.0) -> None:
    limit = time.monotonic() + limit_s
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos_fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="bag of a short drive, whose messages are damaged")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", default="demo", help="model whose inputs are made")
    parser.add_argument("--live", action="store_true", help="over DDS, to a perception node that runs")
    parser.add_argument("--rate-hz", type=float, default=300.0, help="with --live: messages a second")
    return parser.parse_args(arguments)


def main(args: Sequence[str] | None = None) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`."""
    options = _options(remove_ros_args(sys.argv if args is None else ["chaos_fuzz", *args])[1:])
    ros_main(partial(live if options.live else fuzz, options), args)


if __name__ == "__main__":
    main()
