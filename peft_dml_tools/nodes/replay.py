# SPDX-License-Identifier: Apache-2.0
"""Plays a bag or a nuScenes folder as a vehicle would: in real time, stamped now, with sensor faults on demand.

    python -m peft_dml_tools.nodes.replay drive.mcap --faults faults.yaml --weather rain=25
    ros2 param set /replay weather fog=50
    ros2 param set /replay faults "[{sensor: camera, fault: blackout}]"

The parameters `weather` and `faults` (YAML text) hold what is in force, and can be set while it plays.
With --json stdout carries JSON lines: `waiting`, `start` (with the shift of the stamps), `progress`, `switched` and
`done`.
SIGINT or SIGTERM ends it with exit code 0.
"""

import argparse
import gc
import itertools
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.nodes.runtime import POLL_S, ros_main
from peft_dml_tools.nodes.command_line import pattern
from peft_dml_tools.nodes.player import Player, wall_clock_ns
from peft_dml_tools.nodes.recordings import Playable, RecordedMessage, open_recording
from peft_dml_tools.nodes.replay_faults import MessageFaults
from peft_dml_tools.nodes.replay_parameters import FaultParameters, spinning
from peft_dml_tools.nodes.replay_report import ReplayReport, SentNotes
from peft_dml_tools.nodes.seamless_loop import SeamlessLoop
from peft_dml_tools.sim.faults import load_faults, weather_fault

SETTLE_S = 0.5


def replay(options: argparse.Namespace, stop: threading.Event) -> None:
    """Play until the end, or `stop` is set. Raises PeftDmlError: a wrong source, fault script or topic name."""
    played: Playable = open_recording(options.source, options.scene, as_recorded=options.as_recorded)
    begin_ns = played.start_ns + int(options.start * 1e9)
    if begin_ns >= played.end_ns:
        length_s = (played.end_ns - played.start_ns) / 1e9
        msg = f"--start {options.start} is past the end: {options.source} lasts {length_s:.1f} s"
        raise ConfigError(f"{msg}; fix: lower it")
    if options.seamless:
        played = SeamlessLoop(played)
    script = load_faults(Path(options.faults)) if options.faults else ()
    weather = weather_fault(options.weather, options.seed)
    faulty = MessageFaults(played.channels, lambda: played.rig, played.start_ns, (*script, *weather))
    faulty.warm_up(played.messages())
    node = Node("replay")
    report = ReplayReport(node, json_lines=options.json)
    FaultParameters(node, faulty, script, options.weather, options.seed, report.switched)
    channels = [c for c in played.channels.values() if not (options.exclude and options.exclude.search(c.topic))]
    player = Player(node, channels, rate=options.rate, clock=options.clock or options.rate != 1.0)
    with ExitStack() as stack:
        notes = SentNotes.opened(options.notes, played.channels, stack) if options.notes else None
        stack.enter_context(spinning(node))
        player.publish_latched(played.latched())
        if options.wait_for_node:
            _wait_for_node(player, options.wait_for_node, options.wait_s, stop, report)
        _wait_for(player, options.wait_for, options.wait_s, stop, report)
        player.on_sent = notes
        _play(options, played, faulty, player, begin_ns, stop, report)
        if notes:
            notes.finish(player.progress.late_max_ms)
    node.destroy_node()


def _play(
    options: argparse.Namespace,
    played: Playable,
    faulty: MessageFaults,
    player: Player,
    begin_ns: int,
    stop: threading.Event,
    report: ReplayReport,
) -> None:
    # The drivers of a vehicle are not Python; pauses of its collector would count as those of the node.
    gc.collect()
    gc.freeze()
    end_ns = min(played.end_ns, begin_ns + int(options.seconds * 1e9)) if options.seconds else played.end_ns
    while not stop.is_set():
        shift_ns = None if options.keep_stamps else wall_clock_ns() - begin_ns
        report.start(options.source, begin_ns, end_ns, shift_ns or 0, player.progress)
        messages = _until(faulty(played.messages(begin_ns)), end_ns)
        player.play(messages, begin_ns, shift_ns, stop, partial(report.progress, player.progress))
        if not options.loop:
            break
    silent_ns = wall_clock_ns()
    player.flush()
    if played.damage:
        sys.stderr.write(f"warning: {played.damage}\n")
    report.done(player.progress, silent_ns, stopped=stop.is_set(), damage=played.damage)


def _until(messages: Iterable[RecordedMessage], end_ns: int) -> Iterator[RecordedMessage]:
    return itertools.takewhile(lambda message: message.time_ns < end_ns, messages)


def _wait_for(
    player: Player, wanted: Sequence[str], limit_s: float, stop: threading.Event, report: ReplayReport
) -> None:
    """Wait until topics have their subscribers: `TOPIC` for one, `TOPIC=N` for N of them."""
    split = [entry.partition("=") for entry in wanted]
    if wrong := [entry for entry, (_, _, n) in zip(wanted, split, strict=True) if n and not n.isdecimal()]:
        raise ConfigError(f"--wait-for {wrong[0]}; fix: give TOPIC or TOPIC=N, e.g. /lidar_top/points=2")
    counts = {topic: int(n or 1) for topic, _, n in split}
    if not counts:
        return
    limit = time.monotonic() + limit_s
    report.waiting(counts)
    while any(player.subscribers(topic) < n for topic, n in counts.items()):
        if time.monotonic() > limit:
            found = {topic: player.subscribers(topic) for topic in counts}
            msg = f"after {limit_s} s subscribers are {found}, wanted {counts}; fix: start them, or raise --wait-s"
            raise DataError(msg)
        if stop.wait(POLL_S / 4):
            return
    _settle(player, stop)


def _wait_for_node(player: Player, name: str, limit_s: float, stop: threading.Event, report: ReplayReport) -> None:
    """Wait until a node listens to what is played; after the limit the recording is played all the same."""
    limit = time.monotonic() + limit_s
    report.waiting({name: 1})
    while not player.listens(name):
        if time.monotonic() > limit:
            sys.stderr.write(f"warning: node {name} listens to nothing after {limit_s:g} s; playing without it\n")
            return
        if stop.wait(POLL_S / 4):
            return
    _settle(player, stop)


def _settle(player: Player, stop: threading.Event) -> None:
    """Wait until no further topic finds a subscriber: a node's subscriptions are found one after the other."""
    before = -1
    while (now := player.connections()) != before and not stop.wait(SETTLE_S):
        before = now


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="replay", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="bag (.mcap, .db3 or folder) or nuScenes folder")
    parser.add_argument("--faults", default="", help="fault script, a YAML list of {sensor, fault, from_s, to_s}")
    parser.add_argument("--weather", default="clear", help="fog=50 (visibility in m), rain=25 or snow=5 (mm/h)")
    parser.add_argument("--seed", type=int, default=0, help="of the weather's randomness")
    parser.add_argument("--rate", type=float, default=1.0, help="recorded seconds per second; other than 1: --clock")
    parser.add_argument("--start", type=float, default=0.0, help="seconds to skip at the beginning")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this long; 0: with the recording")
    parser.add_argument("--loop", action="store_true", help="start again at the end, until stopped")
    parser.add_argument("--seamless", action="store_true", help="repeat whole seconds of a short drive without a seam")
    parser.add_argument("--clock", action="store_true", help="publish /clock, for nodes with use_sim_time")
    parser.add_argument("--keep-stamps", action="store_true", help="do not shift header stamps to now")
    parser.add_argument("--wait-for", nargs="*", default=[], metavar="TOPIC[=N]", help="wait for N subscribers")
    parser.add_argument("--wait-for-node", default="", metavar="NAME", help="wait until this node listens, then play")
    parser.add_argument("--wait-s", type=float, default=30.0, help="longest wait for subscribers")
    parser.add_argument("--exclude", type=pattern, help="topics not to play: a regular expression")
    parser.add_argument("--as-recorded", action="store_true", help="keep the topics of a bag with foreign names")
    parser.add_argument("--scene", help="scene of a nuScenes folder")
    parser.add_argument("--notes", type=Path, help="file for what was sent when, as JSON lines")
    parser.add_argument("--json", action="store_true", help="write JSON lines to stdout instead of ROS log lines")
    options = parser.parse_args(arguments)
    if not 0.0 < options.rate <= 100.0:
        parser.error(f"--rate {options.rate}; fix: give more than 0, at most 100")
    return options


def played(args: Sequence[str] | None = None) -> bool:
    """Play as the command line says, including `--ros-args`; return False when a signal ended it before its end."""
    options = _options(remove_ros_args(sys.argv if args is None else ["replay", *args])[1:])
    return ros_main(partial(replay, options), args)


def main() -> None:
    """Entry point; a signal is an orderly end, as launch sends one."""
    played()


if __name__ == "__main__":
    main()
