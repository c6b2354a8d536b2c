# SPDX-License-Identifier: Apache-2.0
"""Launch files on stand-ins for `launch` that record the order; tests/launch/test_real_launch.py runs the real one."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from peft_dml_ros.core.params import describe
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.nodes.replay import _options as parse_replay

FILES = ("perception", "replay", "lidar_centerpoint")
STUBBED = (
    "ament_index_python ament_index_python.packages launch launch.actions launch.events launch.events.process"
    " launch.launch_description_sources launch.substitutions launch_ros launch_ros.actions"
    " launch_ros.parameter_descriptions launch_ros.substitutions"
)


FILE = Path(__file__).resolve().parents[2] / "config" / "perception.yaml"


class NotInstalledError(KeyError):
    """Stands in for PackageNotFoundError."""


class Stub:
    """Takes what any class of `launch` takes; the arguments of a launch file are its context."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def perform(self, context):
        return context.values[self.args[0]]


@pytest.fixture
def stubs(monkeypatch):
    """Stand-ins for all that launch files import; the attribute `installed` names packages of the index."""
    installed = {"rviz2"}

    def prefix(package):
        if package not in installed:
            raise NotInstalledError(package)

    for name in STUBBED.split():
        module = ModuleType(name)
        module.__getattr__ = lambda wanted: type(wanted, (Stub,), {})
        monkeypatch.setitem(sys.modules, name, module)
    packages = sys.modules["ament_index_python.packages"]
    packages.get_package_prefix, packages.PackageNotFoundError = prefix, NotInstalledError
    return SimpleNamespace(installed=installed)


@pytest.fixture
def script(stubs, repository):
    """Gives a function that loads a launch file."""
    return lambda file: runpy.run_path(str(repository / "launch" / f"{file}.launch.py"))


def context_of(loaded, **arguments):
    defaults = {name: d if isinstance(d, str) else str(FILE) for name, d, _ in loaded["ARGUMENTS"]}
    return SimpleNamespace(values=defaults | arguments, is_shutdown=False)


def run(loaded, **arguments):
    """What a launch file starts, in order."""
    (entities,) = loaded["generate_launch_description"]().args
    context = context_of(loaded, **arguments)
    functions = [e.kwargs["function"] for e in entities if type(e).__name__ == "OpaqueFunction"]
    return [action for function in functions for action in function(context)]


@pytest.mark.parametrize("file", FILES)
def test_every_argument_is_declared_described_and_read(script, file, repository):
    loaded = script(file)
    (entities,) = loaded["generate_launch_description"]().args
    declared = [e.args[0] for e in entities if type(e).__name__ == "DeclareLaunchArgument"]
    assert declared == [name for name, _, _ in loaded["ARGUMENTS"]]
    assert len(set(declared)) == len(declared)
    assert all(len(text) > 10 for _, _, text in loaded["ARGUMENTS"])
    source = (repository / "launch" / f"{file}.launch.py").read_text()
    own = loaded.get("OWN", loaded["ARGUMENTS"])
    unread = [name for name, _, _ in own if len(re.findall(rf'"{name}"', source)) < 2]
    assert unread == ([] if file == "replay" else ["dds_profile"]), "`described` of replay.launch.py reads that one"


def test_show_args_of_perception_names_what_a_replay_takes(script):
    perception, replay = ({name for name, _, _ in script(file)["ARGUMENTS"]} for file in ("perception", "replay"))
    assert replay < perception
    assert perception - replay >= {"autodetect", "calibration", "rviz", "bundle", "engine", "respawn"}


@pytest.mark.parametrize("file", FILES)
def test_executables_and_files_exist(script, repository, file):
    setup = (repository / "setup.py").read_text(encoding="utf-8")
    for action in run(script(file), bag="drive.mcap", rviz="true"):
        if type(action).__name__ == "Node" and action.kwargs["package"] == "peft_dml_ros":
            assert re.search(rf'"{action.kwargs["executable"]} = peft_dml_(ros|tools)\.nodes\.', setup)
    source = (repository / "launch" / f"{file}.launch.py").read_text()
    for name in re.findall(r'"([\w.]+\.(?:yaml|rviz|xml|launch\.py))"', source):
        assert (repository / ("launch" if name.endswith(".py") else "config") / name).is_file()


def test_rviz_starts_before_the_detector_and_the_bag_last(script):
    started = run(script("perception"), bag="drive.mcap", rviz="true")
    assert [a.kwargs.get("executable", "replay") for a in started] == ["rviz2", "perception", "replay"]
    assert [a.kwargs.get("executable", "replay") for a in run(script("perception"))] == ["perception"]


def test_without_rviz2_nothing_is_started(script, stubs):
    stubs.installed.clear()
    assert len(run(script("perception"))) == 1
    with pytest.raises(RuntimeError, match=r"apt install ros-.*-rviz2, or leave rviz out"):
        run(script("perception"), rviz="true")


def ending(script, returncode, retries=5, **arguments):
    """What follows when the detector ends with a status."""
    loaded = script("perception")
    context = context_of(loaded, **arguments)
    node = loaded["detector"](context.values, retries)
    return node.kwargs["on_exit"](SimpleNamespace(returncode=returncode), context)


def test_a_crashed_node_is_started_again_at_most_five_times_in_a_row(script):
    left = 5
    said, timer = ending(script, -9, left)
    assert "starting it again in 2 s" in said.kwargs["msg"]
    assert timer.kwargs["period"] == 2.0
    (again,) = timer.kwargs["actions"]
    assert again.kwargs["on_exit"].args[1] == left - 1
    (said,) = ending(script, -9, 0)
    assert "status -9; it is not started again" in said.kwargs["msg"]
    (said,) = ending(script, -9, respawn="false")
    assert "not started again" in said.kwargs["msg"]


def test_a_node_that_refuses_its_parameters_is_not_started_again(script):
    (said,) = ending(script, 2)
    assert "refuses to start" in said.kwargs["msg"]
    assert ending(script, 0) is None


def test_only_what_is_given_overrides_the_parameter_file(script):
    (node,) = run(script("perception"))
    assert node.kwargs["parameters"] == [str(FILE), {"use_sim_time": False}]
    (node,) = run(script("perception"), bundle="2024", autodetect="True", params_file="my.yaml")
    _, given = node.kwargs["parameters"]
    assert (given["bundle"].args, given["bundle"].kwargs) == (("2024",), {"value_type": str})
    assert given["autodetect"] is True
    assert set(given) == {"bundle", "autodetect", "use_sim_time"}


def test_a_bag_waits_for_the_node_and_takes_the_arguments_of_a_replay(script):
    *_, replay = run(script("perception"), bag="drive.mcap", namespace="/v1", weather="rain=25")
    given = dict(replay.kwargs["launch_arguments"])
    assert given["wait_for_node"] == "perception"
    assert (given["bag"], given["namespace"], given["weather"], given["rate"]) == (
        "drive.mcap",
        "/v1",
        "rain=25",
        "1.0",
    )
    assert set(given) == {name for name, _, _ in script("replay")["ARGUMENTS"]}


def test_replay_hands_on_what_its_node_understands(script):
    arguments = {"loop": "true", "weather": "rain=25", "faults": "f.yaml", "wait_for_node": "perception"}
    (node,) = run(script("replay"), bag="drive.mcap", namespace="/v1", **arguments)
    options = parse_replay([*node.kwargs["arguments"]])
    assert (str(options.source), options.loop, options.clock) == ("drive.mcap", True, False)
    assert (options.weather, options.faults, options.rate, options.scene) == ("rain=25", "f.yaml", 1.0, None)
    assert options.wait_for_node == "perception"
    assert node.kwargs["namespace"] == "/v1"


def test_arguments_of_the_node_are_its_parameters(script):
    loaded = script("perception")
    known = {info.name for info in describe(NodeParams)} | {"use_sim_time"}
    assert {*loaded["TEXTS"], *loaded["FLAGS"]} <= known


def test_the_stand_in_for_centerpoint_has_its_topics_and_gives_autoware_objects(script):
    (node,) = run(script("lidar_centerpoint"), **{"input/pointcloud": "/cloud", "output/objects": "/objects"})
    assert node.kwargs["name"] == "lidar_centerpoint"
    assert node.kwargs["remappings"] == [("lidar_top/points", "/cloud"), ("~/objects", "/objects")]
    given, values = node.kwargs["parameters"]
    assert values["autoware"] is True
    assert given["sync"]["period_s"] == 0.1, "the parameter file acts, whatever the node is called"
    assert [] not in given.values()
