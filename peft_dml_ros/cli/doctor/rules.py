# SPDX-License-Identifier: Apache-2.0
"""What a rule of the doctor is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from peft_dml_ros.core.severity import Severity


class Finding(NamedTuple):
    """Something that is not as it must be.

    Attributes:
        what: What is wrong, with names and numbers.
        mend: What to type or change.
    """

    what: str
    mend: str


@dataclass(frozen=True, slots=True)
class Patient:
    """What the rules look at.

    Attributes:
        params_file: Parameter file of the node; empty for the defaults.
        bundle: Bundle; empty for the one that the parameters name.
        survey: Facts that `nodes.survey` saw, empty when nobody looked.
        survey_error: Why nobody could look.
    """

    params_file: str = ""
    bundle: str = ""
    survey: Mapping[str, Any] = field(default_factory=dict)
    survey_error: str = ""


Check = Callable[[Patient], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with a stable id.

    Attributes:
        id: ENV (machine), ENG (engines), BUN (bundle), CFG (parameters), DDS (transport), ROS (installation) or LIV
            (the running system), and three digits.
        title: What must hold.
        severity: Of its findings.
        check: Yields them.
        live: Needs the survey.
    """

    id: str
    title: str
    severity: Severity
    check: Check
    live: bool = False


RULES: Final[dict[str, Rule]] = {}
"""Every rule by id; filled as the modules of rules are imported."""


def rule(rule_id: str, severity: Severity, title: str, *, live: bool = False) -> Callable[[Check], Check]:
    """Make a function a rule."""

    def register(check: Check) -> Check:
        RULES[rule_id] = Rule(rule_id, title, severity, check, live)
        return check

    return register
