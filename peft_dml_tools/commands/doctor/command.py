# SPDX-License-Identifier: Apache-2.0
"""`peft-dml doctor`: run the rules, and print what they find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from peft_dml_tools.commands.doctor.rules import DoctorContext, DoctorRule, Finding

START_S = 20.0


def doctor(
    params_file: Annotated[Optional[Path], typer.Option(help="ROS parameter file of the node")] = None,
    bundle: Annotated[Optional[str], typer.Option(help="Model bundle; that of the parameters by default")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60.0, help="How long to listen to the running system")] = 3.0,
    live: Annotated[bool, typer.Option(help="Look at the running system as well")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON")] = False,
) -> None:
    """Check this machine and the system that runs on it: packages, engine, bundle, transport, topics, clocks.

    Exit status: 0 no errors (with --strict: no warnings either), 1 errors found. Changes nothing.
    """
    from rich.console import Console

    from peft_dml_tools.commands.doctor import machine, system  # noqa: F401  registers their rules
    from peft_dml_tools.commands.doctor.rules import RULES, DoctorContext
    from peft_dml_tools.datasets.checks.severity import Severity

    with Console(stderr=True).status(f"Listening for {seconds:g} s" if live else "Looking"):
        facts, problem = _survey(seconds) if live else ({}, "")
        context = DoctorContext(str(params_file or ""), bundle or "", facts, problem)
        rules = [rule for rule in sorted(RULES.values(), key=lambda r: r.id) if _applies(rule, context, live=live)]
        results = {rule: list(rule.check(context)) for rule in rules}
    counts = {s: sum(len(found) for rule, found in results.items() if rule.severity is s) for s in Severity}
    passed = not counts[Severity.ERROR] and not (strict and counts[Severity.WARNING])
    if as_json:
        found = [
            {"id": rule.id, "severity": rule.severity.value, "title": rule.title, "what": f.what, "fix": f.fix}
            for rule, findings in results.items()
            for f in findings
        ]
        named = {severity.value: n for severity, n in counts.items()}
        report = {"passed": passed, "counts": named, "rules": [r.id for r in results], "findings": found}
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(results)
    if not passed:
        raise typer.Exit(1)


def _applies(rule: DoctorRule, context: DoctorContext, *, live: bool) -> bool:
    """Return whether a rule can be checked: those of the running system need the survey; ROS003 reports its failure."""
    return not rule.live or (live and (bool(context.survey) or rule.id == "ROS003"))


def _survey(seconds: float) -> tuple[dict[str, Any], str]:
    """Return the facts of the running system, or why there are none."""
    command = [sys.executable, "-m", "peft_dml_tools.nodes.system_survey", "--seconds", str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + START_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return {}, f"no node came up within {START_S:.0f} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"event": "survey"')]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {}, f"a node ended with status {done.returncode}: {last}"
    facts: dict[str, Any] = json.loads(lines[0])
    return facts, ""


def _print(results: dict[DoctorRule, list[Finding]]) -> None:
    """Print one line per rule and two per finding: no table, so that fixes can be copied."""
    from rich.console import Console
    from rich.text import Text

    from peft_dml_tools.datasets.checks.severity import Severity

    console = Console(soft_wrap=True)
    colours = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
    for rule, findings in results.items():
        verdict = (rule.severity.value, colours[rule.severity]) if findings else ("ok", "green")
        console.print(Text.assemble((f"{verdict[0]:8}", verdict[1]), (f"{rule.id}  ", "bold"), rule.title))
        for what, fix in findings:
            console.print(Text(f"          found  {what}"))
            console.print(Text(f"          fix    {fix}", "bold"))
