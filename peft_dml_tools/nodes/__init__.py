# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes of the tools: replay, recorder, and the drivers of benchmark and chaos suite."""

import peft_dml_ros.nodes  # noqa: F401  checks the middleware and limits BLAS threads before rclpy and numpy load
