# SPDX-License-Identifier: Apache-2.0
"""The shipped YAML file is the one that the typed parameters make, and it loads as their defaults."""

import runpy

import pytest
import yaml

from peft_dml_ros.core.params import nested, validated
from peft_dml_ros.nodes.parameter_file import NodeParams


@pytest.fixture
def made(repository):
    """The text that the generator makes."""
    return runpy.run_path(str(repository / "docs" / "make_config.py"))["parameter_file"]()


def test_the_shipped_file_is_up_to_date(repository, made):
    shipped = (repository / "config" / "perception.yaml").read_text(encoding="utf-8")
    assert shipped == made, "run: python docs/make_config.py"


def test_it_holds_the_defaults(made):
    tree = yaml.safe_load(made)["perception"]["ros__parameters"]
    assert validated(NodeParams, nested(tree), "file") == NodeParams()
