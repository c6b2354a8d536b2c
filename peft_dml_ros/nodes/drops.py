# SPDX-License-Identifier: Apache-2.0
"""Counts what is dropped, by reason, and says so in the log without flooding it."""

import time
from collections import Counter
from threading import Lock
from typing import Any

LOG_PERIOD_S = 5.0


class DropCounter:
    """Totals by reason, each logged at most once in `LOG_PERIOD_S`; safe to use from several threads."""

    def __init__(self, logger: Any) -> None:
        self._logger, self._lock = logger, Lock()
        self._totals: Counter[str] = Counter()
        self._logged_s: dict[str, float] = {}

    def count(self, reason: str, detail: object = "", n: int = 1) -> None:
        """Count `n` drops for one reason, e.g. `LIDAR_TOP: malformed`; the detail goes to the log only."""
        if not n:
            return
        now_s = time.monotonic()
        with self._lock:
            self._totals[reason] += n
            total = self._totals[reason]
            due = now_s - self._logged_s.get(reason, -LOG_PERIOD_S) >= LOG_PERIOD_S
            if due:
                self._logged_s[reason] = now_s
        if due:
            text = f"dropped, {reason} ({total} so far)"
            self._logger.warning(f"{text}: {detail}" if str(detail) else text)

    def totals(self) -> Counter[str]:
        """Return drops since the start."""
        with self._lock:
            return self._totals.copy()
