# SPDX-License-Identifier: Apache-2.0
"""Launch files, read as source: `launch` is no Python package of its own, so they only run where ROS is installed."""

import ast
import runpy
import sys
from types import ModuleType

import pytest

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


def used(tree):
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LaunchConfiguration"
    }


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
            assert f'"{keywords["executable"].value} = peft_dml_ros.nodes.' in setup
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    for name in strings:
        if name.endswith((".yaml", ".rviz", ".xml")) and " " not in name:
            assert (repository / "config" / name).is_file()


@pytest.fixture
def stub_launch(monkeypatch):
    """Gives a function that runs the launch file on stand-ins that take what `launch` takes, or its older version."""

    def run(repository, execute_local):
        made = []

        class Stub:
            def __init__(self, *args, **kwargs):
                self.kwargs = kwargs
                made.append(self)

        names = "launch launch.actions launch.conditions launch.substitutions launch_ros.actions"
        for name in (*names.split(), "launch_ros.parameter_descriptions", "launch_ros.substitutions", "launch_ros"):
            module = ModuleType(name)
            module.__getattr__ = lambda _: Stub
            monkeypatch.setitem(sys.modules, name, module)
        sys.modules["launch.actions"].ExecuteLocal = execute_local
        runpy.run_path(str(repository / "launch" / "perception.launch.py"))["generate_launch_description"]()
        (node,) = (m.kwargs for m in made if m.kwargs.get("executable") == "perception")
        return node

    return run


class Counting:
    def __init__(self, *, respawn=False, respawn_delay=None, respawn_max_retries=-1, **kwargs): ...


class NotCounting:
    def __init__(self, *, respawn=False, respawn_delay=None, **kwargs): ...


def test_a_node_that_cannot_start_is_not_started_for_ever(stub_launch, repository):
    node = stub_launch(repository, Counting)
    assert (node["respawn_delay"], node["respawn_max_retries"]) == (2.0, 5)
    assert "respawn_max_retries" not in stub_launch(repository, NotCounting)
