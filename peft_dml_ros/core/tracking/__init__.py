# SPDX-License-Identifier: Apache-2.0
"""Multi-object tracking: identities that outlive sensor dropout."""

from peft_dml_ros.core.tracking.tracker import TrackedBoxes, Tracker, compile_kernels, future

__all__ = ["TrackedBoxes", "Tracker", "compile_kernels", "future"]
