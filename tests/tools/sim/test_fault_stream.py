# SPDX-License-Identifier: Apache-2.0
"""What each kind of fault makes of a stream of measurements."""

from itertools import pairwise

import numpy as np
import pytest

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.sim.fault_effects import damaged_bytes
from peft_dml_tools.sim.faults import KINDS, MESSAGE_CORRUPTIONS, Fault, weather_fault
from peft_dml_tools.sim.faulty_source import FaultySource
from peft_dml_tools.sim.weather.images import decode
from tests.support import scenes
from tests.support.drive_bag import MadeUpDrive
from tests.support.scenes import START_NS

SOUND = MadeUpDrive(2000, 400)


def arrivals(*faults, sensor="LIDAR_TOP"):
    """(time of arrival, measurement) of one sensor."""
    return [(at, m) for at, name, m in FaultySource(SOUND, faults).arrivals() if name == sensor]


def stamps_ms(found):
    return [(m.stamp_ns - START_NS) // 1_000_000 for _, m in found]


def fault(kind, **values):
    return Fault(sensor=values.pop("sensor", "LIDAR_TOP"), fault=kind, **values)


def test_without_faults_nothing_changes():
    assert [at for at, _, m in FaultySource(SOUND, ()).arrivals()] == [m.stamp_ns for _, m in SOUND.measurements()]


def test_drop_loses_a_share_and_always_the_same():
    once, twice = (arrivals(fault("drop", share=0.4, from_s=0.5)) for _ in range(2))
    assert stamps_ms(once) == stamps_ms(twice)
    assert stamps_ms(once)[:5] == [0, 100, 200, 300, 400]
    assert 5 <= len(once[5:]) <= 13
    assert stamps_ms(arrivals(fault("drop", share=0.4, from_s=0.5, seed=1))) != stamps_ms(once)


def test_jitter_delays_each_by_its_own():
    lateness_s = [(at - m.stamp_ns) / 1e9 for at, m in arrivals(fault("jitter", delay_s=0.08))]
    assert 0 <= min(lateness_s) < 0.02
    assert 0.06 < max(lateness_s) < 0.08
    assert len(lateness_s) == 20


def test_skew_moves_stamps_but_not_arrivals():
    found = arrivals(fault("skew", offset_s=-0.25))
    assert [at - m.stamp_ns for at, m in found] == [250_000_000] * 20


def test_reordered_messages_change_places_with_the_next():
    assert stamps_ms(arrivals(fault("reorder")))[:6] == [100, 0, 300, 200, 500, 400]
    some = stamps_ms(arrivals(fault("reorder", share=0.3)))
    assert sorted(some) == [100 * k for k in range(20)]
    assert 1 <= sum(after < before for before, after in pairwise(some)) <= 10


def test_duplicates_come_twice():
    assert stamps_ms(arrivals(fault("duplicate", to_s=0.2)))[:5] == [0, 0, 100, 100, 200]


def test_a_delay_holds_back_what_arrives_in_the_window():
    found = arrivals(fault("delay", delay_s=0.25, to_s=0.15))
    assert stamps_ms(found)[:5] == [200, 0, 300, 100, 400]
    assert [(at - START_NS) // 1_000_000 for at, _ in found][:5] == [200, 250, 300, 350, 400]


def test_blackout_leaves_an_empty_cloud_and_a_black_picture():
    assert {len(m.points) for _, m in arrivals(fault("blackout"))} == {0}
    black = arrivals(fault("blackout", sensor="camera", share=0.5), sensor="CAM_FRONT")
    dark = [int(decode(m).max()) <= 3 for _, m in black]
    assert 0 < sum(dark) < len(dark) == 25
    assert len(arrivals(fault("blackout", sensor="all"), sensor="IMU")) == 200


@pytest.mark.parametrize(
    ("name", "sensor"),
    [("pointsreducing", "LIDAR_TOP"), ("dark", "CAM_FRONT"), ("radar_spurious_points", "RADAR_FRONT")],
)
def test_a_corruption_by_name_acts_as_on_a_frame(name, sensor):
    changed = arrivals(fault("corrupt", sensor="all", corruption=name, severity=3, to_s=0.2), sensor=sensor)
    sound = arrivals(sensor=sensor)
    if sensor == "CAM_FRONT":
        assert decode(changed[0][1]).mean() < 0.5 * decode(sound[0][1]).mean()
        assert changed[-1][1].jpeg == sound[-1][1].jpeg
    else:
        ratio = len(changed[0][1].points) / len(sound[0][1].points)
        assert ratio == pytest.approx({"pointsreducing": 0.1, "radar_spurious_points": 2.0}[name])


def test_misalignment_in_time_repeats_the_last_but_this_stamp():
    changed = arrivals(fault("corrupt", corruption="temporalmisalignment", severity=3))
    sound = arrivals()
    assert stamps_ms(changed) == stamps_ms(sound)
    old = [np.array_equal(changed[i][1].points, sound[i - 1][1].points) for i in range(1, 20)]
    assert 5 <= sum(old) <= 17


def test_damaged_bytes_hit_points_and_pictures():
    changed = arrivals(fault("corrupt", severity=1))
    wrong = [
        np.any(m.points[: len(s.points)] != s.points[: len(m.points)])
        for (_, m), (_, s) in zip(changed, arrivals(), strict=True)
    ]
    assert all(wrong)
    assert not arrivals(fault("corrupt", severity=3))
    sizes = [len(m.jpeg) for _, m in arrivals(fault("corrupt", severity=3, sensor="camera"), sensor="CAM_BACK")]
    assert sizes == [len(m.jpeg) // 2 for _, m in arrivals(sensor="CAM_BACK")]


def test_the_stamp_is_spared():
    data = bytes(4000)
    rng = np.random.default_rng(0)
    assert damaged_bytes(data, 2, rng, spare=12)[:12] == data[:12]
    assert sum(b != 0 for b in damaged_bytes(data, 2, rng, spare=12)) >= 35
    assert damaged_bytes(data, 3, rng) == data[:2000]
    assert damaged_bytes(b"\0" * 12, 1, rng, spare=12) == b"\0" * 12


def test_weather_in_a_window_hits_every_seeing_sensor():
    window = Fault(fault="weather", weather="fog=30", from_s=0.5, to_s=1.0)
    for sensor in ("LIDAR_TOP", "CAM_FRONT"):
        pairs = list(zip(arrivals(window, sensor=sensor), arrivals(sensor=sensor), strict=True))
        same = [_same(m, s) for (_, m), (_, s) in pairs]
        inside = [0.5e9 <= m.stamp_ns - START_NS < 1e9 for (_, m), _ in pairs]
        assert same == [not i for i in inside]


def test_pictures_take_their_depth_from_the_clear_sweep():
    """A wall 5 m ahead stays visible in a fog that hides what is far away."""

    def wall(stamp_ns):
        y, z = (v.ravel() for v in np.meshgrid(np.linspace(-6, 6, 200), np.linspace(-1.7, 3, 80)))
        points = np.stack([y, np.full(y.size, 5.0), z, np.full(y.size, 20.0), np.zeros(y.size)], axis=1)
        return scenes.LidarSweep(stamp_ns, points.astype(np.float32))

    class Walled(MadeUpDrive):
        def measurements(self):
            for name, m in super().measurements():
                yield name, wall(m.stamp_ns) if name == "LIDAR_TOP" else m

    def contrast(drive):
        pictures = [m for n, m in FaultySource(drive, weather_fault("fog=30")).measurements() if n == "CAM_FRONT"]
        sound = [m for n, m in drive.measurements() if n == "CAM_FRONT"]
        return float(np.abs(decode(pictures[1]).astype(float) - decode(sound[1])).mean())

    assert contrast(Walled(200)) < 0.8 * contrast(MadeUpDrive(200, 0))


def _same(a, b):
    return a.jpeg == b.jpeg if hasattr(a, "jpeg") else np.array_equal(a.points, b.points)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_runs_on_every_sensor(kind):
    values = {"weather": {"weather": "rain=50"}, "corrupt": {"corruption": "motionblur"}}.get(kind, {})
    drive = MadeUpDrive(400, 100)
    found = list(FaultySource(drive, [Fault(sensor="all", fault=kind, **values)]).arrivals())
    assert [at for at, _, _ in found] == sorted(at for at, _, _ in found)
    assert bool(found) == (kind not in {"silence", "drop"})


@pytest.mark.parametrize("name", MESSAGE_CORRUPTIONS)
def test_every_corruption_runs_on_messages(name):
    drive = MadeUpDrive(150, 100)
    assert len(list(FaultySource(drive, [fault("corrupt", sensor="all", corruption=name, severity=1)]).arrivals())) >= 5


def test_a_sensor_that_the_source_lacks_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'CAM_FRONT'"):
        FaultySource(SOUND, [fault("silence", sensor="CAM_FRONT_LEFT")])
