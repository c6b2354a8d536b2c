# SPDX-License-Identifier: Apache-2.0
"""Accounts for every message and every frame of a session: sent, lost on the way, used, dropped with a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peft_dml_tools.live.frame_status import FRAME_DROPS, FrameStatus

NOT_MESSAGES: Final = ": points not finite"  #: A reason that counts something else than messages


@dataclass(frozen=True, slots=True)
class SensorAccount:
    """Where the messages of one sensor went."""

    sent: int  #: Published by the vehicle
    received: int  #: Received by the node
    admitted: int  #: Used
    dropped: Mapping[str, int]  #: Refused, by reason

    @property
    def lost_in_transport(self) -> int:
        """Messages that did not reach the node."""
        return self.sent - self.received

    @property
    def unaccounted(self) -> int:
        """Messages that were received and neither used nor refused with a reason."""
        return self.received - self.admitted - sum(self.dropped.values())

    def tree(self) -> dict[str, Any]:
        """Return the figures for a report."""
        counts = {"sent": self.sent, "received": self.received, "admitted": self.admitted}
        left = {"lost_in_transport": self.lost_in_transport, "unaccounted": self.unaccounted}
        return {**counts, "dropped": dict(self.dropped), **left}


def message_account(frames: Sequence[FrameStatus], sent: Mapping[str, int]) -> dict[str, SensorAccount]:
    """Return the account of every sensor that sent something, by the last status."""
    if not frames:
        return {name: SensorAccount(n, 0, 0, {}) for name, n in sorted(sent.items())}
    drops, sensors = frames[-1].drops, frames[-1].sensors
    accounts = {}
    for name in sorted(sent.keys() | {n for n, status in sensors.items() if status.received}):
        refused = {
            reason.removeprefix(f"{name}: "): n
            for reason, n in drops.items()
            if reason.startswith(f"{name}: ") and not reason.endswith(NOT_MESSAGES)
        }
        status = sensors.get(name)
        received, admitted = (status.received, status.admitted) if status else (0, 0)
        accounts[name] = SensorAccount(sent.get(name, 0), received, admitted, refused)
    return accounts


def messages_unaccounted(accounts: Mapping[str, SensorAccount]) -> dict[str, int]:
    """Return the unaccounted messages of each sensor that has any."""
    return {name: account.unaccounted for name, account in accounts.items() if account.unaccounted}


def frame_account(frames: Sequence[FrameStatus]) -> dict[str, Any]:
    """Return where the frames went that were due, by the last status: published, dropped, waiting or unaccounted."""
    if not frames:
        return {"triggered": 0, "published": 0, "drops": {}, "unaccounted": 1}
    last = frames[-1]
    drops = {reason: n for reason, n in last.drops.items() if reason.startswith(FRAME_DROPS)}
    counts = {"triggered": last.count("frames.triggered"), "published": last.count("frames.published")}
    return {**counts, "drops": drops, "unaccounted": abs(last.unaccounted)}
