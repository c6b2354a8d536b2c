# SPDX-License-Identifier: Apache-2.0
"""Rules of the doctor: what one is, and the list of all of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from peft_dml_tools.datasets.checks.severity import Severity


class Finding(NamedTuple):
    """Something that is not as it must be."""

    what: str  #: What is wrong, with names and numbers
    fix: str  #: What to type or change


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """What the rules check."""

    params_file: str = ""  #: Parameter file of the node; empty for the defaults
    bundle: str = ""  #: Bundle; empty for the one that the parameters name
    survey: Mapping[str, Any] = field(default_factory=dict)  #: Facts from `nodes.system_survey`; empty without one
    survey_error: str = ""  #: Why there are no facts


Check = Callable[[DoctorContext], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class DoctorRule:
    """A rule with a stable id."""

    #: ENV (machine), ENG (engines), BUN (bundle), CFG (parameters), DDS (transport), ROS (installation) or LIV (the
    #: running system), and three digits
    id: str
    title: str  #: What must hold
    severity: Severity  #: Severity of its findings
    check: Check  #: Yields the findings
    live: bool = False  #: Needs the survey


RULES: Final[dict[str, DoctorRule]] = {}  #: Every rule by id; filled as the modules of rules are imported


def rule(rule_id: str, severity: Severity, title: str, *, live: bool = False) -> Callable[[Check], Check]:
    """Register a function as a rule."""

    def register(check: Check) -> Check:
        RULES[rule_id] = DoctorRule(rule_id, title, severity, check, live)
        return check

    return register
