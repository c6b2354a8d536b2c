# SPDX-License-Identifier: Apache-2.0
"""Where measurements come from: nuScenes folders, ROS 2 bags, and the conversions between messages and arrays."""
