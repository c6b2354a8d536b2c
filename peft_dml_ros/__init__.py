# SPDX-License-Identifier: Apache-2.0
"""Robust multi-modal 3D object detection for ROS 2: boxes from LiDAR, radar and cameras, also when some drop out."""

__version__ = "0.2.0"
