# SPDX-License-Identifier: Apache-2.0
"""Clouds of real drivers by their own field tables, and clouds whose header contradicts what was sent."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from peft_dml_ros.conversions import lidar_from_msg, points_dropped
from peft_dml_ros.conversions.lidar import IntensityField
from peft_dml_ros.core.errors import DataError

I1, U1, I2, U2, I4, U4, F4, F8 = range(1, 9)
SIZES = {I1: "i1", U1: "u1", I2: "i2", U2: "u2", I4: "i4", U4: "u4", F4: "f4", F8: "f8"}
N = 40

# name, offset, datatype of each field; bytes a point; field of the intensity; field of the ring
LAYOUTS = {
    "velodyne_driver": (
        [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, F4), ("ring", 16, U2), ("time", 18, F4)],
        *(22, "intensity", "ring"),
    ),
    "hesai_ros_driver": (
        [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, F4), ("ring", 16, U2), ("timestamp", 18, F8)],
        *(26, "intensity", "ring"),
    ),
    "ouster_ros original": (
        [
            *(("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 16, F4), ("t", 20, U4)),
            *(("reflectivity", 24, U2), ("ring", 26, U2), ("ambient", 28, U2), ("range", 32, U4)),
        ],
        *(48, "reflectivity", "ring"),
    ),
    "livox_ros_driver2": (
        [
            *(("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, F4), ("tag", 16, U1), ("line", 17, U1)),
            ("timestamp", 18, F8),
        ],
        *(26, "intensity", "line"),
    ),
    "rslidar_sdk XYZIRT": (
        [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, F4), ("ring", 16, U2), ("timestamp", 18, F8)],
        *(26, "intensity", "ring"),
    ),
    "rslidar_sdk XYZI padded": (
        [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 16, F4)],
        *(32, "intensity", ""),
    ),
    "autoware XYZIRC": (
        [
            *(("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, U1), ("return_type", 13, U1)),
            ("channel", 14, U2),
        ],
        *(16, "intensity", "channel"),
    ),
    "autoware XYZIRCAEDT": (
        [
            *(("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 12, U1), ("return_type", 13, U1)),
            *(("channel", 14, U2), ("azimuth", 16, F4), ("elevation", 20, F4), ("distance", 24, F4)),
            ("time_stamp", 28, U4),
        ],
        *(32, "intensity", "channel"),
    ),
    "hesai_ros_driver, padded by PCL": (
        [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("intensity", 16, F4), ("timestamp", 24, F8), ("ring", 32, U2)],
        *(48, "intensity", "ring"),
    ),
    "seyond, padded by PCL": (
        [
            *(("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("timestamp", 16, F8), ("intensity", 24, U2)),
            *(("flags", 26, U1), ("elongation", 27, U1), ("scan_id", 28, U2), ("scan_idx", 30, U2)),
        ],
        *(48, "intensity", ""),
    ),
    "speeds of an FMCW LiDAR, padded": (
        [("x", 0, F4), ("y", 4, F4), ("z", 8, F4), ("velocity", 12, F4), ("reflectivity", 16, U1), ("line", 18, U2)],
        *(32, "reflectivity", "line"),
    ),
    "float64 at odd offsets": (
        [("tag", 0, U1), ("x", 1, F8), ("y", 9, F8), ("z", 17, F8), ("intensity", 25, F8), ("ring", 33, I4)],
        *(37, "intensity", "ring"),
    ),
}


def cloud(fields, step, values, *, height=1, pad=0, tail=0, row_step=None, big=False):
    """A message of that layout; `values` by field name, rows padded by `pad` bytes."""
    order = ">" if big else "<"
    dtype = np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [order + SIZES[kind] for _, _, kind in fields],
            "offsets": [offset for _, offset, _ in fields],
            "itemsize": step,
        }
    )
    points = np.zeros(len(values["x"]), dtype)
    for name in dtype.names:
        points[name] = values.get(name, 7)
    width = len(points) // height
    rows = [points[i * width : (i + 1) * width].tobytes() + bytes(pad) for i in range(height)]
    data = np.frombuffer(b"".join(rows) + bytes(tail), np.uint8)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id="lidar"),
        height=height,
        width=width,
        fields=[SimpleNamespace(name=n, offset=o, datatype=k, count=1) for n, o, k in fields],
        is_bigendian=big,
        point_step=step,
        row_step=width * step + pad if row_step is None else row_step,
        data=data,
        is_dense=True,
    )


def measured(intensity="intensity", ring="ring"):
    rng = np.random.default_rng(0)
    values = {axis: rng.uniform(-50, 50, N).astype(np.float32) for axis in "xyz"}
    return values | {intensity: rng.integers(2, 200, N), **({ring: np.arange(N) % 16} if ring else {})}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_a_driver(name, big):
    fields, step, intensity, ring = LAYOUTS[name]
    values = measured(intensity, ring)
    sweep = lidar_from_msg(cloud(fields, step, values, big=big))
    for column, axis in enumerate("xyz"):
        np.testing.assert_array_equal(sweep.points[:, column], values[axis])
    np.testing.assert_array_equal(sweep.points[:, 3], values[intensity])
    np.testing.assert_array_equal(sweep.points[:, 4], values[ring] if ring else 0)
    assert sweep.intensity_field == intensity


SIMPLE = LAYOUTS["velodyne_driver"][:2]


@pytest.mark.parametrize(
    "how",
    [
        {"row_step": 0},
        {"row_step": 4711},
        {"row_step": -1},
        {"height": 4, "pad": 6},
        {"height": 4, "pad": 6, "row_step": 0},
        {"height": 4, "row_step": 1},
        {"tail": 13, "row_step": 0},
    ],
)
def test_the_data_decide_where_row_step_is_wrong(how):
    """Reported: ros-drivers/velodyne 279, autoware_universe 13418 and 11855."""
    values = measured()
    sweep = lidar_from_msg(cloud(*SIMPLE, values, **how))
    np.testing.assert_array_equal(sweep.points[:, :3], np.stack([values[a] for a in "xyz"], axis=1))


def test_rows_that_cannot_be_told_apart_are_refused_with_the_numbers():
    message = cloud(*SIMPLE, measured(), height=4, row_step=0)
    message.data = message.data[:-3]
    with pytest.raises(DataError, match=r"'lidar'.*4 rows of 220 bytes.*row_step 0.*877 bytes"):
        lidar_from_msg(message)


def test_ousters_photon_counts_give_way_to_the_reflectivity():
    """Reported: ouster-ros 408."""
    fields, step, *_ = LAYOUTS["ouster_ros original"]
    values = measured("reflectivity") | {"intensity": np.full(N, 15300.0)}
    assert lidar_from_msg(cloud(fields, step, values)).points[:, 3].max() < 200
    counted = lidar_from_msg(cloud(fields, step, values), IntensityField("intensity"))
    assert counted.points[:, 3].min() == 15300
    assert counted.intensity_field == "intensity"


def test_capitals_count_for_small_letters_where_these_are_not_there():
    """Clouds made of CSV headers and some simulators have X, Y, Z."""
    fields = [("X", 0, F4), ("Y", 4, F4), ("Z", 8, F4), ("Intensity", 12, F4), ("Ring", 16, U2)]
    values = measured()
    upper = {name: values[name.lower()] for name, _, _ in fields} | {"x": values["x"]}
    sweep = lidar_from_msg(cloud(fields, 18, upper))
    np.testing.assert_array_equal(sweep.points, np.stack([values[f.lower()] for f, _, _ in fields], axis=1))
    assert sweep.intensity_field == "intensity"
    both = lidar_from_msg(cloud([*SIMPLE[0], ("X", 24, F4)], 28, values | {"X": np.zeros(N)}))
    np.testing.assert_array_equal(both.points[:, 0], values["x"])
    message = cloud(fields, 18, upper)
    message.fields.append(SimpleNamespace(name="X", offset=4, datatype=F4, count=1))
    with pytest.raises(DataError, match=r"lacks the fields x; it has: X, Y, Z, Intensity, Ring, X; fix"):
        lidar_from_msg(message)


def test_a_field_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DataError, match=r"no field 'intensty' \(intensity_field\); did you mean 'intensity'"):
        lidar_from_msg(cloud(*SIMPLE, measured()), IntensityField("intensty"))


def test_reflectance_of_0_to_1_is_scaled_and_counts_are_not():
    values = measured() | {"intensity": np.linspace(0, 0.9, N)}
    np.testing.assert_allclose(
        lidar_from_msg(cloud(*SIMPLE, values)).points[:, 3], np.linspace(0, 0.9 * 255, N), rtol=1e-5
    )
    values["intensity"][7] = 2.5  # Cepton: "normal: 0-1, retroreflective: > 1"
    assert lidar_from_msg(cloud(*SIMPLE, values)).points[7, 3] == 2.5 * 255
    values["intensity"][:9] = 2.5
    assert lidar_from_msg(cloud(*SIMPLE, values)).points[:, 3].max() == 2.5
    values["intensity"] = np.arange(N) % 2  # a dark scene on the scale to 255
    assert lidar_from_msg(cloud(*SIMPLE, values)).points[:, 3].max() == 1
    scaled = lidar_from_msg(cloud(*SIMPLE, measured()), IntensityField(scale=0.5))
    np.testing.assert_array_equal(scaled.points[:, 3], measured()["intensity"] / 2)


def test_points_without_a_place_are_dropped_and_intensities_that_are_none_are_0():
    values = measured() | {"intensity": np.where(np.arange(N) == 3, np.nan, 9.0)}
    values["x"][5] = np.nan
    message = cloud(*SIMPLE, values, height=4)
    sweep = lidar_from_msg(message)
    assert len(sweep.points) == N - 1 == N - points_dropped(message, sweep)
    assert sorted(set(sweep.points[:, 3])) == [0, 9]


def test_a_cloud_without_intensity_says_so():
    fields = [("x", 0, F4), ("y", 4, F4), ("z", 8, F4)]
    sweep = lidar_from_msg(cloud(fields, 12, measured()))
    assert sweep.intensity_field == ""
    assert not sweep.points[:, 3].any()


def test_the_table_of_the_docs_says_what_each_driver_sends(repository):
    """Each row of docs/sensors.md: bytes a point, field of the intensity, field of the ring."""
    page = (repository / "docs" / "sensors.md").read_text(encoding="utf-8")
    table = page.partition("| driver | fields | intensity | ring |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [name for name in LAYOUTS if "padded" not in name and "float64" not in name]
    named = set()
    for row in table:
        driver, about, intensity, ring = (cell.strip() for cell in row.strip("|").split("|"))
        for name in (n for n in rows if driver.lower() == n.lower() or f"`{n.split()[0]}`" in driver):
            named.add(name)
            fields, step, shine, beam = LAYOUTS[name]
            assert intensity.partition("`")[2].partition("`")[0] == shine, driver
            assert ring == f"`{beam}`", driver
            if "the same" not in about:
                missing = [field for field, _, _ in fields if field not in re.split(r"[\s,]+", about)]
                assert not missing, driver
            assert f"; {step} bytes" in about, driver
    assert len(table) == 6
    assert named == set(rows)
