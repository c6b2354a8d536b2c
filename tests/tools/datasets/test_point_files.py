# SPDX-License-Identifier: Apache-2.0
"""Point files as other tools write and name them, and what the parameters say of their intensity."""

import struct
from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.conversions.lidar import IntensityField
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.params import InputParams
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.point_files import read_pcd, read_sweep
from peft_dml_tools.datasets.source import open_source
from peft_dml_tools.datasets.sweep_folder import stamps_of_names
from tests.tools.datasets.test_foreign_sources import CLOUD, pcd, ply

S_NS = 10**9
BEGIN_NS = 1_600_000_000 * S_NS


@pytest.mark.parametrize(
    ("names", "after_ns"),
    [
        # pcl_ros of ROS 1 pads nanoseconds with zeros, that of ROS 2 does not; others write decimals of a second.
        (["1600000000.123456789.pcd", "1600000000.023456789.pcd"], [123_456_789, 23_456_789]),
        (["1600000000.123456789.pcd", "1600000000.50000000.pcd"], [123_456_789, 50_000_000]),
        (["scan_1600000000.5.pcd", "scan_1600000000.25.pcd"], [500_000_000, 250_000_000]),
        (["1600000000.PCD", "1600000007.pcd"], [0, 7 * S_NS]),
        (["x_1600000000123.bin", "cloud1600000000124.ply"], [123_000_000, 124_000_000]),
        (["n015__LIDAR_TOP__1600000000000123.pcd.bin"], [123_000]),
        (["1600000000000000123.ply"], [123]),
    ],
)
def test_names_that_are_times(names, after_ns):
    assert stamps_of_names([Path(name) for name in names]) == [BEGIN_NS + after for after in after_ns]


def test_names_that_are_none():
    assert stamps_of_names([Path(n) for n in ("000012.bin", "a.pcd", "2011_09_26.ply", "12345678.pcd")]) == [0] * 4


def stamps(source):
    return [m.stamp_ns for _, m in source.measurements()]


def test_numbers_without_zeros_count_as_numbers(tmp_path):
    for number in (10, 2, 1):
        (tmp_path / f"scan{number}.pcd").write_bytes(pcd("binary", CLOUD + number))
    source = open_source(tmp_path)
    assert [m.points[0, 0] - CLOUD[0, 0] for _, m in source.measurements()] == [1, 2, 10]
    assert stamps(source) == [10**8, 2 * 10**8, 3 * 10**8]
    assert "names are no times: 10 Hz" in source.where("LIDAR_TOP")


def test_times_that_occur_twice_are_none(tmp_path):
    for name in ("1600000000.pcd", "copy_1600000000.pcd"):
        (tmp_path / name).write_bytes(pcd("binary"))
    assert stamps(open_source(tmp_path)) == [10**8, 2 * 10**8]


def test_a_single_file_is_a_source(tmp_path):
    (tmp_path / "1600000000.pcd").write_bytes(pcd("ascii"))
    source = open_source(tmp_path / "1600000000.pcd")
    assert stamps(source) == [BEGIN_NS]
    assert source.where("LIDAR_TOP").startswith("1600000000.pcd; taken for base_link")


def options(**inputs):
    return BagOptions(inputs=InputParams(**inputs))


def test_the_parameters_on_intensity_count_for_files(tmp_path):
    """SEN101 and SEN102 say to set them: they must have an effect on a folder too."""
    (tmp_path / "a.pcd").write_bytes(pcd("binary"))
    scaled = open_source(tmp_path, options=options(intensity_scale=["LIDAR_TOP=0.5"]))
    ((_, sweep),) = scaled.measurements()
    np.testing.assert_array_equal(sweep.points[:, 3], CLOUD[:, 3] / 2)
    other = open_source(tmp_path, options=options(intensity_field=["LIDAR_TOP=ring"]))
    ((_, sweep),) = other.measurements()
    np.testing.assert_array_equal(sweep.points[:, 3], CLOUD[:, 4])
    missing = open_source(tmp_path, options=options(intensity_field=["LIDAR_TOP=intensty"]))
    with pytest.raises(
        DataError, match=r"a\.pcd has no field 'intensty' \(intensity_field\); did you mean 'intensity'"
    ):
        list(missing.measurements())


def test_the_parameters_on_intensity_count_for_nuscenes(mini):
    plain = NuScenesReader(mini)
    record = next(r for r in plain.stream("scene-0001") if "LIDAR" in r["filename"])
    scaled = NuScenesReader(mini, inputs=InputParams(intensity_scale=["LIDAR_TOP=3.0"]))
    np.testing.assert_allclose(scaled.load(record).points[:, 3], 3 * plain.load(record).points[:, 3])
    source = open_source(mini, options=options(intensity_scale=["LIDAR_TOP=3.0"]))
    assert source.reader.inputs == scaled.inputs


@pytest.mark.parametrize(("name", "columns"), [("a.bin", 5), ("a.pcd.bin", 4), ("a.pcd.bin", 6)])
def test_another_number_of_values_a_point_is_refused(tmp_path, name, columns):
    """The size may be a multiple of both; intensities are never negative, coordinates in their place are."""
    rng = np.random.default_rng(0)
    cloud = np.concatenate([rng.uniform(-30, 30, (200, 3)), rng.uniform(0, 99, (200, columns - 3))], axis=1)
    (tmp_path / name).write_bytes(cloud.astype("<f4").tobytes())
    with pytest.raises(DataError, match=rf"{name}: read as \d float32 a point, \d+% of the intensities are negative"):
        read_sweep(tmp_path / name, 1)


def test_names_of_cloudcompare(tmp_path):
    text = ply("binary_little_endian").replace(b"property float intensity", b"property float scalar_Intensity")
    (tmp_path / "a.ply").write_bytes(text)
    sweep = read_sweep(tmp_path / "a.ply", 1)
    assert sweep.intensity_field == "intensity"
    np.testing.assert_array_equal(sweep.points[:, 3], CLOUD[:, 3])
    named = read_sweep(tmp_path / "a.ply", 1, intensity=IntensityField("scalar_Intensity", 2.0))
    np.testing.assert_array_equal(named.points[:, 3], 2 * CLOUD[:, 3])


def test_columns_that_were_not_worth_compressing(tmp_path):
    """pypcd4 puts them as they are, with two equal sizes in front."""
    columns = np.random.default_rng(0).normal(size=(5, 64)).astype("<f4")
    header, _, _ = pcd("binary_compressed", np.zeros((64, 5)), "FFFFF", "44444").partition(b"DATA binary_compressed\n")
    size = struct.pack("<II", columns.nbytes, columns.nbytes)
    (tmp_path / "a.pcd").write_bytes(header + b"DATA binary_compressed\n" + size + columns.tobytes())
    np.testing.assert_array_equal(read_pcd(tmp_path / "a.pcd")["y"], columns[1])


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_an_empty_cloud_is_a_cloud(tmp_path, kind):
    header, mark, _ = pcd(kind, CLOUD[:0]).partition(f"DATA {kind}\n".encode())
    (tmp_path / "a.pcd").write_bytes(header + mark)
    assert read_sweep(tmp_path / "a.pcd", 1).points.shape == (0, 5)
    (tmp_path / "a.pcd").write_bytes(header.replace(b"POINTS 0", b"POINTS -3") + mark)
    with pytest.raises(DataError, match="promises -3 points; fix: give 0 to"):
        read_sweep(tmp_path / "a.pcd", 1)


def test_fields_of_several_values(tmp_path):
    head = b"VERSION 0.7\nFIELDS x y z normal intensity\nSIZE 4 4 4 4 1\nTYPE F F F F U\nCOUNT 1 1 1 3 1\nWIDTH 2\n"
    rows = b"HEIGHT 1\nPOINTS 2\nDATA ascii\n1 2 3 .1 .2 .3 9\nnan 5 6 .4 .5 .6 8\n"
    (tmp_path / "a.pcd").write_bytes(head + rows)
    np.testing.assert_allclose(read_pcd(tmp_path / "a.pcd")["normal"], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], rtol=1e-6)
    assert read_sweep(tmp_path / "a.pcd", 1).points.tolist() == [[1, 2, 3, 9, 0]]


def test_a_folder_above_names_a_part_of_the_set(tmp_path):
    for folder in ("velodyne", "calib"):
        (tmp_path / "training" / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=r"found training; fix: name a part of it, .*training for example"):
        open_source(tmp_path)
