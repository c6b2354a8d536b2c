# SPDX-License-Identifier: Apache-2.0
"""ROS parameters of the perception node, declared from the typed parameters of `core.params`."""

from collections.abc import Sequence
from functools import reduce
from operator import getitem
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from peft_dml_ros.core.bundle import find_bundle
from peft_dml_ros.core.errors import PeftDmlError
from peft_dml_ros.core.params import ParamInfo, describe, nested, validated
from peft_dml_ros.nodes.parameter_file import READ_ONLY, NodeParams

OWNED_BY_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def declare_parameters(node: Node) -> NodeParams:
    """Declare every parameter with description and range, from defaults and the overrides given at start.

    Values are checked before anything is declared, so that one error names all that is wrong. Raises ConfigError: an
    override is unknown (the nearest name is given), of the wrong type, or out of range.
    """
    given = {
        name: override.value
        for name, override in node._parameter_overrides.items()  # noqa: SLF001  rclpy has no public view of them
        # An empty list in a file reaches a node as no value at all.
        if not name.startswith(OWNED_BY_RCLPY) and override.value is not None
    }
    params = validated(NodeParams, nested(given), "parameters")
    values = params.model_dump()
    for info in describe(NodeParams):
        value = reduce(getitem, info.name.split("."), values)
        node.declare_parameter(info.name, _ros_value(value), _descriptor(info), ignore_override=True)
    node.add_on_set_parameters_callback(lambda changes: _judge(node, changes))
    return params


def read_parameters(node: Node) -> NodeParams:
    """Return the parameters as they stand, for the next configure. Raises ConfigError: they do not fit together."""
    values = {info.name: node.get_parameter(info.name).value for info in describe(NodeParams)}
    return validated(NodeParams, nested(values), "parameters")


def _judge(node: Node, changes: Sequence[Parameter]) -> SetParametersResult:
    values = {info.name: node.get_parameter(info.name).value for info in describe(NodeParams)}
    values |= {change.name: change.value for change in changes if not change.name.startswith(OWNED_BY_RCLPY)}
    try:
        wanted = validated(NodeParams, nested(values), "parameters")
        if any(change.name == "bundle" for change in changes):
            find_bundle(wanted.bundle)
    except PeftDmlError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _descriptor(info: ParamInfo) -> ParameterDescriptor:
    # ROS gives an empty list no type, or that of bytes; what it may hold is checked with everything else.
    descriptor = ParameterDescriptor(
        description=info.description,
        dynamic_typing=isinstance(info.default, tuple),
        read_only=info.name in READ_ONLY,
        additional_constraints=f"one of {', '.join(info.choices)}" if info.choices else "",
    )
    if info.minimum is None or info.maximum is None:
        return descriptor
    if isinstance(info.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(info.minimum), to_value=int(info.maximum))]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(info.minimum), to_value=float(info.maximum))
        ]
    return descriptor


def _ros_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
