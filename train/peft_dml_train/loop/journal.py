# SPDX-License-Identifier: Apache-2.0
"""What a training tells while it runs: lines of JSON, TensorBoard, and one line of progress."""

import json
import logging
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from peft_dml_train.loop.parallel import rank

log = logging.getLogger(__name__)


class Journal:
    """Log of one stage; the first process writes.

    Args:
        out: Folder for `log.jsonl` and TensorBoard's `events.*`.
    """

    def __init__(self, out: Path) -> None:
        self._file = None if rank() else (out / "log.jsonl").open("a")
        self._board = None if rank() else SummaryWriter(str(out))

    def write(self, record: dict[str, Any], progress: float) -> None:
        """Write one step.

        Args:
            record: step, loss, rate, elapsed_s and the loss terms.
            progress: Share of the stage that is done.
        """
        if self._file is None or self._board is None:
            return
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name != "step":
                self._board.add_scalar(name, value, record["step"])
        left_s = record["elapsed_s"] * (1 / max(progress, 1e-6) - 1)
        terms = {
            k: v
            for k, v in record.items()
            if ("/" in k and not k.startswith("gradient/")) or k in {"consistency", "alignment", "instance", "depth"}
        }
        listed = " ".join(f"{name} {value:.3f}" for name, value in terms.items() if not name.startswith("dropped"))
        log.info(
            "step %d (%.0f %%, %d:%02d left) loss %.3f: %s", record["step"], 100 * progress, *divmod(round(left_s), 60),
            record["loss"], listed,
        )  # fmt: skip

    def close(self) -> None:
        """Flush and end."""
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()
