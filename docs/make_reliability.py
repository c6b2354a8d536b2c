# SPDX-License-Identifier: Apache-2.0
"""Puts the figures of docs/results/chaos.json, and what is expected of each fault, into docs/reliability.md.

peft-dml chaos --json docs/results/chaos.json && python docs/make_reliability.py
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from peft_dml_tools.chaos.expectations import EVERY, VARIANTS, FaultVariant
from peft_dml_tools.chaos.results import FUZZ_MESSAGES, P99_RATIO, RECOVERY_S, RESPAWN_S, RSS_MB_PER_MIN, missed
from peft_dml_tools.markdown_pages import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES = ROOT / "docs" / "reliability.md", ROOT / "docs" / "results" / "chaos.json"
NAMES = {"lidar": "LiDAR", "camera": "camera", "radar": "radar", "imu": "IMU", "gnss": "GNSS", "odometry": "odometry"}


def targets(found: dict[str, Any]) -> str:
    """Return a line a target."""
    fuzz, soak, faults = found.get("fuzz", {}), found.get("soak", {}), found.get("faults", {})
    rows: list[tuple[str, str, Any]] = [
        ("Cells that fail, of all", "0", f"{found['cells_failed']} of {found['cells']}"),
        ("Crashes", "0", found["crashes"]),
        ("Frames made that are neither published nor dropped by reason", "0", found["frames_unaccounted"]),
        (
            "Messages received that are neither admitted nor refused by reason",
            "0",
            f"{sum(faults['messages_unaccounted'].values())} of {faults['messages_received']}",
        ),
        ("Longest recovery after the end of a fault, s", f"{RECOVERY_S:g}", found["recovery_s_max"]),
    ]
    if fuzz:
        rows += [
            ("Malformed messages", f"at least {FUZZ_MESSAGES}", fuzz["messages"]),
            ("Crashes, hangs over 1 s by them", "0, 0", f"{fuzz['crashes']}, {fuzz['hangs']}"),
            ("Malformed messages that were not counted", "0", fuzz["uncounted"]),
        ]
    if "respawn_s" in found:
        rows.append(("From kill -9 of the node to its boxes, s", f"{RESPAWN_S:g}", found["respawn_s"]))
        killed = found["respawn"]
        text = f"{'yes' if killed['recording_readable'] else 'no'}, {killed['recording_messages']} messages"
        rows.append(("Recording of a recorder that was killed can be read", "yes", text))
    if "namespaces" in found:
        rows.append(("Messages between two vehicles in one domain", "0", found["namespaces"]["cross_talk"]))
    if soak:
        rows += [
            ("Length of the soak, minutes", "30", soak["minutes"]),
            ("Growth of memory, MB a minute", f"{RSS_MB_PER_MIN:g}", soak["rss_mb_per_min"]),
            ("99th percentile of the last minute over the first's", f"{P99_RATIO:g}", soak["p99_ratio"]),
        ]
    misses = "\n".join(f"- {line.strip()}" for line in missed(found)) or "None."
    table = markdown_table(("What", "Target", "Measured"), rows)
    return "\n\n".join((table, conditions(found), "**Missed:**", misses))


def conditions(found: dict[str, Any]) -> str:
    """Return on what machine, and how busy it was."""
    faults, soak = found["faults"], found.get("soak", {})
    loads = " to ".join(f"{v:g}" for v in faults["load_average"])
    text = (
        f"Measured on {found['machine']['cores']} cores with a load average of {loads} during the faults: a frame took "
        f"{faults['work_ms']['p50']:g} ms (median) and {faults['work_ms']['p99']:g} ms (99 of 100), and frames came up "
        f"to {faults['frame_interval_calm_s']:.2f} s apart also without faults."
    )
    if soak:
        text += f" During the soak the load average was {' to '.join(f'{v:g}' for v in soak['load_average'])}."
    return text


def expectations(found: dict[str, Any]) -> str:
    """Return a line a fault: what must become of whom, how soon, and the cells that hold."""
    cells = Counter((c["fault"], bool(c["problem"])) for c in found["faults"]["cells_detail"])
    rows = []
    for name, variant in VARIANTS.items():
        good, bad = cells[name, False], cells[name, True]
        rows.append((name, acted(variant), becomes(variant), keeps(variant), f"{good} of {good + bad}"))
    return markdown_table(("Fault", "Acted out as", "Must become", "Keeps its state", "Cells that hold"), rows)


def acted(variant: FaultVariant) -> str:
    """Return the fault as a script names it."""
    return ", ".join([f"`{variant.fault}`", *(f"{key} {value}" for key, value in variant.fields.items())])


def becomes(variant: FaultVariant) -> str:
    """Return states by kind of sensor, and how soon."""
    by_state: dict[frozenset[str], list[str]] = {}
    for kind in variant.hits:
        if kind in variant.states:
            by_state.setdefault(variant.states[kind], []).append(kind)
    soon = "at its limit of age" if variant.by_age else "within two periods"
    parts = []
    for states, kinds in by_state.items():
        who = "" if len(by_state) == 1 and tuple(kinds) == EVERY else f" ({', '.join(NAMES[k] for k in kinds)})"
        extra = max((variant.extra_s.get(k, 0.0) for k in kinds), default=0.0)
        more = f" and {extra:g} s" if extra else ""
        parts.append(f"{' or '.join(sorted(states))}{who} {soon}{more}")
    return "; ".join(parts) or "–"


def keeps(variant: FaultVariant) -> str:
    """Return who keeps its state, and why."""
    kinds = [kind for kind in variant.hits if kind not in variant.states]
    if not kinds:
        return "–"
    who = "all" if tuple(kinds) == variant.hits else ", ".join(NAMES[k] for k in kinds)
    return f"{who}: {variant.why}"


def filled(page: str) -> str:
    """Return the page with its figures renewed."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    for name, text in (("targets", targets(found)), ("expectations", expectations(found))):
        page = fill_section(page, f"<!-- {name} -->", f"\n{text}\n", f"<!-- end of {name} -->")
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
