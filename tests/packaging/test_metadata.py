# SPDX-License-Identifier: Apache-2.0
"""package.xml, pyproject.toml and the code say the same, and a wheel carries what the robot needs."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import peft_dml_ros
import peft_dml_train

ROS_PACKAGE = re.compile(r"\w+_msgs|std_srvs|builtin_interfaces|rcl_interfaces|rclpy|launch|launch_ros")


def manifest(repository: Path) -> ET.Element:
    return ET.parse(repository / "package.xml").getroot()


def test_one_version(repository: Path) -> None:
    assert manifest(repository).findtext("version") == peft_dml_ros.__version__
    assert peft_dml_train.__version__ == peft_dml_ros.__version__
    assert f'version = "{peft_dml_ros.__version__}"' in (repository / "train" / "pyproject.toml").read_text()


def test_package_xml_is_format_3_ament_python(repository: Path) -> None:
    root = manifest(repository)
    assert root.get("format") == "3"
    assert root.findtext("export/build_type") == "ament_python"
    assert root.findtext("license") == "Apache-2.0"


def test_every_ros_import_is_an_exec_depend(repository: Path) -> None:
    declared = {element.text for element in manifest(repository).iter("exec_depend")}
    used = set()
    packages = [*(repository / "peft_dml_ros").rglob("*.py"), *(repository / "peft_dml_tools" / "nodes").glob("*.py")]
    for path in [*packages, *(repository / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                used.add(node.module.partition(".")[0])
    # Adapters that import only when their message package is installed need no dependency.
    assert {name for name in used if ROS_PACKAGE.fullmatch(name)} - {"radar_msgs"} <= declared


def test_every_package_that_is_launched_is_an_exec_depend(repository: Path) -> None:
    declared = {element.text for element in manifest(repository).iter("exec_depend")}
    launched = {
        keyword.value.value
        for path in (repository / "launch").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Node"
        for keyword in node.keywords
        if keyword.arg == "package" and isinstance(keyword.value, ast.Constant)
    }
    assert launched - {"peft_dml_ros"} == {"rviz2"}
    assert "rviz2" in declared


@pytest.mark.parametrize("guide", ["README.md", "docs/quickstart.md"])
def test_what_rosdep_does_not_bring_is_named_where_it_is_used(repository: Path, guide: str) -> None:
    declared = {(element.text or "").removeprefix("python3-") for element in manifest(repository).iter("exec_depend")}
    listed = re.search(
        r"^dependencies = \[(.*?)^\]", (repository / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    wanted = set(re.findall(r'"([a-z0-9-]+)', listed[1])) - declared - {"pyyaml", "opencv-python-headless"}
    (line,) = [row for row in (repository / guide).read_text().splitlines() if row.startswith("pip install --user")]
    assert {name for name in wanted if name not in line} == set()


DISTRIBUTIONS = {"pydantic_core": "pydantic", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
OPTIONAL = {"minisign", "tensorrt", "tensorrt_rtx", "openvino", "cuda", "tf2_ros", "message_filters"}
"""Modules that an extra brings, or ROS; an error says what to install."""


def test_no_extra_is_needed_for_the_node(repository: Path) -> None:
    listed = re.search(
        r"^dependencies = \[(.*?)^\]", (repository / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    declared = set(re.findall(r'"([a-z0-9-]+)', listed[1]))
    used = set()
    for path in (repository / "peft_dml_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                used.add(node.module.partition(".")[0])
    foreign = {
        DISTRIBUTIONS.get(name, name)
        for name in used - set(sys.stdlib_module_names) - OPTIONAL - {"peft_dml_ros"}
        if not ROS_PACKAGE.fullmatch(name)
    }
    assert foreign <= declared


def pinned(repository: Path) -> dict[str, list[Requirement]]:
    """Return the lines of the lock file by the package's normalised name."""
    found: dict[str, list[Requirement]] = {}
    for line in (repository / "requirements" / "lock.txt").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_every_installed_dependency_is_locked(repository: Path) -> None:
    """Walk from what `make test` installs through the metadata of everything that it needs."""
    lock = pinned(repository)
    todo = [Requirement("peft_dml_ros[ros,sim,demo,dev]"), Requirement("peft_dml_train")]
    seen, missing = set(), set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        extras = ("", *sorted(wanted.extras))
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name not in {"peft-dml-ros", "peft-dml-train"} and name not in lock:
            missing.add(name)
        try:
            needs = [Requirement(text) for text in distribution(name).requires or ()]
        except PackageNotFoundError:
            continue
        todo += [r for r in needs if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    assert len(seen) > 60, "the environment is that of `make test`"
    assert not missing, "run make lock"


def test_lock_fits_the_metadata_and_names_no_host(repository: Path) -> None:
    text = (repository / "requirements" / "lock.txt").read_text()
    assert "://" not in text
    assert "--hash" not in text
    lock = pinned(repository)
    assert all(str(r.specifier).startswith("==") for rows in lock.values() for r in rows)
    for file in ("pyproject.toml", "train/pyproject.toml"):
        for line in re.findall(r'^    "([A-Za-z0-9_-]+\[?[^"]*)",$', (repository / file).read_text(), re.MULTILINE):
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                continue  # a classifier, or a name in another table
            for row in lock.get(canonicalize_name(wanted.name), []):
                version = str(row.specifier).removeprefix("==")
                assert wanted.specifier.contains(version, prereleases=True), f"{line}: {row}"


@pytest.mark.slow
def test_wheel_carries_share_tree_and_commands(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (repository / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((repository / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy]
    subprocess.run(list(map(str, command)), check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    data = f"peft_dml_ros-{peft_dml_ros.__version__}.data/data/share"
    assert f"{data}/ament_index/resource_index/packages/peft_dml_ros" in names
    shared = [n for n in listed.splitlines() if n.startswith(("launch/", "config/", "models/demo/"))]
    for name in ("package.xml", *shared):
        assert f"{data}/peft_dml_ros/{name}" in names
    packaged = ("peft_dml_ros/", "peft_dml_tools/")
    assert {n for n in listed.splitlines() if n.startswith(packaged) and (repository / n).is_file()} <= names
    assert not [name for name in names if name.startswith(("tests/", "train/", "peft_dml_train/"))]
    for command in ("peft-dml", "perception", "recorder", "replay"):
        assert f"{command} =" in entry_points
    assert "[peft_dml.commands]" in entry_points
