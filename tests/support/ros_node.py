# SPDX-License-Identifier: Apache-2.0
"""One rclpy context per test that needs a node in this process."""

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node


@pytest.fixture
def ros_node():
    """Yield a node with an rclpy context of its own."""
    context = Context()
    rclpy.init(context=context, args=[])
    node = Node("test_node", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()
