# SPDX-License-Identifier: Apache-2.0
"""Writes the page: fills the template with the session's data, figures and words; nothing is fetched when it opens."""

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from peft_dml_tools.evaluation.metrics import SessionMetrics
from peft_dml_tools.evaluation.recording import Recording
from peft_dml_tools.report.payload import payload
from peft_dml_tools.report.tables import accuracy_table, drops_table, sensors_table, stages_table
from peft_dml_tools.whole_files import write_whole

SCRIPTS: Final = ("data.js", "scene.js", "timeline.js", "views.js", "viewport.js", "page.js")


def write_report(recording: Recording, results: SessionMetrics, path: Path, *, details: str = "") -> None:
    """Write a self-contained HTML page.

    Args:
        recording: The session; at least one frame.
        results: Its figures.
        path: File to write.
        details: One sentence for the page's foot, e.g. bundle and machine.
    """
    data = json.dumps(payload(recording), separators=(",", ":"), allow_nan=False)
    fields = {
        "title": "PEFT-DML session report",
        "style": _asset("style.css"),
        "heading": _heading(recording, results),
        "lead": escape(recording.title),
        "cards": _cards(recording, results),
        "tables": _tables(results, live=recording.live),
        "footer": escape(details),
        "script": "\n".join(_asset(name) for name in SCRIPTS).replace('"use strict";\n', ""),
        "data": data.replace("</", "<\\/"),
    }
    html = _asset("template.html")
    for name, value in fields.items():
        html = html.replace("{{" + name + "}}", value, 1)
    write_whole(path, html)


def _asset(name: str) -> str:
    return files("peft_dml_tools.report").joinpath("assets", name).read_text(encoding="utf-8")


def _heading(recording: Recording, results: SessionMetrics) -> str:
    metrics = results.metrics
    if metrics["frames_published_lidar_out"] and recording.faults:
        return "Sensors failed. The boxes kept coming."
    return "What the detector saw"


def _cards(recording: Recording, results: SessionMetrics) -> str:
    metrics = results.metrics
    latency: dict[str, float] = metrics["latency_ms"]
    waiting = "latency, stamp to boxes" if recording.live else "computing time"
    published, due = metrics["frames_published"], metrics["frames_expected"]
    cards = [
        (f"{published} / {due}", "frames published / due") if recording.live else (str(published), "frames"),
        (str(metrics["frames_published_lidar_out"]), "of them without any LiDAR"),
    ]
    if latency:
        cards.append((f"{latency['p50']:.0f} ms", f"median {waiting}, 95 % within {latency['p95']:.0f} ms"))
    for score, words in ((results.full, "all sensors in use"), (results.lidar_out, "LiDAR silent")):
        if score.mean_ap is not None:
            cards.append((f"{score.mean_ap:.2f}", f"mAP, {words} ({score.frames} frames)"))
    drops = sum(recording.drops.values())
    cards.append((str(drops), "messages or frames dropped, each with a reason"))
    return "\n".join(f'  <div class="card"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in cards)


def _tables(results: SessionMetrics, *, live: bool) -> str:
    metrics: dict[str, Any] = results.metrics
    scores = {"Accuracy, all sensors in use": results.full, "Accuracy, LiDAR silent": results.lidar_out}
    tables = [
        # Where there is no truth, empty tables would say nothing.
        *(accuracy_table(score, title) for title, score in scores.items() if score.frames),
        sensors_table(metrics["sensors"]),
        stages_table(metrics["stages_ms"], metrics["latency_ms"], live=live),
        drops_table(metrics["drops"]),
    ]
    return f'<div class="table-grid">{"".join(tables)}</div>'
