# SPDX-License-Identifier: Apache-2.0
"""Data sets of others, each written here in its own layout from one scene: the measurements are the same."""

import json
import shutil
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.core.calibration import load_calibration
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, OdometrySample
from peft_dml_ros.core.rig import Sensor
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.checks import check_dataset
from peft_dml_tools.datasets.file_source import camera_slots
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_truth import class_of_category
from peft_dml_tools.datasets.point_files import read_pcd, read_sweep
from peft_dml_tools.datasets.source import NuScenesSource, open_source
from peft_dml_tools.datasets.t4 import VideoFrames

CLOUD = np.array([[1.5, -2.0, 0.25, 7.0, 3.0], [9.0, 8.0, -1.0, 200.0, 11.0], [4.0, 0.5, 2.0, 33.0, 0.0]], np.float32)
FIELDS = ("x", "y", "z", "intensity", "ring")


def pcd(kind, values=CLOUD, types="FFFFU", sizes="44442"):
    formats = [{"F": "<f", "U": "<u"}[t] + s for t, s in zip(types, sizes, strict=True)]
    points = np.zeros(len(values), [(n, f) for n, f in zip(FIELDS, formats, strict=True)])
    for i, name in enumerate(FIELDS):
        points[name] = values[:, i]
    header = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {' '.join(FIELDS)}\nSIZE {' '.join(sizes)}\nTYPE {' '.join(types)}\n"
        f"COUNT 1 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {kind}\n"
    )
    if kind == "ascii":
        return header.encode() + "\n".join(" ".join(map(str, row)) for row in points.tolist()).encode()
    if kind == "binary":
        return header.encode() + points.tobytes()
    columns = b"".join(points[name].tobytes() for name in FIELDS)
    # LZF may hold everything as literal runs of at most 32 bytes; a repetition shows the other kind.
    packed = b"".join(bytes([len(columns[i : i + 32]) - 1]) + columns[i : i + 32] for i in range(0, len(columns), 32))
    return header.encode() + struct.pack("<II", len(packed), len(columns)) + packed


def ply(kind):
    head = f"ply\nformat {kind} 1.0\ncomment made\nelement vertex {len(CLOUD)}\n"
    head += "".join(f"property float {name}\n" for name in FIELDS) + "element face 0\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    if kind == "ascii":
        return head.encode() + "\n".join(" ".join(map(str, row)) for row in CLOUD.tolist()).encode()
    return head.encode() + CLOUD.astype(">f4" if "big" in kind else "<f4").tobytes()


FILES = {
    **{f"{kind}.pcd": pcd(kind) for kind in ("ascii", "binary", "binary_compressed")},
    **{f"{kind}.ply": ply(kind) for kind in ("ascii", "binary_little_endian", "binary_big_endian")},
    "a.pcd.bin": CLOUD.tobytes(),
    "a.bin": CLOUD[:, :4].tobytes(),
}


@pytest.mark.parametrize("name", FILES)
def test_point_files(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    points = read_sweep(tmp_path / name, 5).points
    np.testing.assert_array_equal(points[:, :4], CLOUD[:, :4])
    np.testing.assert_array_equal(points[:, 4], 0 if name == "a.bin" else CLOUD[:, 4])


def test_compressed_repetitions(tmp_path):
    """One literal run, then twice the same three bytes again, which overlap their source."""
    body = bytes([2, 1, 2, 3, (7 << 5), 9 - 9, 2]) + bytes([(1 << 5), 2])
    header = b"VERSION 0.7\nFIELDS a\nSIZE 1\nTYPE U\nCOUNT 1\nWIDTH 15\nHEIGHT 1\nPOINTS 15\nDATA binary_compressed\n"
    (tmp_path / "a.pcd").write_bytes(header + struct.pack("<II", len(body), 15) + body)
    assert read_pcd(tmp_path / "a.pcd")["a"].tolist() == [1, 2, 3] * 5


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40)
@given(cut=st.integers(0, 400), at=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_point_file_is_refused_or_read(name, cut, at, byte, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / name
    data = bytearray(FILES[name])
    data[at % len(data)] = byte
    path.write_bytes(data[: max(len(data) - cut, 0)])
    try:
        sweep = read_sweep(path, 0)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017  any error must name the file
        return
    assert np.isfinite(sweep.points).all()


def test_a_folder_of_sweeps(tmp_path):
    for number, name in enumerate(("1600000000100000000.pcd", "1600000000200000000.pcd")):
        (tmp_path / name).write_bytes(pcd("binary", CLOUD + number))
    source = open_source(tmp_path)
    rows = list(source.measurements())
    assert [(n, m.stamp_ns) for n, m in rows] == [("LIDAR_TOP", 16 * 10**17 + k * 10**8) for k in (1, 2)]
    assert "no calibration file" in source.where("LIDAR_TOP")
    rig = tmp_path / "rig.yaml"
    rig.write_text("sensors:\n  LIDAR_TOP: {xyz: [1.0, 0.0, 1.8], rpy: [0.0, 0.0, 0.0]}\n")
    given_rig = open_source(tmp_path, options=BagOptions(calibration=load_calibration(rig)))
    assert given_rig.rig["LIDAR_TOP"].base_SE3_sensor.translation.tolist() == [1.0, 0.0, 1.8]


def test_a_folder_for_each_lidar_and_names_that_are_no_times(tmp_path):
    for name in ("LIDAR_LEFT", "LIDAR_RIGHT"):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number:06}.bin").write_bytes(CLOUD[:, :4].tobytes())
    rows = [(n, m.stamp_ns) for n, m in open_source(tmp_path).measurements()]
    # Not from 0 on: sensor health takes a stamp of 0 for a clock that was never set.
    assert rows == [(n, k * 10**8) for k in (1, 2) for n in ("LIDAR_LEFT", "LIDAR_RIGHT")]


# ---------------------------------------------------------------- nuScenes format of others
def rewritten(root, out, change):
    """A copy of a nuScenes folder with its tables changed."""
    shutil.copytree(root, out)
    folder = next(p.parent for p in out.glob("*/scene.json"))
    tables = {p.stem: json.loads(p.read_text()) for p in folder.glob("*.json") if p.stem != "splits"}
    made = change(out, tables)
    shutil.rmtree(folder)
    (out / "annotation").mkdir()
    for name, rows in made.items():
        (out / "annotation" / f"{name}.json").write_text(json.dumps(rows))
    return out


def moved(out, tables, folder="data"):
    """Files in data/CHANNEL/NUMBER instead of samples and sweeps."""
    channel = {c["token"]: s["channel"] for c in tables["calibrated_sensor"] for s in tables["sensor"]
               if s["token"] == c["sensor_token"]}  # fmt: skip
    for number, row in enumerate(tables["sample_data"]):
        name = channel[row["calibrated_sensor_token"]]
        target = f"{folder}/{name}/{number:05}{'.pcd.bin' if name.startswith('LIDAR') else row['filename'][-4:]}"
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(out / row["filename"], out / target)
        row["filename"] = target
    for old in ("samples", "sweeps"):
        shutil.rmtree(out / old)
    return tables


def same(one, other, sensors=None):
    """Measurements of two sources agree, of some sensors or of all."""
    rows = [[(n, m) for n, m in source.measurements() if sensors is None or n in sensors] for source in (one, other)]
    assert [(n, m.stamp_ns) for n, m in rows[0]] == [(n, m.stamp_ns) for n, m in rows[1]]
    for (_, a), (_, b) in zip(*rows, strict=True):
        if isinstance(a, LidarSweep):
            np.testing.assert_array_equal(a.points, b.points)
        elif isinstance(a, CameraImage) and b.jpeg is not None:
            assert a.jpeg == b.jpeg
        elif isinstance(a, OdometrySample):
            np.testing.assert_allclose(a.odom_SE3_base.translation, b.odom_SE3_base.translation)
    return rows


def test_t4_with_files_by_filename(mini, tmp_path):
    """Diagnosis of real sensors, 6: no folders samples/NAME, no `date_captured`."""

    def change(out, tables):
        for row in tables["log"]:
            row["data_captured"] = row.pop("date_captured")
        for row, name in zip(tables["category"], ("car", "pedestrian.adult", "barrier", "animal"), strict=True):
            row["name"] = name
        return moved(out, tables)

    original = NuScenesSource(NuScenesReader(mini), "scene-0001")
    t4 = open_source(rewritten(mini, tmp_path / "t4", change), scene="scene-0001")
    same(original, t4)
    for stamp_ns, boxes in original.truth.items():
        np.testing.assert_array_equal(t4.truth[stamp_ns].labels, boxes.labels)
        np.testing.assert_array_equal(t4.truth[stamp_ns].centers_m, boxes.centers_m)
    report = check_dataset(t4.reader.root)
    assert {found.rule.id for found in report.broken} <= {"FMT009", "FMT010", "STR006"}
    # Values a point as the file next to it says.
    row = next(r for r in t4.reader.tables.rows("sample_data") if "LIDAR" in r["filename"])
    (t4.reader.root / "info.json").write_text('{"num_pts_feats": 7}')
    wide = np.zeros((4, 7), np.float32)
    wide[:, :5] = CLOUD[0]
    (t4.reader.root / row["filename"]).write_bytes(wide.tobytes())
    assert t4.reader.load(row | {"info_filename": "info.json"}).points.tolist() == [CLOUD[0].tolist()] * 4


def as_parquet(out, path, rows):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    schema = pa.schema([(name, pa.float32()) for name in FIELDS])
    with pq.ParquetWriter(out / path, schema, compression="zstd") as writer:
        for row in rows:
            points = np.fromfile(out / row["filename"], np.float32).reshape(-1, 5)
            writer.write_table(pa.table([pa.array(column) for column in points.T], schema=schema))


def as_video(out, path, rows):
    av = pytest.importorskip("av")
    with av.open(str(out / path), "w") as video:
        stream = video.add_stream("libsvtav1", rate=10, options={"preset": "8", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = 1
        for row in rows:
            picture = np.ascontiguousarray(cv2.imread(str(out / row["filename"]))[..., ::-1])
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        video.mux(stream.encode())


def one_file_a_sensor(out, tables):
    """LiDAR as parquet, cameras as video, radar as it was."""
    sensors = {s["token"]: s["channel"] for s in tables["sensor"]}
    channels = {c["token"]: sensors[c["sensor_token"]] for c in tables["calibrated_sensor"]}
    by_channel = {}
    for row in sorted(tables["sample_data"], key=lambda r: r["timestamp"]):
        by_channel.setdefault(channels[row["calibrated_sensor_token"]], []).append(row)
    for channel, rows in by_channel.items():
        (out / "data" / channel).mkdir(parents=True)
        if channel.startswith("RADAR"):
            continue
        write, kind, end = (as_parquet, "parquet", "parquet") if "LIDAR" in channel else (as_video, "av1_mp4", "mp4")
        path = f"data/{channel}/{channel}.{end}"
        write(out, path, rows)
        for index, row in enumerate(rows):
            row.update(filename=path, frame_index=index, fileformat=kind)


@pytest.mark.parametrize("ticks", ["10", "12800"])
def test_a_frame_is_found_by_its_number_whatever_the_ticks_of_the_file(tmp_path, ticks):
    """T4 asks for a tick a frame, in full-range BT.601; ffmpeg takes thousands of them by itself."""
    av = pytest.importorskip("av")
    path = tmp_path / "CAM_FRONT.mp4"
    with av.open(str(path), "w", options={"video_track_timescale": ticks}) as video:
        stream = video.add_stream("libsvtav1", rate=10, options={"preset": "8", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.color_range = 1, 2
        for number in range(8):
            grey = av.VideoFrame(320, 180, "yuv420p")
            for plane, level in zip(grey.planes, (30 * number, 128, 128), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            grey.pts, grey.color_range = number, 2
            video.mux(stream.encode(grey))
        video.mux(stream.encode())
    frames = VideoFrames()
    for number in (0, 1, 5, 2, 7, 3):
        assert np.abs(frames.read(path, number, 1).pixels.astype(int) - 30 * number).mean() < 3, number
    with pytest.raises(DataError, match="cannot read frame 8 of"):
        frames.read(path, 8, 1)


def as_version_1(out, tables):
    one_file_a_sensor(out, tables)
    calibrations = tables.pop("calibrated_sensor")
    sensor_of = {c["token"]: c["sensor_token"] for c in calibrations}
    own = {c["sensor_token"]: c for c in calibrations}
    for row in tables["sample_data"]:
        row["sensor_token"] = sensor_of[row.pop("calibrated_sensor_token")]
        row["sample_token"] = row["sample_token"] if row["is_key_frame"] else None
        row.update({name: row[name] or None for name in ("prev", "next")}, is_valid=True)
        row.pop("width"), row.pop("height")
    for sensor in tables["sensor"]:
        mounted = own[sensor["token"]]
        sensor.update(translation=mounted["translation"], rotation=mounted["rotation"], camera=None)
        if sensor["modality"] == "lidar":  # T4's default: merged points in base_link, the mounting for information
            sensor["lidar"] = {"frame_id": "base_link"}
        if sensor["modality"] == "camera":
            k = mounted["camera_intrinsic"]
            sensor["camera"] = {"width": 320, "height": 180, "intrinsic": k, "is_rectified": False,
                                "distortion": [-0.1, 0.01, 0, 0, 0], "distortion_model": "plumb_bob"}  # fmt: skip
    return tables


def test_t4_version_1_with_parquet_and_video(mini, tmp_path):
    original = NuScenesSource(NuScenesReader(mini), "scene-0001")
    t4 = open_source(rewritten(mini, tmp_path / "t4", as_version_1), scene="scene-0001")
    before, after = same(original, t4, {"LIDAR_TOP", "CAM_FRONT", "ODOM"})
    pictures = [
        (cv2.imdecode(np.frombuffer(a.jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int), b.pixels)
        for (_, a), (_, b) in zip(before, after, strict=True)
        if isinstance(a, CameraImage)
    ]
    assert len(pictures) >= 3
    # The pictures of the miniature are noise, of which compression keeps the mean of neighbours.
    for jpeg, decoded in pictures:
        assert decoded.shape == jpeg.shape
        assert np.abs(cv2.blur(jpeg.astype(np.uint8), (16, 16)).astype(int) - cv2.blur(decoded, (16, 16))).mean() < 6
    assert not t4.rig["LIDAR_TOP"].base_SE3_sensor.translation.any()
    lens = t4.rig["CAM_FRONT"].camera.lens
    assert (lens.model, lens.coefficients.tolist()) == ("plumb_bob", [-0.1, 0.01, 0.0, 0.0])
    row = next(row for row in t4.reader.stream("scene-0001") if row["fileformat"] == "parquet")
    with pytest.raises(DataError, match=r"sweep 99 of .*LIDAR_TOP\.parquet"):
        t4.reader.load(row | {"frame_index": 99})


def test_a_truck_with_other_names_two_lidars_and_4d_radars(mini, tmp_path):
    names = {"LIDAR_TOP": "LIDAR_LEFT", "RADAR_FRONT": "RADAR_LEFT_FRONT", "CAM_FRONT": "CAMERA_RIGHT_FRONT"}

    def change(out, tables):
        for sensor in tables["sensor"]:
            sensor["channel"] = names.get(sensor["channel"], sensor["channel"])
        # The front radar as one of four dimensions, its file compressed as TruckScenes has it.
        token = next(s["token"] for s in tables["sensor"] if s["channel"] == "RADAR_LEFT_FRONT")
        calibrated = next(c["token"] for c in tables["calibrated_sensor"] if c["sensor_token"] == token)
        for row in tables["sample_data"]:
            if row["calibrated_sensor_token"] == calibrated:
                (out / row["filename"]).write_bytes(four_dimensions())
        # It has neither logs nor maps, and its clouds are PCD files with a time for each point.
        for name in ("log", "map", "visibility"):
            del tables[name]
        for scene in tables["scene"]:
            scene["log_token"] = ""
        made = moved(out, tables)
        for row in made["sample_data"]:
            if "/LIDAR_LEFT/" in row["filename"]:
                points, name = np.fromfile(out / row["filename"], "<f4").reshape(-1, 5), row["filename"][:-4]
                (out / row["filename"]).unlink()
                (out / name).write_bytes(with_times(points))
                row.update(filename=name, fileformat="pcd")
        return made

    truck = open_source(rewritten(mini, tmp_path / "truck", change), scene="scene-0001")
    assert {"LIDAR_LEFT", "RADAR_LEFT_FRONT", "CAM_FRONT"} <= truck.rig.sensors.keys()
    sweeps = [m.points for n, m in truck.measurements() if n == "LIDAR_LEFT"]
    original = NuScenesSource(NuScenesReader(mini), "scene-0001")
    wanted = [m.points for n, m in original.measurements() if n == "LIDAR_TOP"]
    for found, points in zip(sweeps, wanted, strict=True):
        np.testing.assert_array_equal(found[:, :4], points[:, :4])
    assert {stamp: len(boxes) for stamp, boxes in truck.truth.items()} == {s: len(b) for s, b in original.truth.items()}
    radar = next(m for n, m in truck.measurements() if n == "RADAR_LEFT_FRONT")
    assert len(radar.points) == 20
    # The radar drives at 10 m/s: what stands still has no speed over ground, and one return moves on its own.
    speeds = np.hypot(radar.points["vx_comp"], radar.points["vy_comp"])
    assert np.sort(speeds)[-2] < 0.05
    assert speeds[3] == pytest.approx(6.0, abs=0.1)
    assert truck.reader.reference(truck.tokens[0])[0] == "LIDAR_LEFT"


def with_times(points):
    rows = np.zeros(len(points), [*((n, "<f4") for n in FIELDS[:4]), ("timestamp", "<u8")])
    for i, name in enumerate(FIELDS[:4]):
        rows[name] = points[:, i]
    rows["timestamp"] = 1_600_000_000_000_000 + np.arange(len(points))
    head = f"VERSION 0.7\nFIELDS {' '.join(FIELDS[:4])} timestamp\nSIZE 4 4 4 4 8\nTYPE F F F F U\nCOUNT 1 1 1 1 1\n"
    return f"{head}WIDTH {len(rows)}\nHEIGHT 1\nPOINTS {len(rows)}\nDATA binary\n".encode() + rows.tobytes()


def four_dimensions():
    azimuth = np.linspace(-0.8, 0.8, 20)
    place = np.stack([30 * np.cos(azimuth), 30 * np.sin(azimuth), 0 * azimuth + 1.0], axis=1)
    unit = place / np.linalg.norm(place, axis=1)[:, None]
    doppler = -10.0 * unit[:, 0]
    doppler[3] += 6.0
    rows = np.concatenate([place, unit * doppler[:, None], np.full((20, 1), 5.0)], axis=1).astype("<f4")
    names = "x y z vrel_x vrel_y vrel_z rcs"
    header = f"VERSION 0.7\nFIELDS {names}\nSIZE 4 4 4 4 4 4 4\nTYPE F F F F F F F\nCOUNT 1 1 1 1 1 1 1\nWIDTH 20\n"
    header += "HEIGHT 1\nPOINTS 20\nDATA binary_compressed\n"
    columns = rows.T.tobytes()
    packed = b"".join(bytes([len(columns[i : i + 32]) - 1]) + columns[i : i + 32] for i in range(0, len(columns), 32))
    return header.encode() + struct.pack("<II", len(packed), len(columns)) + packed


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("vehicle.bus (bendy & rigid)", "bus"),
        ("vehicle.emergency (ambulance & police)", None),
        ("movable_object.traffic_cone", "traffic_cone"),
        ("movable_object.pushable_pullable", None),
        ("static_object.bicycle rack", None),
        ("static_object.bicycle_rack", None),
        ("human.pedestrian.stroller", None),
        ("pedestrian.construction_worker", "pedestrian"),
        ("construction_worker", "pedestrian"),
        ("police_car", "car"),
        ("vehicle.ego_trailer", None),
        ("animal", None),
    ],
)
def test_categories_of_others(name, wanted):
    assert class_of_category(name) == wanted


def test_cameras_get_the_slot_that_they_look_at():
    def camera(name, degrees):
        yaw = np.deg2rad(degrees)
        ahead, right = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([np.sin(yaw), -np.cos(yaw), 0])
        return Sensor(name, "camera", SE3(np.stack([right, [0, 0, -1], ahead], axis=1), np.zeros(3)))

    ring = {"ring_front_center": 0, "ring_front_left": 46, "ring_front_right": -46, "ring_side_left": 99,
            "ring_side_right": -99, "ring_rear_left": 153, "ring_rear_right": -153}  # fmt: skip
    slots = camera_slots(camera(name, degrees) for name, degrees in ring.items())
    assert slots["ring_front_center"] == "CAM_FRONT"
    assert slots["ring_front_left"] == "CAM_FRONT_LEFT"
    assert slots["ring_side_right"] == "CAM_BACK_RIGHT"
    assert len(set(slots.values())) == len(slots)
    assert camera_slots([camera("CAM_BACK", 10)]) == {"CAM_BACK": "CAM_BACK"}
