# SPDX-License-Identifier: Apache-2.0
"""HTML tables of the page."""

from collections.abc import Sequence
from html import escape
from typing import Any

from peft_dml_tools.evaluation.scoring import Score


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
