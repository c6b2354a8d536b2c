# SPDX-License-Identifier: Apache-2.0
"""The devkit itself judges what the writer wrote."""

import json
import math
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app as commands
from peft_dml_ros.core.errors import ConfigError, PeftDmlError
from peft_dml_ros.core.measurements import RADAR_DTYPE
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.commands.simulate import VERSION, split_names
from peft_dml_tools.datasets.checks import check_dataset
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_writer_files import radar_pcd_bytes
from peft_dml_tools.datasets.source import NuScenesSource
from tests.support.miniature import ARGUMENTS, IMAGE_WIDTH_PX, LIDAR_HZ, SECONDS, simulate_into


@pytest.fixture(scope="module")
def root(miniature) -> Path:
    return miniature


@pytest.fixture(scope="module")
def nusc(root):
    nuscenes = pytest.importorskip("nuscenes")
    return nuscenes.NuScenes(VERSION, str(root), verbose=False)


def _detections(nusc, change=lambda record: record):
    from nuscenes.eval.detection.utils import category_to_detection_name

    results = {}
    for sample in nusc.sample:
        found = []
        for own in sample["anns"]:
            a = nusc.get("sample_annotation", own)
            if a["num_lidar_pts"] + a["num_radar_pts"] == 0:
                continue
            attribute = nusc.get("attribute", a["attribute_tokens"][0])["name"] if a["attribute_tokens"] else ""
            record = {
                "sample_token": sample["token"],
                "translation": a["translation"],
                "size": a["size"],
                "rotation": a["rotation"],
                "velocity": np.nan_to_num(nusc.box_velocity(own)[:2]).tolist(),
                "detection_name": category_to_detection_name(a["category_name"]),
                "detection_score": 0.9,
                "attribute_name": attribute,
            }
            found.append(change(record))
        results[sample["token"]] = found
    return results


def _evaluate(nusc, results, folder: Path):
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    path = folder / "results.json"
    meta = dict.fromkeys(("use_camera", "use_lidar", "use_radar", "use_map", "use_external"), False)
    path.write_text(json.dumps({"meta": meta, "results": results}))
    config = config_factory("detection_cvpr_2019")
    evaluation = DetectionEval(nusc, config, str(path), "sim_val", str(folder), verbose=False)
    return evaluation.evaluate()[0], {b.detection_name for b in evaluation.gt_boxes.all}


def test_devkit_loads_and_counts_the_same_points(nusc):
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    assert len(nusc.scene) == 2
    assert len(nusc.sample) == 6
    for sample in nusc.sample[::3]:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        counts = [nusc.get("sample_annotation", box.token)["num_lidar_pts"] for box in boxes]
        # Boxes are upright in the map, also where a slope tilts the vehicle.
        np.testing.assert_allclose([points_in_box(box, points).sum() for box in boxes], counts, atol=1)
        assert np.sum(counts) > 200


def test_devkit_accumulates_sweeps_of_lidar_and_radar(nusc):
    from nuscenes.utils.data_classes import LidarPointCloud, RadarPointCloud

    sample = nusc.sample[2]
    _, ages = LidarPointCloud.from_file_multisweep(nusc, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=3)
    np.testing.assert_allclose(np.unique(ages), np.arange(3) / LIDAR_HZ, atol=1e-5)
    points, _ = RadarPointCloud.from_file_multisweep(nusc, sample, "RADAR_FRONT", "LIDAR_TOP", nsweeps=5)
    assert points.points.shape[0] == 18
    assert points.points.shape[1] > 20


def test_velocity_of_the_devkit_is_the_truth(nusc):
    from peft_dml_tools.sim.drive import Drive, DriveSpec

    spec = DriveSpec(image_width_px=IMAGE_WIDTH_PX, camera_hz=2.0, lidar_hz=LIDAR_HZ)
    drive = Drive(400_000, SECONDS, spec, name="scene-5000")
    for sample, stamp in zip(nusc.sample[:3], drive.keyframes_ns, strict=True):
        assert sample["timestamp"] == stamp // 1000
        truth = drive.truth_at(stamp).transform(drive.global_SE3_base(stamp))
        annotations = [nusc.get("sample_annotation", a) for a in sample["anns"]]
        for a in annotations:
            near = np.linalg.norm(truth.centers_m - a["translation"], axis=1)
            i = int(np.argmin(near))
            assert near[i] < 1e-6
            if a["prev"] and a["next"]:
                np.testing.assert_allclose(nusc.box_velocity(a["token"])[:2], truth.velocities_mps[i], atol=0.45)


def _moves(nusc, own) -> bool:
    return bool(np.isfinite(nusc.box_velocity(own)).all())


def test_truth_scores_one_and_shuffled_boxes_nothing(nusc, tmp_path):
    from nuscenes.eval.detection.utils import category_to_detection_name

    metrics, present = _evaluate(nusc, _detections(nusc), tmp_path)
    aps = metrics.serialize()["mean_dist_aps"]
    assert len(present) >= 5
    tracked = {
        nusc.get("sample_annotation", a)["category_name"] for s in nusc.sample for a in s["anns"] if _moves(nusc, a)
    }
    for name in present:
        assert aps[name] == pytest.approx(1.0), name
        errors = dict(metrics.serialize()["label_tp_errors"][name])
        if not any(category_to_detection_name(category) == name for category in tracked):
            assert errors.pop("vel_err") == 1  # what the devkit says where no velocity is known
        # Nobody asks a cone for its attribute, nor a barrier for its speed: nan.
        assert all(math.isnan(error) or error == pytest.approx(0, abs=1e-6) for error in errors.values()), errors
    rng = np.random.default_rng(0)

    def shuffle(record):
        x, y, z = record["translation"]
        return record | {"translation": [x + rng.uniform(8, 20), y - rng.uniform(8, 20), z]}

    wrong, _ = _evaluate(nusc, _detections(nusc, shuffle), tmp_path)
    assert wrong.mean_ap < 0.1


def test_files_are_as_nuscenes_lays_them_out(nusc, root):
    for name in ("category", "attribute", "visibility", "sensor", "calibrated_sensor", "ego_pose", "log", "map"):
        assert (root / VERSION / f"{name}.json").is_file()
    for record in nusc.sample_data:
        assert (root / record["filename"]).is_file()
        assert record["filename"].startswith("samples" if record["is_key_frame"] else "sweeps")
    for scene in nusc.scene:
        for message in ("ms_imu", "pose", "vehicle_monitor", "gnss"):
            rows = json.loads((root / "can_bus" / f"{scene['name']}_{message}.json").read_text())
            assert [r["utime"] for r in rows] == sorted(r["utime"] for r in rows)
    points = np.zeros(7, RADAR_DTYPE)
    assert len(radar_pcd_bytes(points)) == 4096 + 43 * 7


def test_devkit_draws_it(nusc, tmp_path):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sample = nusc.sample[2]
    own = next(a for a in sample["anns"] if nusc.get("sample_annotation", a)["num_lidar_pts"] > 3)
    drawings = {
        **{
            channel: partial(nusc.render_sample_data, sample["data"][channel], verbose=False)
            for channel in ("LIDAR_TOP", "CAM_FRONT", "RADAR_FRONT")
        },
        **{
            f"{channel} in the picture": partial(
                nusc.render_pointcloud_in_image, sample["token"], pointsensor_channel=channel, verbose=False
            )
            for channel in ("LIDAR_TOP", "RADAR_FRONT")
        },
        "annotation": partial(nusc.render_annotation, own),
        "map": partial(nusc.render_egoposes_on_map, nusc.get("log", nusc.scene[0]["log_token"])["location"]),
    }
    for name, draw in drawings.items():
        picture = tmp_path / f"{name}.png"
        draw(out_path=str(picture))
        assert cv2.imread(str(picture)).std() > 5, name
        plt.close("all")
    drivable = nusc.map[0]["mask"].mask()
    assert 0.01 < (drivable > 0).mean() < 0.9
    points, depth, _ = nusc.explorer.map_pointcloud_to_image(
        sample["data"]["LIDAR_TOP"], sample["data"]["CAM_FRONT"], render_intensity=True
    )
    assert points.shape[1] == len(depth) > 200


def test_devkit_reads_the_can_bus(nusc, root):
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    bus = NuScenesCanBus(dataroot=str(root))
    for scene in nusc.scene:
        poses, imu, monitor = (bus.get_messages(scene["name"], kind) for kind in ("pose", "ms_imu", "vehicle_monitor"))
        assert {"pos", "orientation", "vel", "accel", "rotation_rate"} <= poses[0].keys()
        assert len(imu) > 100
        assert monitor[0]["vehicle_speed"] >= 0
    ego = nusc.get("ego_pose", nusc.get("sample_data", nusc.sample[0]["data"]["LIDAR_TOP"])["ego_pose_token"])
    first = min(bus.get_messages(nusc.scene[0]["name"], "pose"), key=lambda row: abs(row["utime"] - ego["timestamp"]))
    np.testing.assert_allclose(first["pos"][:2], ego["translation"][:2], atol=1.0)


def test_the_miniature_is_small_and_sound(root):
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 10e6
    report = check_dataset(root)
    assert report.passed(strict=True), [(o.rule.id, o.examples[0]) for o in report.broken]


def test_layouts_of_the_official_sets_are_read_alike(root, tmp_path):
    """v1.0-mini and v1.0-trainval side by side in one folder, as their archives unpack."""
    for version in ("v1.0-mini", "v1.0-trainval"):
        shutil.copytree(root / VERSION, tmp_path / version)
        (tmp_path / version / "splits.json").unlink()
    for folder in ("samples", "sweeps", "maps"):
        (tmp_path / folder).symlink_to(root / folder)
    with pytest.raises(PeftDmlError, match="version folder"):
        NuScenesReader(tmp_path)
    reader, own = NuScenesReader(tmp_path, "v1.0-mini"), NuScenesReader(root)
    assert NuScenesReader(tmp_path / "v1.0-mini", "v1.0-mini").samples() == reader.samples()
    token = reader.samples()[2]
    here, there = (r.snapshot(token, ModelSpec()) for r in (reader, own))
    assert np.array_equal(here.lidar["LIDAR_TOP"][0].points, there.lidar["LIDAR_TOP"][0].points)
    assert (len(here.imu), len(here.gnss)) == (0, 0)
    assert not here.has("imu")
    assert len(there.imu) > 50
    assert NuScenesSource(NuScenesReader(tmp_path, "v1.0-trainval")).rig.sensors.keys() == set(
        own.rig(token).sensors
    ) - {
        "IMU",
        "GNSS",
    }


def test_an_interrupted_run_goes_on_and_ends_the_same(root, tmp_path):
    out = tmp_path / "again"
    assert simulate_into(out, "--workers", "2").exit_code == 0
    finished = out / VERSION / "scenes" / "scene-5001.json"
    finished.unlink()
    kept = (out / VERSION / "scenes" / "scene-5000.json").stat().st_mtime_ns
    assert simulate_into(out).exit_code == 0
    assert (out / VERSION / "scenes" / "scene-5000.json").stat().st_mtime_ns == kept
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
    for path in files:
        assert (root / path).read_bytes() == (out / path).read_bytes(), path


def test_other_settings_in_the_same_folder_are_refused(root):
    result = CliRunner().invoke(commands, ["simulate", "--out", str(root), *ARGUMENTS, "--seed", "9"])
    assert result.exit_code == 2
    assert "seed 4 -> 9" in " ".join(result.output.split())
    usual = CliRunner().invoke(commands, ["simulate", "--out", str(root), *ARGUMENTS, "--lidar-hz", "13"])
    assert "None" not in usual.output, "what was left at its default has a value too"
    assert "-> 13.0" in " ".join(usual.output.split())


@pytest.mark.parametrize("shares", ["1,2,3", "0.5,0.5", "a,b,c", "-0.5,1,0.5"])
def test_wrong_shares_are_refused(shares):
    with pytest.raises(ConfigError, match="sum to 1"):
        split_names(["a"], shares)


def test_split_takes_every_scene_once():
    parts = split_names([str(i) for i in range(17)], "0.7,0.2,0.1")
    assert [name for part in parts.values() for name in part] == [str(i) for i in range(17)]
