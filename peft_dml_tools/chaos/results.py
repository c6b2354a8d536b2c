# SPDX-License-Identifier: Apache-2.0
"""The file of results: what stands in it, and what misses its target."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from peft_dml_tools.atomic_files import write_json

FUZZ_MESSAGES: Final = 100_000
RECOVERY_S: Final = 1.0
RESPAWN_S: Final = 8.0
P99_RATIO: Final = 1.1
#: For a process of half a gigabyte; less cannot be distinguished from the allocator's own steps in half an hour
RSS_MB_PER_MIN: Final = 1.0
#: Figures of a stage that stand at the top of the file
TOP: Final = {"cells": ("cells", "cells_failed", "recovery_s_max"), "respawn": ("respawn_s",)}
#: Figures of which the top holds the sum over stages; the fuzzer's crashes are its own
ADDED_UP: Final = ("crashes", "frames_unaccounted")


def merged(results: Mapping[str, Any], stage: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return results with those of one more stage."""
    rest = {key: value for key, value in found.items() if key != "words"}
    tree = {**results, **{key: rest.pop(key) for key in TOP.get(stage, ())}}
    tree["faults" if stage == "cells" else stage] = rest
    return _with_sums(tree)


def _with_sums(tree: dict[str, Any]) -> dict[str, Any]:
    stages = [tree[name] for name in ("faults", "soak", "respawn", "namespaces") if name in tree]
    return {**tree, **{key: sum(stage.get(key, 0) for stage in stages) for key in ADDED_UP}}


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Write the file; what an earlier run found in stages that this one left out stays."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    machine = {"cores": len(psutil.Process().cpu_affinity()), "python": platform.python_version()}
    write_json(path, _with_sums({**before, **results, "machine": machine}))


def missed(results: Mapping[str, Any]) -> list[str]:
    """Return every target that is missed, in words; of stages that were run."""
    lines = []

    def check(found: float | None, most: float, what: str) -> None:
        if found is not None and found > most:
            lines.append(f"{what}: {found:g}, at most {most:g}")

    check(results.get("cells_failed"), 0, "cells that do not hold")
    cells = results.get("faults", {}).get("cells_detail", [])
    lines += [f"  {c['fault']} of {c['sensor']}, {c['when']}: {c['problem']}" for c in cells if c["problem"]]
    check(results.get("crashes"), 0, "crashes")
    check(results.get("frames_unaccounted"), 0, "frames unaccounted for")
    check(results.get("recovery_s_max"), RECOVERY_S, "longest recovery, s")
    check(sum(results.get("faults", {}).get("messages_unaccounted", {}).values()), 0, "messages unaccounted for")
    fuzz, soak = results.get("fuzz", {}), results.get("soak", {})
    for stage in ("faults", "fuzz", "soak"):
        inside = results.get(stage, {}).get("errors_inside", {})
        lines += [f"errors inside the node ({stage}): {reason} {detail}" for reason, detail in inside.items()]
    check(fuzz.get("crashes"), 0, "crashes by fuzz")
    check(fuzz.get("hangs"), 0, "hangs by fuzz")
    check(fuzz.get("uncounted"), 0, "malformed messages not counted")
    if fuzz and set(fuzz["sees_after"]) != {"lidar", "camera", "radar"}:
        lines.append(f"after malformed messages only these are seen: {', '.join(fuzz['sees_after']) or 'none'}")
    check(soak.get("rss_mb_per_min"), RSS_MB_PER_MIN, "growth of memory in the soak, MB a minute")
    check(soak.get("p99_ratio"), P99_RATIO, "99th percentile of the last minute over the first's")
    check(results.get("respawn_s"), RESPAWN_S, "seconds from kill -9 to boxes")
    if results.get("respawn", {}).get("recording_readable") is False:
        lines.append("the file of a recorder that was killed cannot be read")
    check(results.get("namespaces", {}).get("cross_talk"), 0, "messages between vehicles")
    return lines
