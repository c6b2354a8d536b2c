# SPDX-License-Identifier: Apache-2.0
"""Official nuScenes metrics for any subset of sensors, and calibration of confidences."""
