# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bag export` and `bag import` from the outside."""

from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from tests.tools.datasets.conftest import MiniBuilder


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("bags") / "mini"
    MiniBuilder(root).build()
    return root


def run(*arguments: object):
    return CliRunner().invoke(app, ["bag", *map(str, arguments)])


def test_there_and_back(mini, tmp_path):
    out = tmp_path / "scene-0002.mcap"
    done = run("export", mini, "--scene", "scene-0002", "--out", out, "--zstd", "--topics", "autoware")
    assert done.exit_code == 0, done.output
    assert "scene-0002, 3 keyframes, 7 sensors" in done.stdout
    with Reader(out) as reader:
        names = {connection.topic for connection in reader.connections}
    assert {"/sensing/lidar/top/pointcloud_raw_ex", "/tf", "/tf_static", "/truth/boxes", "/truth/markers"} <= names
    done = run("import", out, "--out", tmp_path / "back", "--location", "test-track")
    assert done.exit_code == 0, done.output
    assert "(v1.0-bag): scene-0002, 3 keyframes, 55 files" in done.stdout
    assert CliRunner().invoke(app, ["dataset", "check", str(tmp_path / "back"), "--strict"]).exit_code == 0
    again = run("import", out, "--out", tmp_path / "back", "--scene", "scene-0002")
    assert again.exit_code == 2
    assert "choose another name with --scene" in again.stderr


def test_sqlite_folder_without_display_topics(mini, tmp_path):
    done = run("export", mini, "--out", tmp_path / "folder", "--sqlite3", "--no-display")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "folder" / "metadata.yaml").is_file()
    assert (tmp_path / "folder" / "folder.db3").is_file()
    with Reader(tmp_path / "folder") as reader:
        names = {connection.topic for connection in reader.connections}
    assert "/tf_static" in names
    assert not {"/tf", "/truth/markers"} & names


def test_nothing_is_overwritten_unasked(mini, tmp_path):
    out = tmp_path / "a.mcap"
    out.write_bytes(b"mine")
    done = run("export", mini, "--out", out)
    assert done.exit_code == 2
    assert out.read_bytes() == b"mine"
    assert run("export", mini, "--out", out, "--overwrite").exit_code == 0
    assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "{mini}", "--out", "{tmp}/a.mcap", "--scene", "scene-0003"), "no scene or split 'scene-0003'"),
        (("export", "{mini}", "--out", "{tmp}/a.mcap", "--topics", "autoware2"), "did you mean 'autoware'"),
        (("export", "{mini}", "--out", "{tmp}/a.mcap", "--sqlite3"), "call it a.db3"),
        (("export", "{mini}", "--out", "{tmp}/a.db3", "--zstd"), "name a folder instead"),
        (("export", "{tmp}", "--out", "{tmp}/a.mcap"), "scene.json"),
        (("import", "{tmp}/none.mcap", "--out", "{tmp}/o"), "none.mcap is no bag"),
    ],
)
def test_mistakes_are_one_line(mini, tmp_path, arguments, message):
    done = run(*(a.format(mini=mini, tmp=tmp_path) for a in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_real_scenes_get_fixes_on_demand(real_keyframe, tmp_path):
    assert run("export", real_keyframe, "--out", tmp_path / "a.mcap").exit_code == 0
    assert run("export", real_keyframe, "--out", tmp_path / "b.mcap", "--derive-gnss").exit_code == 0
    for name, there in (("a.mcap", False), ("b.mcap", True)):
        with Reader(tmp_path / name) as reader:
            assert ("/gnss/fix" in {connection.topic for connection in reader.connections}) == there


def test_missing_files_are_named_or_left_out(mini, tmp_path):
    import shutil

    root = Path(shutil.copytree(mini, tmp_path / "mini"))
    lost = max((root / "sweeps" / "RADAR_FRONT").iterdir())
    lost.unlink()
    name = f"--scene=scene-{lost.name[6:10]}"
    done = run("export", root, name, "--out", tmp_path / "a.mcap")
    assert done.exit_code == 2
    assert lost.name in done.stderr
    done = run("export", root, name, "--out", tmp_path / "a.mcap", "--allow-missing")
    assert done.exit_code == 0, done.output
    with Reader(tmp_path / "a.mcap") as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts["/radar_front/points"] == 15
