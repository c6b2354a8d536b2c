# SPDX-License-Identifier: Apache-2.0
"""The detector and everything it computes with: free of ROS and of any deep-learning framework."""
