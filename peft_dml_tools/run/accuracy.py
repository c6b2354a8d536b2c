# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a run by what was there: LiDAR with cameras, cameras alone, nothing at all."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_tools.evaluation.recording import RecordedFrame
from peft_dml_tools.evaluation.scoring import Score, score

#: Modalities that see objects, with their words
SEEING: Final = {"lidar": "LiDAR", "camera": "camera", "radar": "radar"}
BLIND: Final = "blind"
MOST_COLUMNS: Final = 4


def present_words(frame: RecordedFrame) -> str:
    """Return what a frame was made of, e.g. "LiDAR + camera", "camera alone" or "blind"."""
    there = [words for name, words in SEEING.items() if frame.mask[MODALITIES.index(name)]]
    return BLIND if not there else f"{there[0]} alone" if len(there) == 1 else " + ".join(there)


def scores_by_present(frames: Sequence[RecordedFrame]) -> dict[str, Score]:
    """Return the accuracy over the frames with truth, by `present_words`, the most frequent first."""
    groups: dict[str, list[RecordedFrame]] = defaultdict(list)
    for frame in frames:
        if frame.truth is not None:
            groups[present_words(frame)].append(frame)
    return {name: score(groups[name]) for name in sorted(groups, key=lambda name: -len(groups[name]))}


def accuracy_table(
    scores: dict[str, Score], frames: Sequence[RecordedFrame], *, annotated: bool = False
) -> Table | str:
    """Return average precision at 2 m by class and by what was there; one line where there is nothing to score."""
    blind = sum(present_words(frame) == BLIND for frame in frames)
    note = f"{blind} of {len(frames)} frames were blind: no LiDAR, camera or radar was usable then." if blind else ""
    if not scores:
        why = "No frame is near annotated ones" if annotated else "No truth in this source"
        return f"{why}, so no accuracy. {note}".strip()
    if reasons := [value.reason for value in scores.values() if value.reason and not value.ap]:
        note = f"{note} Not computed: {'; '.join(dict.fromkeys(reasons))}.".strip()
    shown = {name: value for name, value in scores.items() if value.ap and name != BLIND}
    if not shown:
        return note
    table = Table(title="Accuracy: average precision at 2 m (nuscenes-devkit)", title_justify="left")
    table.add_column("class")
    chosen = dict(list(shown.items())[:MOST_COLUMNS])
    for name, value in chosen.items():
        table.add_column(f"{name}\n{value.frames} frame{'s' if value.frames > 1 else ''}", justify="right")
    for name in dict.fromkeys(name for value in chosen.values() for name in value.ap):
        cells = (f"{v.ap[name][2.0]:.3f} of {v.truth[name]}" if name in v.ap else "" for v in chosen.values())
        table.add_row(name, *cells)
    means = ("" if value.mean_ap is None else f"[bold]{value.mean_ap:.3f}[/]" for value in chosen.values())
    table.add_row("[bold]mean AP, .5 to 4 m[/]", *means)
    absent = sorted(set.intersection(*(set(value.absent) for value in chosen.values())))
    notes = [f"'of N': true boxes; no {', '.join(absent)} there" if absent else "'of N': true boxes", note]
    table.caption, table.caption_justify = ". ".join(filter(None, notes)), "left"
    return table


def accuracy_tree(scores: dict[str, Score]) -> dict[str, Any]:
    """Return mean AP, AP at 2 m by class and number of frames by what was there, for JSON."""
    return {
        name: {
            "frames": value.frames,
            "map": None if value.mean_ap is None else round(value.mean_ap, 4),
            "ap_2m": {cls: round(ap[2.0], 4) for cls, ap in value.ap.items()},
            "truth": value.truth,
        }
        for name, value in scores.items()
    }
