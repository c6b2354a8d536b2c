# SPDX-License-Identifier: Apache-2.0
"""The load controller on a simulated machine: it gives up in order, holds the pace, and takes everything back."""

import pytest

from peft_dml_ros.core.load import Effort, FrameLoad, LoadController, ladder, spare_cores, usable_cores
from peft_dml_ros.core.params import LoadParams, PaceParams
from peft_dml_ros.core.spec import LidarSpec, ModelSpec

PERIOD_MS = 100.0
COSTS_MS = {"camera": 60.0, "lidar": 30.0, "radar": 15.0, "fusion": 20.0}
"""Milliseconds of each graph at nuScenes' rates: 125 for everything in every frame, more than a period."""


class Machine:
    """A detector whose graphs take so long, one slot for the newest frame, and the controller.

    Attributes:
        factor: How much slower than `COSTS_MS` everything is.
        hold_up: (every so many ms, for so long) the whole machine stands still, whatever the detector does.
    """

    def __init__(self, factor=1.0, pace=None, offset_ms=0.0, hold_up=None, **load):
        pace = pace or PaceParams(camera_hz=0.0)
        self.controller = LoadController(LoadParams(**load), pace, ModelSpec())
        self.factor, self.now_ms, self.offset_ms, self.hold_up = factor, 0.0, offset_ms, hold_up
        self.hold_ups = 0
        self.last_ms = {"camera": -1e9, "radar": -1e9}
        self.latencies_ms, self.history = [], []
        self.triggered = self.published = self.superseded = 0

    def cost_ms(self, stamp_ms):
        effort = self.controller.effort
        spent = {"fusion": COSTS_MS["fusion"], "lidar": COSTS_MS["lidar"] * (0.4 + 0.2 * (effort.sweeps or 3))}
        for name in ("camera", "radar"):
            if stamp_ms - self.last_ms[name] >= effort.period_ns(name) / 1e6 - 30:
                self.last_ms[name] = stamp_ms
                spent[name] = COSTS_MS[name]
        return {name: ms * self.factor for name, ms in spent.items()}

    def held_up_ms(self, to_ms):
        """Return how long the machine stands still from the last frame to the end of this one."""
        if self.hold_up is None:
            return 0.0
        every_ms, long_ms = self.hold_up
        before, self.hold_ups = self.hold_ups, to_ms // every_ms
        return long_ms * (self.hold_ups - before)

    def run(self, seconds):
        """Let the LiDAR send for so long; the newest frame wins."""
        end_ms, missed = self.now_ms + seconds * 1e3, 0
        free_ms = self.now_ms
        due_ms = self.now_ms
        while due_ms < end_ms:
            self.triggered += 1
            following = due_ms + PERIOD_MS
            if free_ms > following:
                # Another frame comes before the worker is free: this one is never seen.
                self.superseded, missed, due_ms = self.superseded + 1, missed + 1, following
                continue
            start_ms = max(free_ms, due_ms)
            stages_ms = self.cost_ms(due_ms)
            busy_ms = sum(stages_ms.values())
            busy_ms += self.held_up_ms(start_ms + busy_ms)
            free_ms = start_ms + busy_ms
            self.published += 1
            latency_ms = free_ms - due_ms + self.offset_ms
            self.latencies_ms.append(latency_ms)
            frame = FrameLoad(self.offset_ms, latency_ms, busy_ms, missed, stages_ms)
            if self.controller.observe(free_ms / 1e3, frame):
                self.history.append((round(free_ms / 1e3, 1), self.controller.effort))
            missed, due_ms = 0, following
        self.now_ms = end_ms
        return self

    @property
    def effort(self):
        return self.controller.effort


def test_the_ladder_gives_up_in_order_and_keeps_what_it_is_told_to():
    steps = ladder(PaceParams(camera_hz=0.0), (), ModelSpec(lidar=LidarSpec(sweeps=10)))
    assert [(s.camera_hz, s.radar_hz, s.sweeps) for s in steps] == [
        (0, 0, 0), (5, 0, 0), (2.5, 0, 0), (2.5, 5, 0), (2.5, 2.5, 0), (2.5, 2.5, 5), (2.5, 2.5, 1),
    ]  # fmt: skip
    assert [len(s.given_up) for s in steps] == [0, 1, 1, 2, 2, 3, 3]
    assert steps[-1].given_up[2].startswith("1 of 10 LiDAR sweeps")
    # What is not run more often anyway is not given up.
    assert ladder(PaceParams(camera_hz=5.0), (), ModelSpec())[1].camera_hz == 2.5
    kept = ladder(PaceParams(), ("cameras", "sweeps"), ModelSpec())
    assert {(s.camera_hz, s.sweeps) for s in kept} == {(5.0, 0)}
    assert len(ladder(PaceParams(), ("cameras", "radars", "sweeps"), ModelSpec())) == 1
    with pytest.raises(ValueError, match="did you mean 'cameras'"):
        LoadParams(keep=("camera",))


def test_a_fast_machine_gives_up_nothing():
    machine = Machine(factor=0.5).run(30)
    assert machine.effort == Effort()
    assert machine.published == machine.triggered
    assert not machine.history


def test_a_machine_a_little_too_slow_gives_up_pace_of_cameras_and_holds_the_rate():
    machine = Machine().run(10)
    assert machine.effort.camera_hz == 5.0
    assert machine.effort.given_up == ("cameras at 5 Hz, up to 0.2 s old",)
    assert machine.controller.words().startswith(
        "LOADED: the machine is too slow for everything, given up: cameras at 5"
    )
    before = machine.superseded
    machine.run(3)
    assert machine.superseded == before


def test_it_recovers_by_itself_and_says_so():
    machine = Machine(factor=2.0).run(15)
    assert len(machine.effort.given_up) >= 2
    machine.factor = 0.4
    machine.run(90)
    assert machine.effort == Effort()
    assert "keeps up again" in machine.controller.words()


def test_it_does_not_flap_when_other_work_comes_and_goes():
    machine, changes = Machine(), []
    for _ in range(60):
        for factor in (0.4, 1.6):
            machine.factor = factor
            machine.run(6)
        changes.append(len(machine.history))
    # Each try to do everything costs a bad second: tries become rare.
    assert changes[-1] - changes[30] < changes[30] / 2
    assert machine.published / machine.triggered > 0.9


def test_a_machine_that_is_just_fast_enough_stays_as_it_is():
    machine = Machine(factor=1.1).run(300)
    assert 1 <= len(machine.history) <= 3
    assert machine.published / machine.triggered > 0.98


def test_hold_ups_from_elsewhere_make_nothing_be_given_up():
    # 95 % of the time is used with cameras at 5 Hz; every six seconds the machine stands still for five frames.
    machine = Machine(pace=PaceParams(camera_hz=5.0), hold_up=(6000.0, 500.0)).run(120)
    assert machine.superseded > 50
    assert not machine.history


def test_a_machine_that_has_the_time_for_5_hz_comes_back_to_5_hz_in_spite_of_hold_ups():
    machine = Machine(factor=3.0, hold_up=(6000.0, 500.0)).run(10)
    assert machine.effort.sweeps == 1
    # The other work has gone: 86 % of the time is used at 5 Hz, 113 % would be at 10 Hz.
    machine.factor = 0.9
    machine.run(40)
    assert machine.effort == Effort(camera_hz=5.0, given_up=("cameras at 5 Hz, up to 0.2 s old",))
    changes = len(machine.history)
    machine.run(600)
    assert len(machine.history) == changes


def test_one_frame_lost_in_every_second_is_too_slow():
    machine = Machine(factor=1.0, pace=PaceParams(camera_hz=5.0), hold_up=(1000.0, 120.0)).run(20)
    assert machine.effort.camera_hz == 2.5


def test_a_step_that_was_taken_back_in_vain_waits_longer_and_the_others_do_not():
    machine = Machine(factor=2.2).run(10)
    machine.factor = 0.9
    machine.run(40)
    assert machine.effort.camera_hz == 5.0
    for _ in range(4):
        machine.factor = 0.5
        machine.run(12)
        machine.factor = 1.0
        machine.run(4)
    assert max(machine.controller._patience_s) >= 8.0
    assert machine.controller._patience_s[2:] == [4.0] * len(machine.controller._patience_s[2:])


def test_when_nothing_is_left_it_says_what_the_user_can_do():
    machine = Machine(factor=8.0).run(60)
    assert machine.effort.sweeps == 1
    assert "nothing is left to give up, fix: fewer sensors" in machine.controller.words()
    assert machine.triggered == machine.published + machine.superseded


def test_a_driver_that_stamps_early_makes_no_machine_slow():
    machine = Machine(factor=0.5, offset_ms=400.0).run(30)
    assert not machine.history


def test_latency_alone_is_reason_enough():
    machine = Machine(factor=0.75, max_latency_ms=50.0).run(10)
    assert not machine.superseded
    assert machine.effort.given_up


def test_spare_cores_leave_out_what_others_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert usable_cores() == 8
    for load, spare in ((0.0, 8), (2.2, 6), (7.5, 4), (30.0, 4)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0, 0))
        assert spare_cores() == spare
    for usable in ({0}, {0, 1}):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, usable=usable: usable)
        assert spare_cores() == len(usable)
