# SPDX-License-Identifier: Apache-2.0
"""Labels of other tools are converted and checked, frames are held out, and a gain comes with its interval."""

import json
import zipfile

import numpy as np
import pytest
from numpy.lib.recfunctions import structured_to_unstructured
from typer.testing import CliRunner

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_tools.commands.dataset import dataset
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.point_files import read_pcd
from peft_dml_train.config import load_config
from peft_dml_train.few_shot.adapt import AdaptOptions, recipe_of
from peft_dml_train.few_shot.frames import hold_out
from peft_dml_train.few_shot.labels import LabelledReader
from peft_dml_train.few_shot.pseudo_labels import PseudoLabelledReader
from tests.support.damaged_base import BASE


def boxes(*centers, scores=None):
    n = len(centers)
    return Boxes3D.make(
        np.array([(*c, 1.0) for c in centers]).reshape(n, 3), np.full((n, 3), 2.0), np.zeros(n),
        np.zeros(n, int), scores=scores,
    )  # fmt: skip


# ---------------------------------------------------------------- labels
def box(**changes):
    return {"class": "car", "center": [10.0, 2.0, 0.9], "size": [4.5, 1.9, 1.6], "yaw": 0.3} | changes


@pytest.fixture
def write(miniature, tmp_path):
    reader = NuScenesReader(miniature)

    def one(*entries, frame_id="base_link", **content):
        token = reader.samples()[0]
        record = {"frame": token, "frame_id": frame_id, "boxes": list(entries)} | content
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{len(list((tmp_path / 'labels').iterdir()))}.json").write_text(json.dumps(record))
        return LabelledReader(miniature, tmp_path / "labels", {"pickup": "truck"})

    one.reader, one.folder = reader, tmp_path / "labels"
    return one


def test_labels_replace_the_truth_and_other_frames_are_no_keyframes(write):
    found = write(box(), box(**{"class": "pickup", "velocity": [3.0, 0.0]}))
    token = write.reader.samples()[0]
    assert found.samples() == [token]
    truth = found.truth(token)
    np.testing.assert_allclose(truth.centers_m[0], [10.0, 2.0, 0.9])
    assert truth.labels.tolist() == [0, 1]
    assert np.isnan(truth.velocities_mps[0]).all()
    assert truth.velocities_mps[1].tolist() == [3.0, 0.0]


@pytest.mark.parametrize("kind", ["stamp_ns", "stamp_us", "file"])
def test_a_frame_is_known_by_its_stamp_and_its_files(write, kind):
    token = write.reader.samples()[0]
    stamp_ns = write.reader.stamp_ns(token)
    name = write.reader.keyframes(token)["LIDAR_TOP"]["filename"].rpartition("/")[2]
    frame = {"stamp_ns": stamp_ns, "stamp_us": stamp_ns // 1000, "file": name}[kind]
    assert write(box(), frame=frame).samples() == [token]


def test_boxes_in_a_sensors_frame_are_moved_to_the_vehicle(write):
    token = write.reader.samples()[0]
    mounting = write.reader.rig(token).sensors["LIDAR_TOP"].base_SE3_sensor
    truth = write(box(yaw=0.0), frame_id="LIDAR_TOP").truth(token)
    np.testing.assert_allclose(truth.centers_m[0], mounting.transform(np.array([[10.0, 2.0, 0.9]]))[0])
    assert truth.yaws_rad[0] == pytest.approx(mounting.yaw_rad)


@pytest.fixture
def cloud(miniature, tmp_path):
    """Name of the first keyframe's cloud, as `dataset clouds` writes it, and the LiDAR's mounting."""
    said = CliRunner().invoke(dataset, ["clouds", str(miniature), "--out", str(tmp_path / "clouds")])
    assert said.exit_code == 0, said.output
    reader = NuScenesReader(miniature)
    token, files = reader.samples()[0], sorted((tmp_path / "clouds").iterdir())
    assert len(files) == len(reader.samples())
    record = reader.keyframes(token)["LIDAR_TOP"]
    stem = record["filename"].rpartition("/")[2].split(".")[0]
    written = read_pcd(tmp_path / "clouds" / f"{stem}.pcd")
    np.testing.assert_array_equal(structured_to_unstructured(written), reader.load(record).points[:, :4])
    return stem, token, reader.rig(token).sensors["LIDAR_TOP"].base_SE3_sensor


def cvat_export(name):
    """What CVAT's "Datumaro 3D" holds: a frame with a cuboid of the second label, and one that nobody labelled."""
    cuboid = {
        "id": 0, "type": "cuboid_3d", "attributes": {"occluded": False}, "group": 0, "label_id": 1,
        "position": [5.0, 1.0, -0.8], "rotation": [0, 0, 0.2], "scale": [4, 2, 1.5],
    }  # fmt: skip
    return {
        "info": {},
        "categories": {"label": {"labels": [{"name": "bus"}, {"name": "car"}]}},
        "items": [
            {"id": name, "annotations": [cuboid, {"type": "label", "label_id": 0}], "point_cloud": {"path": ""}},
            {"id": "another", "annotations": []},
        ],
    }


def seen_by_lidar(found, token, mounting):
    truth = found.truth(token)
    np.testing.assert_allclose(truth.centers_m[0], mounting.transform(np.array([[5.0, 1.0, -0.8]]))[0])
    assert truth.yaws_rad[0] == pytest.approx(0.2 + mounting.yaw_rad)
    assert (truth.labels.tolist(), truth.sizes_m[0].tolist()) == ([0], [4, 2, 1.5])
    return True


@pytest.mark.parametrize("name", ["{}", "{}.pcd", "default/clouds/{}"])
@pytest.mark.parametrize("form", ["file", "folder", "zip"])
def test_cuboids_of_cvat_are_read(cloud, miniature, tmp_path, name, form, caplog):
    stem, token, mounting = cloud
    text, folder = json.dumps(cvat_export(name.format(stem))), tmp_path / "export"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "default.json").write_text(text)
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("annotations/default.json", text)
    path = {"file": folder / "annotations" / "default.json", "folder": folder, "zip": tmp_path / "export.zip"}[form]
    found = LabelledReader(miniature, path)
    assert found.samples() == [token]
    assert seen_by_lidar(found, token, mounting)
    assert "1 frames without a cuboid count as not labelled" in caplog.text
    (tmp_path / "export.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"export.zip cannot be read: File is not"):
        LabelledReader(miniature, tmp_path / "export.zip")


def test_boxes_of_sustechpoints_are_read(cloud, miniature, tmp_path):
    stem, token, mounting = cloud
    psr = {
        "position": {"x": 5.0, "y": 1.0, "z": -0.8}, "scale": {"x": 4, "y": 2, "z": 1.5},
        "rotation": {"x": 0, "y": 0, "z": 0.2},
    }  # fmt: skip
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / f"{stem}.json").write_text(json.dumps([{"obj_id": "1", "obj_type": "Car", "psr": psr}]))
    found = LabelledReader(miniature, tmp_path / "label", {"Car": "car"})
    assert seen_by_lidar(found, token, mounting)


@pytest.mark.parametrize(
    ("entry", "content", "reason"),
    [
        (box(**{"class": "pedestrain"}), {}, "did you mean 'pedestrian'.*map it: --class pedestrain=car"),
        (box(size=[450.0, 190.0, 160.0]), {}, "units are metres"),
        (box(size=[0.0, 1.0, 1.0]), {}, "cannot be"),
        (box(center=[1.0, float("nan"), 0.0]), {}, "finite numbers"),
        (box(center=[1.0, 2.0]), {}, "3, 3 and 1 finite"),
        (
            box(),
            {"frame": "nowhere"},
            r"frame 'nowhere' is not in \S+, which has e\.g\. '(?!none')[^']+'; fix: correct these$",
        ),
        (box(), {"frame_id": "LIDAR_TOPP"}, "did you mean 'LIDAR_TOP'"),
        ({"class": "car"}, {}, "holds no labels: KeyError"),
        (box(center=[1.0, 2.0], size=[4.0, 2.0, 1.5, 1.0]), {}, "centre, size and yaw must be 3, 3 and 1"),
    ],
)
def test_labels_that_cannot_be_are_refused_by_name(write, entry, content, reason):
    with pytest.raises(DataError, match=reason):
        write(entry, **content)


def test_a_frame_labelled_twice_is_refused(write):
    write(box())
    with pytest.raises(DataError, match="labelled twice"):
        write(box())


# ---------------------------------------------------------------- frames held out
class Scenes:
    def __init__(self, *counts):
        self.root, self.scenes = "data", tuple(f"s{i}" for i in range(len(counts)))
        self._tokens = {f"s{i}": [f"{i}-{n}" for n in range(count)] for i, count in enumerate(counts)}

    def samples(self, scene):
        return self._tokens[scene]


def test_whole_scenes_are_held_out_where_they_come_near_the_share():
    parts = hold_out(Scenes(5, 5, 5, 5), 0.25)
    assert {t.partition("-")[0] for t in parts.held_out} == {"0"}
    assert len(parts.trained) == 15
    assert hold_out(Scenes(8, 4), 0.25).held_out == ["1-0", "1-1", "1-2", "1-3"]
    six = hold_out(Scenes(*[6] * 6), 0.25)
    assert (six.units, six.groups, six.cut) == ("2 scenes", [0] * 6 + [5] * 6, 6)
    assert not set(six.held_out) & set(six.trained)
    assert hold_out(Scenes(*[1] * 40), 0.25).cut == 5


def test_of_scenes_too_few_or_too_unlike_the_last_frames_are_held_out():
    parts = hold_out(Scenes(20, 20), 0.1)
    assert parts.held_out == ["0-18", "0-19", "1-18", "1-19"]
    assert (parts.units, parts.cut) == ("2 scenes", 2)
    one = hold_out(Scenes(40), 0.25)
    assert one.held_out == [f"0-{n}" for n in range(30, 40)]
    assert (one.units, one.groups, one.cut) == ("3 blocks of one scene", [0, 0, 0, 0, 1, 1, 1, 2, 2, 2], 4)
    assert hold_out(Scenes(37, 1, 1, 1), 0.25).units == "3 blocks of one scene"
    assert hold_out(Scenes(8), 0.25).groups == [0, 1]


def test_too_few_frames_are_refused():
    with pytest.raises(DataError, match="7 labelled frames; fix: label at least 8"):
        hold_out(Scenes(7), 0.25)
    with pytest.raises(DataError, match="two halves are needed; fix: raise --held-out"):
        hold_out(Scenes(8), 0.1)


# ---------------------------------------------------------------- the model's own labels
def test_the_models_own_boxes_count_where_the_next_frame_has_them_too(miniature):
    reader = NuScenesReader(miniature)
    scene = next(name for name in reader.scenes if len(reader.samples(name)) >= 2)
    place = reader.global_SE3_base(reader.samples(scene)[0]).transform(np.array([[12.0, 3.0, 0.0]]))

    def find(token):
        standing = reader.global_SE3_base(token).inverse().transform(place)[0]
        ghost = (30.0 if token == reader.samples(scene)[0] else -30.0, 0.0)
        return boxes(standing[:2], ghost, standing[:2], scores=np.array([0.8, 0.9, 0.1]))

    found = PseudoLabelledReader(miniature, find)
    assert reader.samples(scene)[0] in found.samples()
    assert len(found.truth(reader.samples(scene)[0])) == 1
    with pytest.raises(DataError, match="sure of nothing"):
        PseudoLabelledReader(miniature, lambda _: Boxes3D.empty())


def test_a_base_trained_by_many_processes_is_adapted_in_one(monkeypatch):
    bundle = load_bundle(BASE)
    monkeypatch.setitem(bundle.manifest.provenance["config"], "workers", 12)
    monkeypatch.setitem(bundle.manifest.provenance["config"], "processes", 8)
    recipe = recipe_of(bundle, AdaptOptions())
    assert (recipe.workers, recipe.processes) == (0, 1)


@pytest.mark.parametrize("key", ["harmed_portion", "degraded_portion"])
def test_a_recipe_of_an_earlier_release_keeps_its_meaning(monkeypatch, key):
    bundle = load_bundle(BASE)
    monkeypatch.setitem(bundle.manifest.provenance["config"], "dropout", {key: 0.125})
    assert recipe_of(bundle, AdaptOptions()).dropout.degraded_portion == 0.125
    with pytest.raises(ConfigError, match=r"dropout\.harmed_portion: unknown key, did you mean 'degraded_portion'\?"):
        load_config(None, ("dropout.harmed_portion=0.1",))
