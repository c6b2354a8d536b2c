# SPDX-License-Identifier: Apache-2.0
"""`peft-dml doctor`: is this machine, and the system that runs on it, fit for the detector?"""

from peft_dml_tools.commands.doctor.command import doctor

__all__ = ["doctor"]
