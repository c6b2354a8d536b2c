# SPDX-License-Identifier: Apache-2.0
"""Do cells that were run again agree with the stored ones? Their NDS has to lie within the stored interval.

    train/recipes/redo.sh

The interval of a cell is a bootstrap over its scenes: how far its NDS depends on which scenes were driven.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from peft_dml_evidence.report.results import Figure, Results, compare, load
from peft_dml_evidence.statistics import Interval


class RepeatedCell(NamedTuple):
    """One cell that was run again, with all sensors."""

    name: str  #: Command and cell
    again: float  #: Its NDS
    stored: Interval  #: The stored one with its interval

    @property
    def agrees(self) -> bool:
        """Whether the new figure lies within the stored interval."""
        return self.stored.low <= self.again <= self.stored.high

    def __str__(self) -> str:
        """Return one line."""
        word = "agrees" if self.agrees else "DIFFERS"
        return f"{self.name}: NDS {self.again:.3f}, stored {self.stored.text()}: {word}"


def redone(again: list[Results], stored: list[Results]) -> Iterator[RepeatedCell]:
    """Yield each cell that both have, on the seeds that both have."""
    known = {results.config: results for results in stored}
    for results in again:
        for command, cell in results.records:
            old = known[results.config].nds(command, cell) if results.config in known else None
            new = results.nds(command, cell)
            if old is None or new is None:
                continue
            shared = Figure.of({seed: old.sample[seed] for seed in new.sample if seed in old.sample})
            if (interval := compare(lambda value: value, shared)) is not None:
                yield RepeatedCell(f"{command} {cell}", new.value, interval)


def main(
    again: Annotated[Path, typer.Argument(help="Folder of the results that were made again")],
    stored: Annotated[Path, typer.Option(help="Folder of the stored results")] = Path("train/results"),
) -> None:
    """Compare every cell of one folder with the stored one; exit code 1 where one differs or none is there."""
    found = list(redone(load(again), load(stored)))
    for one in found:
        typer.echo(one)
    if not found:
        typer.echo(f"no cell of {again} is among those of {stored}", err=True)
    if not found or not all(one.agrees for one in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
