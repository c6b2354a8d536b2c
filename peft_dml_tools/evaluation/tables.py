# SPDX-License-Identifier: Apache-2.0
"""Tables and sentences for the terminal."""

from collections.abc import Mapping
from typing import Any, Final

from rich.table import Table

from peft_dml_tools.evaluation.metrics import SessionMetrics
from peft_dml_tools.evaluation.scoring import Score

ENOUGH: Final = 0.95  #: Share of the frames due that a machine which keeps up publishes


def timing_table(metrics: dict[str, Any], whole: str) -> Table:
    """Return percentiles by stage of a metrics.json; `whole` names the row of `latency_ms`."""
    table = _table("Time, ms", "stage", "p50", "p95", "p99")
    for name, values in (*metrics["stages_ms"].items(), (whole, metrics["latency_ms"])):
        if values:
            table.add_row(name, *(f"{values[key]:.1f}" for key in ("p50", "p95", "p99")))
    return table


def reasons_table(drops: Mapping[str, int]) -> Table:
    """Return drops by reason."""
    table = _table("Dropped", "reason", "count")
    for reason, count in sorted(drops.items()):
        table.add_row(reason, str(count))
    return table


def sensors_table(metrics: dict[str, Any]) -> Table:
    """Return messages and gated frames by sensor."""
    table = _table("Sensors", "sensor", "messages", "frames without it")
    table.add_column("why", justify="left")
    for name, row in metrics["sensors"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items())
        table.add_row(name, str(row["received"]), str(row["gated"]), reasons)
    return table


def accuracy_table(results: SessionMetrics) -> Table | str:
    """Return average precision by class, with all sensors and without LiDAR; a sentence where there is none."""
    scores = {"all": results.full, "no LiDAR": results.lidar_out}
    shown = {name: score for name, score in scores.items() if score.ap}
    if not shown:
        return f"No accuracy: {results.full.reason}."
    table = _table("Accuracy (nuscenes-devkit)", "class")
    for name in shown:
        for head in ("boxes", "AP 2 m", "mean AP"):
            table.add_column(f"{name}\n{head}", justify="right")
    classes = list(dict.fromkeys(cls for score in shown.values() for cls in score.ap))
    for cls in classes:
        table.add_row(cls, *(cell for score in shown.values() for cell in _cells(score, cls)))
    means = ("" if s.mean_ap is None else f"[bold]{s.mean_ap:.3f}[/]" for s in shown.values())
    table.add_row("[bold]mean[/]", *(cell for mean in means for cell in ("", "", mean)))
    absent = next(iter(shown.values())).absent
    table.caption = f"left out, no such object there: {', '.join(absent)}" if absent else None
    return table


def _cells(score: Score, name: str) -> list[str]:
    if name not in score.ap:
        return [""] * 3
    ap = score.ap[name]
    mean = sum(ap.values()) / len(ap)
    return [str(score.truth[name]), f"{ap[2.0]:.3f}", f"{mean:.3f}"]


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first)
    for head in others:
        table.add_column(head, justify="right")
    return table


def too_slow(metrics: Mapping[str, Any]) -> str:
    """Return a sentence for a live session in which the machine did not keep up, with figures; empty otherwise."""
    published, expected = metrics["frames_published"], metrics["frames_expected"]
    if not expected or published >= ENOUGH * expected:
        return ""
    words = f"This machine was too slow: {published} of {expected} frames were published"
    if latency := metrics["latency_ms"]:
        words += f", half of them later than {latency['p50']:.0f} ms after their stamp"
    cores = dict(metrics.get("cores", {}))
    machine = cores.pop("machine", None)
    loads = ", ".join(f"{name} {value:.2f}" for name, value in cores.items())
    words += f". Load in cores of {machine}: {loads}." if loads else "."
    return f"{words} Hint: end other programs, or use a bundle in 8 bit."


def slow_offline(metrics: Mapping[str, Any], period_ms: float = 100.0) -> str:
    """Return a sentence for a run at full speed that shows that this machine cannot keep up live; else an empty one."""
    whole = metrics["latency_ms"].get("p50")
    if whole is None or whole <= period_ms:
        return ""
    share = period_ms / whole
    return (
        f"This machine is too slow for live use: a frame takes {whole:.0f} ms, {share:.0%} of ten frames a second. "
        "Hint: use a bundle in 8 bit, or a machine with more cores."
    )
