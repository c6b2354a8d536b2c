# SPDX-License-Identifier: Apache-2.0
"""What a rule is, what it finds, and the report of all rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_tools.datasets.checks.severity import Severity

if TYPE_CHECKING:
    from peft_dml_tools.datasets.checks.folder import CheckedFolder


class Violation(NamedTuple):
    """One place where a rule does not hold."""

    where: str  #: File or record, relative to the data set
    what: str  #: What is wrong there, with the numbers


Check = Callable[["CheckedFolder"], Iterator[Violation]]


@dataclass(frozen=True, slots=True)
class CheckRule:
    """A rule with a stable id."""

    id: str  #: STR (structure), REF (references), REC (records), GEO (geometry) or FMT (files), and three digits
    title: str  #: What holds in a good data set
    severity: Severity  #: Of each finding
    fix: str  #: What to do about a finding
    check: Check  #: Yields the findings


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a rule found."""

    rule: CheckRule  #: The rule
    count: int  #: Number of findings
    examples: tuple[Violation, ...]  #: The first of them

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON tree."""
        return {
            "id": self.rule.id,
            "severity": self.rule.severity.value,
            "title": self.rule.title,
            "fix": self.rule.fix,
            "count": self.count,
            "examples": [found._asdict() for found in self.examples],
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Outcomes of all rules that ran, in the order of their ids."""

    root: str  #: The data set
    version: str  #: Its version folder
    outcomes: tuple[CheckOutcome, ...]  #: One per rule that ran
    excluded: tuple[str, ...] = ()  #: Ids of rules that did not run
    records: dict[str, int] = field(default_factory=dict)  #: Number of records by table

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(outcome.count for outcome in self.outcomes if outcome.rule.severity is severity)

    @property
    def broken(self) -> tuple[CheckOutcome, ...]:
        """Outcomes with findings."""
        return tuple(outcome for outcome in self.outcomes if outcome.count)

    def passed(self, *, strict: bool = False) -> bool:
        """Return whether no error was found; with `strict`, no warning either."""
        return not self.count(Severity.ERROR) and not (strict and self.count(Severity.WARNING))

    def as_dict(self, *, strict: bool = False) -> dict[str, Any]:
        """Return everything in the report, for JSON."""
        return {
            "root": self.root,
            "version": self.version,
            "passed": self.passed(strict=strict),
            "strict": strict,
            "counts": {severity.value: self.count(severity) for severity in Severity},
            "records": self.records,
            "rules": len(self.outcomes),
            "excluded": list(self.excluded),
            "findings": [outcome.as_dict() for outcome in self.broken],
        }


RULES: Final[dict[str, CheckRule]] = {}  #: Every rule by id; filled as the modules of rules are imported
_ID: Final = re.compile(r"(STR|REF|REC|GEO|FMT)\d{3}")


def rule(rule_id: str, severity: Severity, title: str, fix: str) -> Callable[[Check], Check]:
    """Make a function a rule. Raises ValueError: the id is malformed or taken."""

    def register(check: Check) -> Check:
        if not _ID.fullmatch(rule_id) or rule_id in RULES:
            raise ValueError(f"rule id '{rule_id}' must be STR, REF, REC, GEO or FMT and three digits, and given once")
        RULES[rule_id] = CheckRule(rule_id, title, severity, fix, check)
        return check

    return register


def excluded_ids(names: tuple[str, ...]) -> frozenset[str]:
    """Return the ids that ids (GEO004) and groups (GEO) name. Raises ConfigError: a name is no id and no group."""
    groups = {rule_id[:3] for rule_id in RULES}
    unknown = [name for name in names if name not in RULES and name not in groups]
    if unknown:
        raise ConfigError(f"no rule '{unknown[0]}'; {nearest(unknown[0], [*RULES, *groups])}")
    return frozenset(rule_id for rule_id in RULES if rule_id in names or rule_id[:3] in names)
