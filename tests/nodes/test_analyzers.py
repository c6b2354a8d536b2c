# SPDX-License-Identifier: Apache-2.0
"""The analyzers for diagnostic_aggregator sort every status of the node, of any namespace, exactly once."""

import re

import pytest
import yaml

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message

from peft_dml_ros.core.health import SensorState, State
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.nodes.diagnostics import NodeIdentity, NodeReport, to_diagnostics


@pytest.mark.parametrize("node", ["perception", "v1/perception"])
def test_every_status_belongs_to_one_analyzer(repository, node):
    text = (repository / "config" / "diagnostics_analyzers.yaml").read_text()
    groups = yaml.safe_load(text)["analyzers"]["ros__parameters"]["perception"]["analyzers"]
    patterns = [re.compile(pattern) for group in groups.values() for pattern in group["regex"]]
    report = NodeReport({name: SensorState(State.OK) for name in ALL_SENSORS}, {})
    cdr = to_diagnostics(report, 0, NodeIdentity(node, "v1", "demo"))
    statuses = deserialize_message(cdr, DiagnosticArray).status
    assert len(statuses) > len(ALL_SENSORS)
    for status in statuses:
        assert sum(bool(p.search(status.name)) for p in patterns) == 1, status.name
