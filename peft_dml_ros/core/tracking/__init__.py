# SPDX-License-Identifier: Apache-2.0
"""Multi-object tracking: identities that outlive sensor dropout."""

from peft_dml_ros.core.tracking.tracker import Tracker, compile_kernels

__all__ = ["Tracker", "compile_kernels"]
