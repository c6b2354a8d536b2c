# SPDX-License-Identifier: Apache-2.0
"""Checks of a nuScenes folder, real or written here: one rule a function, with a stable id, a severity and a fix."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from peft_dml_tools.datasets.checks import files, geometry, records, references, structure
from peft_dml_tools.datasets.checks.folder import CheckedFolder
from peft_dml_tools.datasets.checks.model import RULES, CheckOutcome, CheckReport, CheckRule, Violation, excluded_ids
from peft_dml_tools.datasets.checks.severity import Severity
from peft_dml_tools.datasets.nuscenes_schema import TABLES

__all__ = ["MODULES", "RULES", "CheckOutcome", "CheckReport", "CheckRule", "Severity", "Violation", "check_dataset"]

MODULES: Final = (structure, references, records, geometry, files)  #: Where the rules are
EXAMPLES: Final = 20  #: Findings of a rule that a report keeps; all are counted


def check_dataset(
    path: str | Path,
    *,
    version: str | None = None,
    exclude: tuple[str, ...] = (),
    examples: int = EXAMPLES,
    progress: Callable[[CheckRule], None] | None = None,
) -> CheckReport:
    """Run all rules over a nuScenes folder; nothing is altered.

    Raises DataError: there is no such data set; ConfigError: `exclude` names no rule.

    Args:
        path: The data set, or its version folder.
        version: Name of the version folder; None takes the only one there is.
        exclude: Ids (GEO004) and groups (GEO) of rules to leave out.
        examples: Findings to keep of each rule.
        progress: Called with each rule before it runs.
    """
    left_out = excluded_ids(exclude)
    folder = CheckedFolder(Path(path), version)
    outcomes = []
    for rule_id in sorted(set(RULES) - left_out, key=lambda rule_id: (_ORDER.index(rule_id[:3]), rule_id)):
        if progress is not None:
            progress(RULES[rule_id])
        found = RULES[rule_id].check(folder)
        kept = tuple(islice(found, examples))
        outcomes.append(CheckOutcome(RULES[rule_id], len(kept) + sum(1 for _ in found), kept))
    return CheckReport(
        str(folder.root),
        folder.version,
        tuple(outcomes),
        tuple(sorted(left_out)),
        {table: len(folder.rows(table)) for table in TABLES},
    )


_ORDER: Final = ("STR", "REF", "REC", "GEO", "FMT")
