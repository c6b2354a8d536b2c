# SPDX-License-Identifier: Apache-2.0
"""Writes the page: fills the template with the session's data, figures and words; nothing is fetched when it opens."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from peft_dml_tools.atomic_files import write_whole
from peft_dml_tools.evaluation.metrics import SessionMetrics
from peft_dml_tools.evaluation.recording import Recording
from peft_dml_tools.evaluation.scoring import Score
from peft_dml_tools.report.payload import payload

SCRIPTS: Final = ("data.js", "scene.js", "timeline.js", "views.js", "viewport.js", "page.js")


def write_report(recording: Recording, results: SessionMetrics, path: Path, *, details: str = "") -> None:
    """Write a self-contained HTML page."""
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


def accuracy_table(score: Score, title: str) -> str:
    """Average precision by class, with what was counted and what was left out."""
    rows = [
        (name, score.truth[name], by_distance.get(2.0), score.recall_2m[name], sum(by_distance.values()) / 4)
        for name, by_distance in score.ap.items()
    ]
    texts = [[_words(n), str(t), f"{ap2:.2f}", f"{recall:.2f}", f"{mean:.2f}"] for n, t, ap2, recall, mean in rows]
    if score.mean_ap is not None:
        texts.append(["mean", "", "", "", f"{score.mean_ap:.2f}"])
    note = f"{score.frames} frames, matched and averaged by nuscenes-devkit at its official settings."
    if score.absent and score.ap:
        note += f" Left out, no such object was there: {', '.join(map(_words, score.absent))}."
    if score.reason:
        note += f" Not computed: {score.reason}."
    return table(title, note, ["class", "true boxes", "AP at 2 m", "recall at 2 m", "AP, mean of 0.5–4 m"], texts)


def sensors_table(sensors: dict[str, dict[str, Any]]) -> str:
    """Return messages and gated frames by sensor."""
    rows = [
        [name, str(s["received"]), str(s["gated"]), "; ".join(f"{r} ({n})" for r, n in s["reasons"].items())]
        for name, s in sensors.items()
    ]
    note = "Gated: frames in which the health gate kept the sensor out, and why (frames)."
    return table("Sensors", note, ["sensor", "messages", "gated", "reasons"], rows, numbers=(1, 2))


def stages_table(stages: dict[str, dict[str, float]], latency: dict[str, float], *, live: bool) -> str:
    """Time by stage, the whole way last."""
    named = [*stages.items(), ("stamp to publication" if live else "whole frame", latency)]
    rows = [
        [_words(name), *(f"{p.get(key, float('nan')):.1f}" for key in ("p50", "p95", "p99"))] for name, p in named if p
    ]
    return table("Where the time goes", "Milliseconds per frame.", ["stage", "p50", "p95", "p99"], rows)


def drops_table(drops: dict[str, int]) -> str:
    """Return drops by reason."""
    rows = [[_words(reason), str(n)] for reason, n in drops.items()] or [["none", "0"]]
    return table("Drops", "Nothing is lost silently: each has a reason.", ["reason", "count"], rows)


def table(
    title: str, note: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()
) -> str:
    """Return one table; columns after the first are numbers unless `numbers` names those that are."""
    right = set(numbers or range(1, len(head)))

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if i in right else ''}>{escape(text)}</{tag}>" for i, text in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    caption = f'<h3>{escape(title)}</h3><p class="hint">{escape(note)}</p>'
    return f"<div>{caption}<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table></div>"


def _words(name: str) -> str:
    return name.replace("_", " ")
