# SPDX-License-Identifier: Apache-2.0
"""Corruptions of the published robustness benchmarks, on any frame, at three severities."""

from peft_dml_tools.sim.corruptions.frame import CORRUPTIONS, MULTICORRUPT, RADAR_NOISE, corrupt

__all__ = ["CORRUPTIONS", "MULTICORRUPT", "RADAR_NOISE", "corrupt"]
