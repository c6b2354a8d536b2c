# SPDX-License-Identifier: Apache-2.0
"""`colcon build`, plain and with --symlink-install: the share tree is complete and the executables start and stop."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.random_bundle import make_random_bundle

pytest.importorskip("colcon_core", reason="colcon is not installed")

NAME = "peft_dml_ros"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["plain", "symlink"])
def workspace(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a colcon workspace in which a copy of the tracked files, with some demo bundle, was built."""
    root = tmp_path_factory.mktemp(request.param)
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (repository / name).is_file():
            copy = root / "src" / NAME / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, copy)
    bundle = root / "src" / NAME / "models" / "demo"
    if not (bundle / "manifest.json").is_file():
        make_random_bundle(bundle, name="demo")
    command = [sys.executable, "-m", "colcon", "build", *(["--symlink-install"] if request.param == "symlink" else [])]
    # Without it setuptools says that it does not compile.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "build.log").write_text(done.stdout + done.stderr)
    return root


def in_workspace(workspace: Path, command: str) -> list[str]:
    """Return the command line that runs `command` in a shell that has sourced the workspace."""
    return ["bash", "-c", f". {shlex.quote(str(workspace / 'install' / 'setup.bash'))} && exec {command}"]


def test_one_package_is_built(workspace: Path) -> None:
    packages = workspace / "install" / NAME / "share" / "colcon-core" / "packages"
    assert [path.name for path in packages.iterdir()] == [NAME]
    assert [path.name for path in (workspace / "install").iterdir() if path.is_dir()] == [NAME]


def test_the_build_warns_of_nothing(workspace: Path) -> None:
    said = (workspace / "build.log").read_text()
    assert "1 package finished" in said
    assert "stderr" not in said, said


def test_the_command_is_on_the_path_and_finds_the_tools(workspace: Path) -> None:
    command = in_workspace(workspace, "peft-dml --help")
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {"doctor", "demo", "replay"} <= set(done.stdout.split())
    where = in_workspace(workspace, "bash -c 'command -v peft-dml; ls -d ${PATH%%:*}/*'")
    paths = subprocess.run(where, cwd=workspace, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    installed = workspace / "install" / NAME / "share" / NAME / "bin" / "peft-dml"
    assert paths == [str(installed), str(installed)], "no other executable is put on PATH"


def test_both_packages_are_installed(workspace: Path) -> None:
    code = "import peft_dml_ros, peft_dml_tools; print(peft_dml_ros.__file__, peft_dml_tools.__file__)"
    command = in_workspace(workspace, f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}")
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True, timeout=60)
    assert all(path.startswith(str(workspace)) for path in done.stdout.split())


def test_share_tree_is_complete(workspace: Path) -> None:
    source, share = workspace / "src" / NAME, workspace / "install" / NAME / "share"
    assert (share / "ament_index" / "resource_index" / "packages" / NAME).is_file()
    for folder in ("launch", "config", "models/demo"):
        for path in (source / folder).rglob("*"):
            if path.is_file():
                installed = share / NAME / path.relative_to(source)
                assert installed.read_bytes() == path.read_bytes()
    assert (share / NAME / "package.xml").is_file()
    assert list((share / NAME / "launch").glob("*.launch.py"))
    assert (share / NAME / "models" / "demo" / "manifest.json").is_file()


@pytest.mark.parametrize("executable", ["recorder", "replay"])
def test_executable_explains_itself(workspace: Path, executable: str) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 here")
    command = in_workspace(workspace, f"{shlex.quote(str(executables(workspace) / executable))} --help")
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"usage: {executable}" in done.stdout


@pytest.mark.ros
def test_perception_starts_and_stops(workspace: Path) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 here")
    log = workspace / "perception.log"
    path = shlex.quote(str(executables(workspace) / "perception"))
    with log.open("w") as output:
        process = subprocess.Popen(
            in_workspace(workspace, f"{path} --ros-args -r __ns:=/colcon_test"),
            cwd=workspace,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            assert wait_for(log, "perception active: bundle demo", process), log.read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) in {0, 130, -signal.SIGINT}, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(timeout=10)
    assert "Traceback" not in log.read_text()


def executables(workspace: Path) -> Path:
    """Return the folder in which ROS looks for the executables of the package."""
    return workspace / "install" / NAME / "lib" / NAME


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes], timeout_s: float = 120.0) -> bool:
    """Return whether `process` lives and has written `text` to `log` within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if text in log.read_text() and "Traceback" not in log.read_text():
            return True
        time.sleep(0.2)
    return False
