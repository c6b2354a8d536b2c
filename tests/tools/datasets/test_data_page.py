# SPDX-License-Identifier: Apache-2.0
"""docs/data.md says what the code does."""

import re

import yaml

from peft_dml_ros.cli.main import commands
from peft_dml_tools.datasets.checks import RULES
from peft_dml_tools.sim.faults import FIELDS, KINDS, MEANING, parse_faults


def test_tables_name_what_the_code_has(repository):
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    assert all(f"| {rule} |" in page for rule in RULES)
    assert all(f"| `{kind}` |" in page for kind in KINDS)
    assert set(MEANING) == set(FIELDS) == set(KINDS)


def test_the_fault_script_and_the_commands_of_the_page_are_right(repository):
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    (script,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "fault" in text]
    assert len(parse_faults(script)) == len(yaml.safe_load(script)) == 5
    (live,) = re.findall(r'param set /replay faults "(.*?)"', page)
    assert parse_faults(live)[0].fault == "blackout"
    assert set(re.findall(r"peft-dml ([a-z]+)", page)) <= set(commands())
