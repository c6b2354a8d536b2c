# SPDX-License-Identifier: Apache-2.0
"""Offline training, evaluation and export of the PEFT-DML detector; the deployed half is ``peft_dml_ros``."""

__version__ = "0.2.0"
