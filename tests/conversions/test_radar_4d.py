# SPDX-License-Identifier: Apache-2.0
"""A 4D radar through its own detection list, a cloud of its driver, and RadarScan: the same points, flags respected."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.conversions import points_dropped, radar_from_msg
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.core.spec import ModelSpec
from tests.conversions.test_lidar_layouts import F4, I1, U1, U2, cloud

HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=4), frame_id="ars548")
# Fields of the driver's PointARS548Detection: PCL's 16 bytes of x, y, z, then these.
ARS548_FIELDS = [
    *(("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("azimuth", 16, F4), ("azimuth_std", 20, F4)),
    *(("elevation", 24, F4), ("elevation_std", 28, F4), ("range", 32, F4), ("range_std", 36, F4)),
    *(("range_rate", 40, F4), ("range_rate_std", 44, F4), ("rcs", 48, I1), ("measurement_id", 50, U2)),
    *(("positive_predictive_value", 52, U1), ("classification", 53, U1), ("multi_target_probability", 54, U1)),
    *(("object_id", 56, U2), ("ambiguity_flag", 58, U1)),
]


def detection(azimuth, elevation=0.02, distance=20.0, rate=None, rcs=5, **flags):
    rate = -8.0 * np.cos(azimuth) * np.cos(elevation) if rate is None else rate
    names = ("invalid_distance", "invalid_azimuth", "invalid_elevation", "invalid_range_rate", "invalid_range_std")
    return SimpleNamespace(
        azimuth_angle=azimuth, elevation_angle=elevation, range=distance, range_rate=rate, rcs=rcs,
        **dict.fromkeys(names, False) | flags,
    )  # fmt: skip


def as_cloud(detections):
    a, e, r, rate, rcs = np.array(
        [(d.azimuth_angle, d.elevation_angle, d.range, d.range_rate, d.rcs) for d in detections]
    ).T
    values = {"x": r * np.cos(e) * np.cos(a), "y": r * np.cos(e) * np.sin(a), "z": r * np.sin(e)}
    return cloud(ARS548_FIELDS, 64, values | {"range_rate": rate, "rcs": rcs})


def as_scan(detections):
    rows = [
        SimpleNamespace(range=d.range, azimuth=d.azimuth_angle, elevation=d.elevation_angle,
                        doppler_velocity=d.range_rate, amplitude=d.rcs) for d in detections
    ]  # fmt: skip
    return SimpleNamespace(header=HEADER, returns=rows)


STANDING = [detection(a) for a in np.linspace(-0.9, 0.9, 24)]


def test_three_ways_to_the_same_points():
    detections = [*STANDING, detection(0.3, 0.2, 40.0, rate=3.0)]
    sweeps = [
        radar_from_msg(m)
        for m in (SimpleNamespace(header=HEADER, detections=detections), as_scan(detections), as_cloud(detections))
    ]
    for name in ("x", "y", "z", "rcs", "vx_comp", "vy_comp"):
        for other in sweeps[1:]:
            np.testing.assert_allclose(other.points[name], sweeps[0].points[name], atol=2e-3)
    speed = np.hypot(sweeps[0].points["vx_comp"], sweeps[0].points["vy_comp"])
    assert speed[:-1].max() < 0.1, "what stands still has no speed over ground"
    assert speed[-1] == pytest.approx((3.0 + 8 * np.cos(0.3)) * np.cos(0.2), abs=0.3)


def test_another_driver_of_the_same_radar():
    """The fields of the ars548_driver: `v` is the range rate, `RCS` has one byte, what follows is unaligned."""
    fields = [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("v", 12, F4), ("r", 16, F4), ("RCS", 20, I1)]
    rows = [(d.range * np.cos(d.azimuth_angle), d.range * np.sin(d.azimuth_angle), d.range_rate) for d in STANDING]
    x, y, rate = np.array(rows).T
    values = {"x": x, "y": y, "z": 0 * x, "v": rate, "r": np.hypot(x, y), "RCS": 0 * x - 7}
    points = radar_from_msg(cloud([*fields, ("azimuth", 21, F4), ("elevation", 25, F4)], 29, values)).points
    assert set(points["rcs"]) == {-7}
    assert len(points) == len(STANDING)
    assert np.hypot(points["vx_comp"], points["vy_comp"]).max() < 0.5


def test_power_of_a_4d_radar():
    """The fields of the clouds of Altos, SmartMicro, CARLA and Provizio."""
    a = np.linspace(-0.9, 0.9, 24)
    values = {"x": 20 * np.cos(a), "y": 20 * np.sin(a), "z": 0 * a}
    for speed, power in (
        ("Doppler", "Power"),
        ("radial_speed", "power"),
        ("Velocity", "SNR"),
        ("radar_relative_radial_velocity", "signal_to_noise_ratio"),
    ):
        fields = [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), (speed, 12, F4), ("Range", 16, F4), (power, 20, F4)]
        points = radar_from_msg(cloud(fields, 24, values | {speed: -8.0 * np.cos(a), power: 11.5 + 0 * a})).points
        assert set(points["rcs"]) == {11.5}
        assert np.hypot(points["vx_comp"], points["vy_comp"]).max() < 0.1


@pytest.mark.parametrize("flag", ["invalid_distance", "invalid_azimuth", "invalid_elevation", "invalid_range_rate"])
def test_flagged_detections_are_left_out_and_counted(flag):
    message = SimpleNamespace(header=HEADER, detections=[*STANDING, detection(0.1, **{flag: True})])
    sweep = radar_from_msg(message)
    assert len(sweep.points) == 24
    assert points_dropped(message, sweep) == 1
    fine = SimpleNamespace(header=HEADER, detections=[*STANDING, detection(0.1, invalid_range_std=True)])
    assert len(radar_from_msg(fine).points) == 25


def test_elevation_that_is_not_used_is_said_once():
    checks, sensor = SensorChecks(ModelSpec()), Sensor("RADAR_FRONT", "radar", SE3.identity())
    sweep = radar_from_msg(as_scan([*STANDING, detection(0.0, 0.3)]))
    (hint,) = checks.look("RADAR_FRONT", sweep, sensor)
    assert hint.id == "SEN401"
    assert "1 of 25 detections have an elevation (up to 5.9 m)" in hint.problem
    assert checks.look("RADAR_FRONT", sweep, sensor) == []


def test_a_real_scan(real_data):
    tree = yaml.safe_load((real_data / "radar_ars548" / "detections.yaml").read_text())
    detections = [SimpleNamespace(**row) for row in tree["detections"]]
    sweep = radar_from_msg(SimpleNamespace(header=HEADER, detections=detections))
    wrong = sum(
        d.invalid_distance or d.invalid_azimuth or d.invalid_elevation or d.invalid_range_rate for d in detections
    )
    assert len(sweep.points) == len(detections) - wrong > 250
    # The vehicle drives: most detections stand still once its motion is taken out.
    raw = np.median([abs(d.range_rate) for d in detections])
    compensated = np.hypot(sweep.points["vx_comp"], sweep.points["vy_comp"])
    assert raw > 1.0
    assert np.median(compensated) < 0.5
    assert np.hypot(sweep.points["x"], sweep.points["y"]).max() < 320


def test_a_cloud_without_any_speed_names_what_would_do():
    fields = [("x", 0, F4), ("y", 4, F4), ("z", 8, F4)]
    with pytest.raises(DataError, match=r"lacks the fields vx_comp, vy_comp.*4D radar.*range_rate"):
        radar_from_msg(cloud(fields, 12, {axis: np.ones(3) for axis in "xyz"}))


NUMBER = st.floats(width=32)


@settings(max_examples=80)
@given(rows=st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, st.integers(-128, 127), st.booleans()), max_size=12))
def test_any_detection_list_is_read(rows):
    detections = [detection(a, e, r, rate=v, rcs=c, invalid_azimuth=f) for a, e, r, v, c, f in rows]
    sweep = radar_from_msg(SimpleNamespace(header=HEADER, detections=detections))
    for name in ("x", "y", "z", "vx_comp", "vy_comp", "rcs"):
        assert np.isfinite(sweep.points[name]).all()
