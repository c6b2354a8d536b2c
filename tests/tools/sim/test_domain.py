# SPDX-License-Identifier: Apache-2.0
"""Domains: what they change, what two of them share, and how a data set tells of them."""

import json

import numpy as np
import pytest
import yaml

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.provenance import domain_of, scene_identities, shared_facts
from peft_dml_tools.sim.domain import NUMBERS, OTHERS, PRESETS, Domain, scene_numbers
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.lidar import MODELS
from peft_dml_tools.sim.vehicle_rig import make_rig

QUIET = {"camera_hz": 0, "radar_hz": 0, "lidar_hz": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A scene of each preset, with depth."""
    root = tmp_path_factory.mktemp("domains")
    for name in ("source", "target"):
        command = ["simulate", "--out", str(root / name), "--domain", name, "--scenes", "1", "--seconds", "1.5"]
        command += ["--image-width", "96", "--lidar-hz", "4", "--depth-stride", "8", "--splits", "1,0,0"]
        app(command, standalone_mode=False)
    return {name: root / name for name in ("source", "target")}


def test_source_and_target_share_nothing(folders):
    assert shared_facts(*map(domain_of, folders.values())) == []
    scenes = [set(scene_identities(folder).values()) for folder in folders.values()]
    assert all(scenes)
    assert not set.intersection(*scenes)
    a, b = PRESETS["source"], PRESETS["target"]
    source, target = (MODELS[one.lidar] for one in (a, b))
    assert source.rings != target.rings
    assert min(abs(x - y) for x in source.elevations_deg[:2] for y in target.elevations_deg) > 0.2
    rigs = make_rig(vehicle=a.vehicle), make_rig(vehicle=b.vehicle)
    for name in (n for n in rigs[0].sensors if n.startswith(("CAM", "LIDAR", "RADAR"))):
        places = (rig[name].base_SE3_sensor.translation for rig in rigs)
        assert np.linalg.norm(np.subtract(*places)) > 0.1


def test_what_is_shared_is_named(folders, tmp_path):
    source = domain_of(folders["source"])
    named = " ".join(shared_facts(source, source))
    for text in ("name source", "vehicle van", "lidar pandar40p", "streets grid", "traffic right", "weather clear"):
        assert text in named
    assert shared_facts(source, domain_of(folders["target"]) | {"traffic": "both"}) == ["traffic right/both"]
    assert shared_facts(source, {}) == []
    with pytest.raises(DataError, match="no folder"):
        domain_of(tmp_path / "nowhere")


def test_a_data_set_tells_its_domain(folders):
    for name, root in folders.items():
        tables = root / "v1.0-sim"
        assert json.loads((tables / "simulate.json").read_text())["domain"]["name"] == name
        (scene,) = json.loads((tables / "scene.json").read_text())
        assert f"domain {name}, drive " in scene["description"]
        (log,) = json.loads((tables / "log.json").read_text())
        assert log["vehicle"] == f"sim-{PRESETS[name].vehicle}"
        assert ("boston" in log["location"]) == (PRESETS[name].traffic == "right")


def test_depth_of_pictures_agrees_with_the_lidar(folders):
    reader = NuScenesReader(folders["source"])
    token = reader.samples()[0]
    depths, rig, frames = reader.depth(token), reader.rig(token), reader.keyframes(token)
    assert set(depths) == {name for name in rig.sensors if name.startswith("CAM")}
    points = reader.load(frames["LIDAR_TOP"]).points[:, :3].astype(np.float64)
    points = points[np.linalg.norm(points, axis=1) > 3]
    errors = []
    for name, depth in depths.items():
        assert depth.shape == (7, 12)
        camera = rig[name].camera
        to_base = reader.pose(frames[name]).inverse() @ reader.pose(frames["LIDAR_TOP"])
        optical = (rig[name].base_SE3_sensor.inverse() @ to_base @ rig["LIDAR_TOP"].base_SE3_sensor).transform(points)
        optical = optical[optical[:, 2] > 1]
        u, v, _ = camera.intrinsics @ (optical / optical[:, 2:]).T
        for row in range(depth.shape[0]):
            for column in range(depth.shape[1]):
                near = np.hypot(u - (8 * column + 4.5), v - (8 * row + 4.5)) < 0.7
                if near.any() and np.isfinite(depth[row, column]):
                    errors.append(np.median(optical[near, 2]) / depth[row, column] - 1)
    assert len(errors) > 30
    assert abs(np.median(errors)) < 0.02
    assert np.quantile(np.abs(errors), 0.7) < 0.15


def test_a_damaged_depth_image_is_named(folders):
    path = next((folders["target"] / "depth" / "CAM_BACK").glob("*.png"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    reader = NuScenesReader(folders["target"])
    with pytest.raises(DataError, match="CAM_BACK"):
        [reader.depth(token) for token in reader.samples()]
    path.write_bytes(whole)


def test_traffic_side_and_streets_follow_the_domain():
    for name, hand in (("source", 1), ("target", -1)):
        for seed in range(4):
            road = Drive(seed, 1.0, DriveSpec(**QUIET, domain=PRESETS[name])).world.road
            assert road.hand == hand
            assert (road.lane_m > 3.45) == (name == "source")
            assert (np.abs(np.diff(road.headings_rad)).max() > 1 / 500) == (name == "target")


def test_the_lidar_of_the_domain_fires():
    drive = Drive(3, 0.5, DriveSpec(**QUIET, domain=PRESETS["source"]))
    sweep = next(m for name, m in drive.measurements() if name == "LIDAR_TOP")
    model = MODELS["pandar40p"]
    assert len(sweep.points) == model.rings * model.azimuths
    assert set(sweep.points[:, 4]) == set(range(40))


def test_a_domain_comes_from_a_file_and_takes_changes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "traffic": "left", "weather": ["rain=3"], "relief": 0}))
    assert Domain.load(str(path), vehicle="van").model_dump() == {
        "name": "mine",
        "traffic": "left",
        "streets": "mixed",
        "vehicle": "van",
        "lidar": "hdl32e",
        "weather": ("rain=3",),
        "relief": 0.0,
    }
    assert Domain.load("source", lidar="hdl32e").name == "source-hdl32e"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("traffic: up", "traffic: Input should be 'both', 'right' or 'left'"),
        ("beams: 3", "beams: Extra inputs.*fix: its fields are name, traffic"),
        ("weather: [hail=3]", "hail"),
        ("- 3", "is not a mapping; fix: a YAML file with name, traffic"),
    ],
)
def test_a_domain_that_cannot_be_is_refused(tmp_path, content, said):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        Domain.load(str(path))


def test_an_unknown_domain_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'sorce'.*source.*Fix"):
        Domain.load("sorce")


def test_scene_numbers_of_domains_do_not_meet():
    assert not set(NUMBERS["source"]) & set(NUMBERS["target"])
    assert not set(OTHERS) & {*NUMBERS["source"], *NUMBERS["target"]}
    assert scene_numbers("target-van", 2)[0] == NUMBERS["target"][0]
    with pytest.raises(ConfigError, match="has 1500 scene numbers"):
        scene_numbers("source", 1501)
