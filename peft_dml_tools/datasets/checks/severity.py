# SPDX-License-Identifier: Apache-2.0
"""Severity of what a check finds, shared by the doctor and the data set checks."""

from enum import Enum


class Severity(str, Enum):
    """How bad a finding is."""

    ERROR = "error"  #: What was checked cannot be used, or gives wrong results
    WARNING = "warning"  #: It can be used, but something is missing or hardly plausible
    INFO = "info"  #: Worth knowing
