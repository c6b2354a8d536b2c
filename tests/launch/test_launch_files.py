# SPDX-License-Identifier: Apache-2.0
"""Launch files, read as source: `launch` is no Python package of its own, so they only run where ROS is installed."""

import ast
import re
import runpy
import sys
from types import ModuleType

import pytest

from peft_dml_ros.core.params import describe
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.nodes.replay import _options as parse_replay

FILES = ("perception.launch.py", "replay.launch.py")


@pytest.fixture(params=FILES)
def tree(request, repository):
    return ast.parse((repository / "launch" / request.param).read_text(encoding="utf-8"))


def declared(tree):
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARGUMENTS"
    )
    return {entry.elts[0].value: entry.elts[2].value for entry in table.elts}


def names(tree, variable):
    """The strings of a tuple that the launch file assigns, alone or among others."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
            values = node.value.elts if len(targets) > 1 else [node.value]
            for target, value in zip(targets, values, strict=True):
                if target.id == variable:
                    return set(ast.literal_eval(value))
    return set()


def used(tree):
    """Arguments that are read: by name, as the parameters or options that are handed on, or as `given[...]`."""
    found = names(tree, "TEXTS") | names(tree, "FLAGS") | names(tree, "VALUES") | names(tree, "SWITCHES")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LaunchConfiguration":
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "given":
            found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
        if isinstance(node, ast.GeneratorExp) and isinstance(node.generators[0].iter, ast.Tuple):
            found |= {entry.value for entry in node.generators[0].iter.elts}
    return found


def test_every_argument_is_described_and_used(tree):
    arguments = declared(tree)
    assert used(tree) == set(arguments)
    assert all(len(text) > 10 for text in arguments.values())


def test_executables_and_files_exist(tree, repository):
    setup = (repository / "setup.py").read_text(encoding="utf-8")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "Node":
            continue
        keywords = {k.arg: k.value for k in node.keywords}
        if keywords["package"].value == "peft_dml_ros":
            assert re.search(rf'"{keywords["executable"].value} = peft_dml_(ros|tools)\.nodes\.', setup)
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    for name in strings:
        if name.endswith((".yaml", ".rviz", ".xml", ".launch.py")) and " " not in name:
            assert (repository / ("launch" if name.endswith(".py") else "config") / name).is_file()


def stub_of(monkeypatch, execute_local):
    """Stand-ins that take what `launch` takes, or its older version; what was made is kept in the list returned."""
    made = []

    class Stub:
        def __init__(self, *args, **kwargs):
            self.args, self.kwargs = args, kwargs
            made.append(self)

        def perform(self, context):
            return context[self.args[0]]

    packages = "launch launch.actions launch.conditions launch.launch_description_sources launch.substitutions"
    extras = "launch_ros launch_ros.actions launch_ros.parameter_descriptions launch_ros.substitutions"
    for name in (*packages.split(), *extras.split()):
        module = ModuleType(name)
        module.__getattr__ = lambda _: Stub
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["launch.actions"].ExecuteLocal = execute_local
    return made


@pytest.fixture
def start(monkeypatch, repository):
    """Gives a function that runs a launch file with arguments on stand-ins, and returns its node."""

    def run(file, execute_local=None, **arguments):
        made = stub_of(monkeypatch, execute_local or Counting)
        script = runpy.run_path(str(repository / "launch" / f"{file}.launch.py"))
        script["generate_launch_description"]()
        defaults = {name: "" if default is None else default for name, default, _ in script["ARGUMENTS"]}
        context = {name: value if isinstance(value, str) else "a file" for name, value in defaults.items()} | arguments
        given = [m.kwargs["function"](context) for m in made if "function" in m.kwargs]
        (node,) = given[0]
        included = [action.kwargs for actions in given[1:] for action in actions]
        return node.kwargs | {"included": included}

    return run


class Counting:
    def __init__(self, *, respawn=False, respawn_delay=None, respawn_max_retries=-1, **kwargs): ...


class NotCounting:
    def __init__(self, *, respawn=False, respawn_delay=None, **kwargs): ...


def test_a_node_that_cannot_start_is_not_started_for_ever(start):
    node = start("perception")
    assert (node["respawn"], node["respawn_delay"], node["respawn_max_retries"]) == (True, 2.0, 5)
    assert "respawn_max_retries" not in start("perception", NotCounting)
    assert not start("perception", respawn="false")["respawn"]


def test_only_what_is_given_counts_more_than_the_parameter_file(start):
    assert start("perception")["parameters"] == ["a file", {"use_sim_time": False}]
    _, given = start("perception", bundle="2024", autodetect="True", params_file="my.yaml")["parameters"]
    assert (given["bundle"].args, given["bundle"].kwargs) == (("2024",), {"value_type": str})
    assert given["autodetect"] is True
    assert set(given) == {"bundle", "autodetect", "use_sim_time"}


def test_a_bag_is_played_only_when_it_is_given(start):
    assert start("perception")["included"] == []
    (replay,) = start("perception", bag="drive.mcap", namespace="/v1")["included"]
    assert dict(replay["launch_arguments"]) == {"bag": "drive.mcap", "namespace": "/v1", "dds_profile": "a file"}


def test_replay_hands_on_what_its_node_understands(start):
    node = start("replay", bag="drive.mcap", loop="true", weather="rain=25", faults="f.yaml", namespace="/v1")
    options = parse_replay([*node["arguments"]])
    assert (str(options.source), options.loop, options.clock) == ("drive.mcap", True, False)
    assert (options.weather, options.faults, options.rate, options.scene) == ("rain=25", "f.yaml", 1.0, None)
    assert node["namespace"] == "/v1"


def test_arguments_of_the_node_are_its_parameters(repository):
    tree = ast.parse((repository / "launch" / "perception.launch.py").read_text(encoding="utf-8"))
    known = {info.name for info in describe(NodeParams)} | {"use_sim_time"}
    assert names(tree, "TEXTS") | names(tree, "FLAGS") <= known
    assert {"autodetect", "calibration", "bag", "rviz", "bundle", "engine"} <= set(declared(tree))
