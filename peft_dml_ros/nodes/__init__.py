# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: the only package that imports rclpy and message packages. They wire; the work is done in `core`."""

import os
import sys

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.middleware import require_middleware

# Before numpy is loaded. The small products here gain nothing from OpenBLAS threads, which spin in between: measured,
# they cost half a core next to the detector.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Before rclpy is loaded, by any module of this package.
try:
    require_middleware()
except ConfigError as problem:
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(2)
