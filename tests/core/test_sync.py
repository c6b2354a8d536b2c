# SPDX-License-Identifier: Apache-2.0
"""The synchroniser: frames go on when any sensor dies, and everything left out has a reason."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.health import State
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import HealthParams, PerceptionParams, SyncParams
from peft_dml_ros.core.sync import NO_REFERENCE, Synchroniser
from tests.support import scenes
from tests.support.scenes import MS, START_NS

SENSORS = ("LIDAR_TOP", "CAM_FRONT", "CAM_BACK", "RADAR_FRONT", "IMU", "GNSS", "ODOM")
SCHEDULE = {"LIDAR_TOP": (100, 0), "CAM_FRONT": (83, 7), "CAM_BACK": (83, 31), "RADAR_FRONT": (77, 13)}
MAKERS = {"LIDAR_TOP": scenes.lidar, "CAM_FRONT": scenes.image, "CAM_BACK": scenes.image, "RADAR_FRONT": scenes.radar}
MAKERS |= {"IMU": scenes.imu, "GNSS": scenes.gnss, "ODOM": scenes.odometry}
SCHEDULE |= {"IMU": (10, 1), "GNSS": (100, 3), "ODOM": (20, 5)}


def events(duration_ms, silent=None):
    """(time in ms, sensor) in order; `silent` maps a sensor to its (from, to) in ms."""
    silent = silent or {}
    found = []
    for name, (period, phase) in SCHEDULE.items():
        low, high = silent.get(name, (0, 0))
        found += [(t, name) for t in range(phase, duration_ms, period) if not low <= t < high]
    return sorted(found)


def play(sync, schedule):
    frames = []
    for t, name in schedule:
        stamp = START_NS + t * MS
        if (snapshot := sync.add(name, MAKERS[name](stamp), stamp)) is not None:
            frames.append(snapshot)
    return frames


def stamps_ms(frames):
    return [(f.stamp_ns - START_NS) // MS for f in frames]


@pytest.fixture
def sync():
    return Synchroniser(PerceptionParams(), SENSORS)


def test_the_lidar_sets_the_time(sync):
    frames = play(sync, events(1000))
    assert stamps_ms(frames) == list(range(0, 1000, 100))
    assert {f.reference for f in frames} == {"LIDAR_TOP"}
    last = frames[-1]
    assert last.present == ("lidar", "camera", "radar", "imu", "gnss")
    assert [s.stamp_ns for s in last.lidar["LIDAR_TOP"]][:2] == [last.stamp_ns, last.stamp_ns - 100 * MS]
    assert not last.gated
    assert all(image.stamp_ns <= last.stamp_ns for image in last.cameras.values())


def test_cameras_take_over_when_the_lidar_dies_and_give_back_when_it_lives(sync):
    frames = play(sync, events(6000, {"LIDAR_TOP": (2000, 4000)}))
    silent = [f for f in frames if 2100 <= (f.stamp_ns - START_NS) // MS < 4000]
    assert len(silent) >= 18
    assert all(f.reference.startswith("CAM") for f in silent)
    assert all("lidar" not in f.present for f in silent[2:])
    assert all(f.gated.get("LIDAR_TOP") == "stale" for f in silent[2:])
    gaps = np.diff(stamps_ms(frames))
    assert gaps.max() <= 200
    assert gaps.min() >= 50
    assert frames[-1].reference == "LIDAR_TOP"


def test_radar_takes_over_when_lidar_and_cameras_die(sync):
    dead = dict.fromkeys(("LIDAR_TOP", "CAM_FRONT", "CAM_BACK"), (1000, 9000))
    frames = play(sync, events(3000, dead))
    late = [f for f in frames if (f.stamp_ns - START_NS) // MS > 1500]
    assert len(late) >= 13
    assert {f.reference for f in late} == {"RADAR_FRONT"}
    assert late[-1].present == ("radar", "imu", "gnss")


@pytest.mark.parametrize("alive", ["LIDAR_TOP", "CAM_BACK", "RADAR_FRONT"])
def test_any_single_sensor_is_enough(alive):
    sync = Synchroniser(PerceptionParams(), SENSORS)
    frames = play(sync, [e for e in events(2000) if e[1] == alive])
    assert len(frames) >= 15
    assert frames[-1].gated.keys() == set(SENSORS) - {alive}
    assert set(frames[-1].gated.values()) == {"missing"}


def test_nothing_at_all_still_makes_empty_frames_by_the_clock(sync):
    frames = [f for k in range(40) if (f := sync.tick(START_NS + k * 50 * MS))]
    assert len(frames) >= 15
    assert {f.reference for f in frames} == {NO_REFERENCE}
    assert not frames[-1].present
    assert play(sync, [(2100, "LIDAR_TOP")])[0].reference == "LIDAR_TOP"


def test_a_living_sensor_keeps_the_clock_quiet(sync):
    for t, name in events(2000):
        sync.add(name, MAKERS[name](START_NS + t * MS), START_NS + t * MS)
        assert sync.tick(START_NS + t * MS) is None


def test_a_frozen_sensor_is_found_gated_and_readmitted(sync):
    frozen = scenes.lidar(START_NS)
    frames = []
    for t, name in events(4000):
        stamp = START_NS + t * MS
        measurement = MAKERS[name](stamp)
        if name == "LIDAR_TOP" and 1000 <= t < 2500:
            measurement = replace(frozen, stamp_ns=stamp)
        if (snapshot := sync.add(name, measurement, stamp)) is not None:
            frames.append(snapshot)
        if t == 2400:
            assert sync.states(stamp)["LIDAR_TOP"].state.name == "FROZEN"
    frozen_frames = [f for f in frames if 1550 < (f.stamp_ns - START_NS) // MS < 2500]
    assert len(frozen_frames) >= 8
    assert all(f.gated["LIDAR_TOP"] == "frozen" for f in frozen_frames)
    assert "LIDAR_TOP" not in frames[-1].gated
    assert sync.drops["LIDAR_TOP: frozen"] >= 12


def test_bad_stamps_are_refused_by_name(sync):
    play(sync, events(300))
    now = START_NS + 300 * MS
    assert sync.add("LIDAR_TOP", scenes.lidar(now + 900 * MS), now) is None
    assert sync.states(now)["LIDAR_TOP"].state.name in {"OK", "CLOCK"}
    sync.add("LIDAR_TOP", scenes.lidar(START_NS + 150 * MS), now)
    sync.add("LIDAR_TOP", scenes.lidar(START_NS + 200 * MS), now)
    sync.add("NO_SUCH", scenes.lidar(now), now)
    assert dict(sync.drops) == {
        "LIDAR_TOP: stamp from the future": 1,
        "LIDAR_TOP: out of order": 1,
        "LIDAR_TOP: duplicate stamp": 1,
        "NO_SUCH: not configured": 1,
    }
    assert play(sync, [(400, "LIDAR_TOP")])


def test_a_bag_loop_starts_over(sync):
    play(sync, events(10000))
    frames = play(sync, events(1000))
    assert stamps_ms(frames)[-1] == 900
    assert sync.drops["clock stepped back"] == 1


@pytest.mark.parametrize("name", ["LIDAR_TOP", "IMU"])
def test_a_glitch_of_one_clock_takes_nothing_from_the_others(sync, name):
    play(sync, events(1000))
    now = START_NS + 1000 * MS
    assert sync.add(name, MAKERS[name](MS), now) is None
    frames = play(sync, [(t + 1000, n) for t, n in events(200)])
    assert dict(sync.drops) == {f"{name}: stamp from the past": 1}
    assert stamps_ms(frames) == [1000, 1100]
    assert len(frames[0].lidar["LIDAR_TOP"]) > 5


@pytest.mark.parametrize("name", ["LIDAR_TOP", "RADAR_FRONT", "IMU"])
def test_a_sensor_whose_clock_is_lost_is_shut_out_alone(sync, name):
    play(sync, events(1000))
    names = []
    for time_ms, sensor in events(1000):
        now = START_NS + (1000 + time_ms) * MS
        behind = 20_000 * MS if sensor == name else 0
        sync.add(sensor, MAKERS[sensor](now - behind), now)
        if sensor == name:
            names.append(sync.states(now)[name].state.name)
    assert names[1:] == ["CLOCK"] * (len(names) - 1)
    assert "clock stepped back" not in sync.drops
    assert {s for s, found in sync.states(now).items() if found.state.name == "CLOCK"} == {name}


def test_a_fault_is_told_while_older_measurements_are_still_fresh(sync):
    play(sync, events(1000))
    frozen = MAKERS["RADAR_FRONT"](START_NS)
    for time_ms in (1000, 1077, 1154):
        now = START_NS + time_ms * MS
        sync.add("RADAR_FRONT", replace(frozen, stamp_ns=now), now)
    assert sync.states(now)["RADAR_FRONT"].state.name == "FROZEN"


def test_a_single_sensor_may_start_over_as_well():
    sync = Synchroniser(PerceptionParams(), ["LIDAR_TOP"])
    play(sync, [(t, "LIDAR_TOP") for t in range(0, 10000, 100)])
    frames = play(sync, [(t, "LIDAR_TOP") for t in range(0, 1000, 100)])
    assert stamps_ms(frames) == list(range(200, 1000, 100))


def test_an_empty_sweep_is_degraded(sync):
    play(sync, events(300))
    sync.add("LIDAR_TOP", scenes.lidar(START_NS + 300 * MS, n=3), START_NS + 300 * MS)
    assert sync.drops["LIDAR_TOP: too few points"] == 1


def test_twenty_hertz_in_ten_hertz_out(sync):
    frames = play(sync, [(t, "LIDAR_TOP") for t in range(0, 2000, 50)])
    assert len(frames) == 20
    assert len(frames[-1].lidar["LIDAR_TOP"]) > 2


def test_counts_per_sensor_add_up(sync):
    schedule = events(5000, {"CAM_FRONT": (1000, 2000)})
    frames = play(sync, schedule)
    state = sync.states(START_NS + 5000 * MS)["CAM_FRONT"]
    assert state.gated == sum("CAM_FRONT" in f.gated for f in frames) > 5
    assert state.received == sum(name == "CAM_FRONT" for _, name in schedule)
    assert state.rate_hz == pytest.approx(12, rel=0.1)


@pytest.mark.parametrize("sensor", ["LIDAR_TOP", "CAM_FRONT", "RADAR_FRONT"])
def test_a_sensor_whose_data_arrive_late_ends_a_blind_stretch(sensor):
    sync = Synchroniser(PerceptionParams(), [sensor])
    references = []
    for t in range(0, 4000, 10):
        now = START_NS + t * MS
        if (frame := sync.tick(now)) is not None:
            references.append(frame.reference)
        # From 2 s on a measurement every 100 ms, each 120 ms on its way: older than the last frame by the clock.
        if t >= 2000 and t % 100 == 0:
            frame = sync.add(sensor, MAKERS[sensor](now - 120 * MS), now)
            references += [frame.reference] if frame is not None else []
    assert references[0] == NO_REFERENCE
    assert references[-15:] == [sensor] * 15


def test_a_sensor_far_behind_the_others_clock_is_refused_and_a_bag_without_clock_is_not(sync):
    hour = 3_600_000 * MS
    frames = []
    for t, name in events(1500):
        now = START_NS + t * MS
        stamp = now - hour if name == "LIDAR_TOP" else now
        if (snapshot := sync.add(name, MAKERS[name](stamp), now)) is not None:
            frames.append(snapshot)
    assert sync.states(START_NS + 1500 * MS)["LIDAR_TOP"].state.name == "CLOCK"
    assert all(f.reference.startswith("CAM") for f in frames[1:])
    assert len(frames) >= 10

    old = Synchroniser(PerceptionParams(), SENSORS)
    found = [old.add(n, MAKERS[n](START_NS + t * MS), START_NS + t * MS + hour) for t, n in events(1000)]
    assert sum(f is not None for f in found) == 10
    assert not old.drops


def test_two_inertial_units_make_one_stream_in_time_order():
    sync = Synchroniser(PerceptionParams(), ("LIDAR_TOP", "IMU", "IMU_2"))
    for k in range(10):
        for name, late in (("IMU", 0), ("IMU_2", 5)):
            stamp = START_NS + (10 * k + late) * MS
            sync.add(name, scenes.imu(stamp), stamp)
    (frame,) = play(sync, [(100, "LIDAR_TOP")])
    stamps = [m.stamp_ns for m in frame.imu]
    assert len(stamps) == 20
    assert stamps == sorted(stamps)


def blank(stamp_ns, shade):
    """A picture that is the same everywhere, but for a mark of its stamp that keeps it from being frozen."""
    pixels = np.full((198, 352, 3), shade, np.uint8)
    pixels[1:3, 1:3] = stamp_ns // MS % 200
    return CameraImage(stamp_ns, pixels=pixels)


@pytest.mark.parametrize(("shade", "reason"), [(0, "dark image"), (128, "blank image")])
def test_a_covered_camera_is_degraded_within_the_time_of_a_look_and_readmitted(sync, shade, reason):
    gated = {}
    for t, name in events(4000):
        stamp = START_NS + t * MS
        covered = name == "CAM_FRONT" and 1000 <= t < 2500
        measurement = blank(stamp, shade) if covered else MAKERS[name](stamp)
        if (snapshot := sync.add(name, measurement, stamp)) is not None:
            gated[t] = snapshot.gated.get("CAM_FRONT")
        if t == 2400:
            assert sync.states(stamp)["CAM_FRONT"].state is State.DEGRADED
    assert all(gated[t] is None for t in gated if 0 < t < 1000 or t > 2800)
    assert all(gated[t] == "degraded" for t in gated if 1700 <= t < 2500)
    assert sync.drops[f"CAM_FRONT: {reason}"] >= 10
    assert sync.drops["CAM_FRONT: on probation after DEGRADED"] == 1


def test_a_sensor_is_late_before_it_is_stale_and_used_meanwhile(sync):
    play(sync, events(1000))
    seen = [sync.states(START_NS + t * MS)["LIDAR_TOP"].state for t in range(900, 1400, 10)]
    order = list(dict.fromkeys(seen))
    assert order == [State.OK, State.LATE, State.STALE]
    assert "nothing for" in sync.states(START_NS + 1100 * MS)["LIDAR_TOP"].reason


def test_points_that_are_mostly_invalid_shut_a_sensor_out_after_two_sweeps_and_two_good_ones_let_it_in(sync):
    refused = []
    for t, name in events(1500):
        if name != "LIDAR_TOP":
            continue
        stamp, before = START_NS + t * MS, sum(sync.drops.values())
        sync.add(name, scenes.lidar(stamp), stamp, invalid_share=0.8 if 500 <= t < 900 else 0.0)
        refused += [t] if sum(sync.drops.values()) > before else []
    assert refused == [500, 600, 700, 800, 900]


def test_a_blocked_lidar_whose_firings_all_end_at_once_is_degraded(sync):
    for t in range(0, 500, 100):
        stamp = START_NS + t * MS
        sweep = scenes.lidar(stamp)
        sync.add("LIDAR_TOP", replace(sweep, points=sweep.points * np.float32(0.001)), stamp)
    assert sync.states(START_NS + 400 * MS)["LIDAR_TOP"].state is State.DEGRADED


def test_offsets_and_ages_of_single_sensors():
    params = PerceptionParams(
        sensors=SENSORS,
        sync=SyncParams(offsets=("CAM_FRONT=-0.03",)),
        health=HealthParams(max_ages=("RADAR_FRONT=0.05",)),
    )
    sync = Synchroniser(params)
    frames = play(sync, events(1000))
    late = frames[-1].cameras["CAM_FRONT"].stamp_ns - START_NS
    assert (late + 30 * MS - 7 * MS) % (83 * MS) == 0
    assert any("RADAR_FRONT" in f.gated for f in frames)
    assert any("RADAR_FRONT" not in f.gated for f in frames)


def test_a_slow_camera_is_used_for_its_own_period():
    sync = Synchroniser(PerceptionParams(), ["LIDAR_TOP", "CAM_FRONT"])
    schedule = sorted([(t, "LIDAR_TOP") for t in range(0, 4000, 100)] + [(t, "CAM_FRONT") for t in range(7, 4000, 500)])
    frames = play(sync, schedule)
    assert all("CAM_FRONT" not in f.gated for f in frames[10:])


@pytest.mark.parametrize("entry", ["CAM_FRONT", "CAM_FRONT=soon", "CAM_FROT=0.1"])
def test_bad_offsets_are_refused_with_the_choices(entry):
    with pytest.raises(ValueError, match="CAM_FRONT"):
        PerceptionParams(sync=SyncParams(offsets=(entry,)))


def test_a_driver_that_stamps_nothing_is_named(sync):
    play(sync, events(500))
    for time_ms in range(500, 1000, 100):
        assert sync.add("LIDAR_TOP", scenes.lidar(0), START_NS + time_ms * MS) is None
    state = sync.states(START_NS + 1000 * MS)["LIDAR_TOP"]
    assert state.state is State.CLOCK
    assert state.detail == "stamp is 0, 5 times for 0.5 s"
    assert sync.drops["LIDAR_TOP: stamp is 0"] == 5


def test_states_are_told_with_age_and_number(sync):
    play(sync, events(1000))
    frozen = MAKERS["RADAR_FRONT"](START_NS)
    for time_ms in range(1000, 1500, 100):
        now = START_NS + time_ms * MS
        sync.add("RADAR_FRONT", replace(frozen, stamp_ns=now), now)
    states = sync.states(START_NS + 1600 * MS)
    assert states["RADAR_FRONT"].detail == "the same payload, 5 times for 0.4 s"
    assert states["LIDAR_TOP"].detail == "nothing usable for 0.7 s, limit 0.25 s"
    assert Synchroniser(PerceptionParams(), ["LIDAR_TOP"]).states(0)["LIDAR_TOP"].detail == "nothing ever came"


def test_a_black_picture_that_repeats_is_dark_and_not_frozen(sync):
    play(sync, events(500))
    black = CameraImage(0, pixels=np.zeros((198, 352, 3), np.uint8))
    for time_ms in range(507, 1500, 83):
        sync.add("CAM_FRONT", replace(black, stamp_ns=START_NS + time_ms * MS), START_NS + time_ms * MS)
    state = sync.states(START_NS + 1500 * MS)["CAM_FRONT"]
    assert state.state is State.DEGRADED
    assert state.detail.startswith("dark image, 1")
    assert "CAM_FRONT: frozen" not in sync.drops
