# SPDX-License-Identifier: Apache-2.0
"""ROS parameters come from the typed ones: same names, ranges and descriptions; what is wrong is refused and named."""

from contextlib import contextmanager

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.params import describe
from peft_dml_ros.nodes.parameters import NodeParams, declare_parameters, read_parameters

pytestmark = pytest.mark.ros


@contextmanager
def node(*arguments):
    context = Context()
    rclpy.init(args=["--ros-args", *arguments], context=context)
    made = Node("perception", context=context)
    try:
        yield made
    finally:
        made.destroy_node()
        context.try_shutdown()


def test_every_parameter_is_declared_with_description_and_range():
    with node("-p", "sync.period_s:=0.2", "-p", "threads:=1", "-p", "use_sim_time:=false") as made:
        params = declare_parameters(made)
        assert params.sync.period_s == 0.2
        assert params.threads == 1
        for info in describe(NodeParams):
            descriptor = made.describe_parameter(info.name)
            assert descriptor.description
            if info.minimum is not None and info.maximum is not None:
                assert descriptor.floating_point_range or descriptor.integer_range, info.name
        assert made.describe_parameter("engine").additional_constraints.startswith("one of auto, onnxruntime, ")
        assert made.describe_parameter("precision").additional_constraints == "one of auto, fp32, fp16, int8"
        assert read_parameters(made) == params


def test_whole_numbers_do_for_real_parameters():
    with node("-p", "sync.period_s:=1") as made:
        assert declare_parameters(made).sync.period_s == 1.0


def test_all_wrong_overrides_are_named_at_once():
    with node("-p", "scor_threshold:=0.3", "-p", "threads:=-4", "-p", "bundel:=x") as made:
        with pytest.raises(ConfigError) as caught:
            declare_parameters(made)
        text = str(caught.value)
        assert "did you mean 'bundle'?" in text
        assert "detection.score_threshold" in text or "scor_threshold" in text
        assert "threads" in text
        assert "\n" not in text


def test_values_out_of_range_are_refused_while_running():
    with node() as made:
        declare_parameters(made)
        (result,) = made.set_parameters([Parameter("detection.score_threshold", value=1.5)])
        assert not result.successful
        (result,) = made.set_parameters([Parameter("detection.score_threshold", value=0.5)])
        assert result.successful
        assert read_parameters(made).detection.score_threshold == 0.5


def test_lists_of_the_shipped_file_are_taken_and_may_be_set_later(repository):
    with node("--params-file", str(repository / "config" / "perception.yaml")) as made:
        assert declare_parameters(made) == NodeParams()
        assert made.set_parameters([Parameter("sync.offsets", value=["CAM_FRONT=-0.03"])])[0].successful
        assert read_parameters(made).sync.offsets == ("CAM_FRONT=-0.03",)
        refused = made.set_parameters([Parameter("sync.offsets", value=["CAM_FRNT=1"])])[0]
        assert not refused.successful
        assert "CAM_FRONT" in refused.reason


def test_whom_to_trust_is_settled_at_the_start():
    with node("-p", "trusted_key:=RWQ") as made:
        assert declare_parameters(made).trusted_key == "RWQ"
        (result,) = made.set_parameters([Parameter("trusted_key", value="")])
        assert not result.successful
        assert read_parameters(made).trusted_key == "RWQ"
