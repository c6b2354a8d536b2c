# SPDX-License-Identifier: Apache-2.0
"""The shipped YAML file is the one that the typed parameters make, and it loads as their defaults."""

import yaml

from peft_dml_ros.core.params import nested, validated
from peft_dml_ros.nodes.parameter_file import NodeParams, parameter_file


def test_the_shipped_file_is_up_to_date(repository):
    shipped = (repository / "config" / "perception.yaml").read_text(encoding="utf-8")
    assert shipped == parameter_file(), "run: python -m peft_dml_ros.nodes.parameter_file > config/perception.yaml"


def test_it_holds_the_defaults():
    tree = yaml.safe_load(parameter_file())["perception"]["ros__parameters"]
    assert validated(NodeParams, nested(tree), "file") == NodeParams()
