# SPDX-License-Identifier: Apache-2.0
from tests.support.ros_node import ros_node

__all__ = ["ros_node"]
