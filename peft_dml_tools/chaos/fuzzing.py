# SPDX-License-Identifier: Apache-2.0
"""Malformed messages: many to the intake's callbacks in a process of its own, some over DDS to a node that runs."""

import time
from collections import Counter
from typing import Any, Final

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.chaos.stages import ChaosRun
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.session import TOOLS

SILENT_S: Final = 30.0  #: A process that says nothing for so long hangs; it says something every thousand messages
ATTEMPTS: Final = 5
HANG_S: Final = 1.0


def fuzz(run: ChaosRun, messages: int, live_messages: int, seed: int) -> dict[str, Any]:
    """Feed malformed messages."""
    inside = _inside(run, messages, seed)
    nothing = {"crashes": 0, "messages": 0, "longest_gap_s": 0.0}
    wire = _over_dds(run, live_messages, seed) if live_messages else nothing
    crashes = inside.pop("crashes") + wire.pop("crashes")
    hangs = inside.pop("hangs") + (wire["longest_gap_s"] > HANG_S)
    total = inside.pop("messages") + wire["messages"]
    refused = sum(inside["reasons"].values())
    words = f"{total} malformed messages, {crashes} crashes, {hangs} hangs, {inside['uncounted']} not counted"
    return {
        "words": words,
        "messages": total,
        "crashes": crashes,
        "hangs": hangs,
        **inside,
        "refusals": refused,
        "live": wire,
    }


def _inside(run: ChaosRun, messages: int, seed: int) -> dict[str, Any]:
    """Feed one process, which is started again with another seed when it dies."""
    crashes = hangs = done = 0
    sums: dict[str, Counter[str]] = {"by_kind": Counter(), "reasons": Counter()}
    found: dict[str, Any] = {"uncounted": 0, "longest_ms": 0.0, "errors_inside": {}, "sees_after": []}
    for attempt in range(ATTEMPTS):
        arguments = ["--messages", str(messages - done), "--seed", str(seed + attempt), "--bundle", run.session.bundle]
        child = Child("fuzz", f"{TOOLS}.chaos_fuzz", [str(run.drive), *arguments], run.session.environment)
        hung = _follow(run, child, "messages to the callbacks")
        result = child.latest.get("done")
        hangs += hung
        if result is None and child.code in {1, 2}:
            raise DataError(f"the fuzzer failed; hint: its last lines:\n{child.last_words}")
        if result is not None:
            done += result["messages"]
            hangs += result["hangs"]
            for name, counter in sums.items():
                counter.update(result[name])
            found = {key: result[key] for key in found}
            break
        crashes += not hung
        done += int(child.value("progress", "messages", 0))
    ordered = {name: dict(counter.most_common()) for name, counter in sums.items()}
    return {"messages": done, "crashes": crashes, "hangs": hangs, **found, **ordered}


def _over_dds(run: ChaosRun, messages: int, seed: int) -> dict[str, Any]:
    with run.session.node() as node:
        arguments = [str(run.drive), "--messages", str(messages), "--seed", str(seed), "--live"]
        child = Child("fuzz", f"{TOOLS}.chaos_fuzz", arguments, run.session.environment)
        _follow(run, child, "messages over DDS")
        crashes = int(node.code is not None)
        result = child.latest.get("done", {"messages": 0, "frames": 0, "longest_gap_s": float("inf")})
    return {"crashes": crashes, **{k: v for k, v in result.items() if k != "event"}}


def _follow(run: ChaosRun, child: Child, what: str) -> bool:
    """Wait for the end of a process; True when it had to be ended because it hung."""
    said, said_s = -1, time.monotonic()
    try:
        while child.code is None:
            count = int(child.value("progress", "messages", -1))
            if count != said:
                said, said_s = count, time.monotonic()
            if time.monotonic() - said_s > SILENT_S * (3 if said < 0 else 1):
                return True
            run.tell(f"fuzz: {max(0, count)} {what}")
            child.wait(0.3)
        return False
    finally:
        child.stop()
