# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: the only package that imports rclpy and message packages. They wire; the work is done in `core`."""

import os

# Before numpy is loaded. The small products here gain nothing from OpenBLAS threads, which spin in between: measured,
# they cost half a core beside the detector.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
