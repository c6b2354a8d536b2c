# SPDX-License-Identifier: Apache-2.0
"""A progress bar for each step of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from rich.console import Console


class StepProgress(Progress):
    """Steps one after the other, each with a bar and some words."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(40), TextColumn("{task.fields[words]}"))
        super().__init__(*columns, TimeElapsedColumn(), console=console)
        self._step: TaskID | None = None

    def begin(self, name: str, total: float | None = None, words: str = "") -> None:
        """Start the next step; the one before is done."""
        self.finish()
        self._step = self.add_task(name, total=total, words=words)

    def step(self, completed: float, words: str) -> None:
        """Show how far the step is."""
        if self._step is not None:
            self.update(self._step, completed=completed, words=words)

    def finish(self, words: str | None = None) -> None:
        """Mark the step as done, with its last words or others."""
        if self._step is not None:
            total = self.tasks[self._step].total or 1.0
            shown = self.tasks[self._step].fields["words"] if words is None else words
            self.update(self._step, total=total, completed=total, words=shown)
            self._step = None
