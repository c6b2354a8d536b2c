# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: the only package that imports rclpy and message packages. They wire; the work is done in `core`."""
