# SPDX-License-Identifier: Apache-2.0
"""`peft-dml dataset check` from the outside: exit codes, table, JSON."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from tests.tools.datasets.conftest import MiniBuilder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "mini"
    MiniBuilder(root).build()
    return root


@pytest.fixture
def damaged(whole, tmp_path) -> Path:
    """A cut LiDAR file (an error), and a scene without inertial data (an info)."""
    root = Path(shutil.copytree(whole, tmp_path / "mini"))
    path = min((root / "samples" / "LIDAR_TOP").iterdir())
    path.write_bytes(path.read_bytes()[:-7])
    (root / "can_bus" / "scene-0002_ms_imu.json").unlink()
    return root


def check(*arguments: object):
    return CliRunner().invoke(app, ["dataset", "check", *map(str, arguments)])


def test_a_whole_folder_passes(whole):
    done = check(whole, "--strict")
    assert done.exit_code == 0, done.output
    assert "2 scenes, 6 keyframes, 110 files, 24 annotations; 33 of 33 rules" in done.stdout
    assert "0 error(s), 0 warning(s), 0 info(s)" in done.stdout
    assert "FMT002" not in done.stdout
    assert "FMT002" in check(whole, "--rules").stdout


def test_errors_give_exit_code_1_and_a_mend(damaged):
    done = check(damaged)
    assert done.exit_code == 1
    words = " ".join(done.stdout.split())
    assert "FMT002" in words
    assert "FMT009" in words
    assert "1 error(s), 0 warning(s), 1 info(s)" in words
    assert check(damaged, "--exclude", "FMT002").exit_code == 0
    assert check(damaged, "--exclude", "FMT002", "--strict").exit_code == 0


def test_warnings_fail_only_when_strict(whole, tmp_path):
    root = Path(shutil.copytree(whole, tmp_path / "mini"))
    (root / "maps" / "m.png").unlink()
    assert check(root).exit_code == 0
    assert check(root, "--strict").exit_code == 1


def test_json_holds_everything(damaged):
    done = check(damaged, "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    assert report["counts"] == {"error": 1, "warning": 0, "info": 1}
    assert report["rules"] == 33
    (error,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert error["id"] == "FMT002"
    assert error["fix"]
    assert error["examples"][0]["where"].startswith("samples/LIDAR_TOP/")


@pytest.mark.parametrize("arguments", [("{empty}",), ("{empty}/none",), ("{whole}", "--exclude", "NOPE")])
def test_what_cannot_run_gives_exit_code_2(whole, tmp_path, arguments):
    done = check(*(a.format(empty=tmp_path, whole=whole) for a in arguments))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_real_keyframe_passes(real_keyframe):
    assert check(real_keyframe).exit_code == 0
    assert check(real_keyframe, "--strict", "--exclude", "REF004").exit_code == 0
