# SPDX-License-Identifier: Apache-2.0
"""`peft-dml chaos`: does the perception node survive whatever sensors, messages and processes do?"""

from peft_dml_ros.cli.chaos.command import chaos

__all__ = ["chaos"]
