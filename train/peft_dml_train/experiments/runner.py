# SPDX-License-Identifier: Apache-2.0
"""Runs cells: what is finished is skipped, what was cut short goes on, several at once where there are cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peft_dml_ros.core.errors import PeftDmlError
from peft_dml_train.data.dataset import FrameReader
from peft_dml_train.experiments import files, record
from peft_dml_train.experiments.cells import Cell
from peft_dml_train.experiments.cost import measure_cost
from peft_dml_train.experiments.gauge import gauge
from peft_dml_train.experiments.retrieval import measure_retrieval
from peft_dml_train.experiments.scenes import Folder, keyframes
from peft_dml_train.experiments.scoring import score_cell
from peft_dml_train.experiments.training import Bench, OutOfTimeError, network_of
from peft_dml_train.loop.stages import set_threads, start_logging
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
State = Literal["done", "skipped", "out of time", "failed"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run was told; goes to other processes as it is.

    Attributes:
        config: Name of the recipe.
        recipe: Its file.
        data: nuScenes folder.
        layout: Folder of the other sensor layout, if there is one.
        runs: Folder for trained weights.
        out: Folder for results.
        overrides: Of every cell.
        device: cpu or cuda.
        frames: Keyframes to score at most; 0 for all.
        minutes: After so many no new stage begins.
        start: Weights of encoders that bases begin with.
    """

    config: str
    recipe: Path
    data: Path
    layout: Path | None
    runs: Path
    out: Path
    overrides: tuple[str, ...] = ()
    device: str = "cpu"
    frames: int = 0
    minutes: float = float("inf")
    start: Path | None = None

    def bench(self, until: float) -> Bench:
        """Opens the data."""
        layout = Folder(self.layout) if self.layout and self.layout.is_dir() else None
        return Bench(
            Folder(self.data),
            layout,
            self.runs,
            self.recipe,
            self.overrides,
            self.device,
            self.frames,
            until,
            self.start,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one cell and seed."""

    name: str
    state: State
    note: str = ""


def pending(setting: Setting, bench: Bench, cells: Iterable[Cell], seeds: int = 0) -> Iterator[tuple[Cell, int]]:
    """Cells and seeds without a result of their own.

    Args:
        setting: Of the run.
        bench: Data and recipe.
        cells: In order of importance.
        seeds: Seeds of each cell at most; 0 for all.
    """
    for cell in cells:
        for seed in cell.seeds[: seeds or None]:
            if not finished(setting, bench, cell, seed):
                yield cell, seed


def result_path(setting: Setting, cell: Cell, seed: int) -> Path:
    """Of a cell's JSON."""
    return setting.out / cell.command / cell.file_name(setting.config, seed)


def finished(setting: Setting, bench: Bench, cell: Cell, seed: int) -> bool:
    """True when the result is there, and is of this very cell, recipe and data."""
    found = files.read(result_path(setting, cell, seed))
    return found is not None and found.get("identity") == record.identity(bench, cell, seed)


def run_cell(setting: Setting, bench: Bench, cell: Cell, seed: int) -> dict[str, Any]:
    """Train what is not trained yet, measure, write the JSON."""
    recipe = bench.config(cell.plan, seed, second=True)
    set_threads(recipe)
    with gauge() as cost:
        network, training = network_of(bench, cell.plan, seed)
        bench.check_time()
        figures = _measure(bench, cell, network, seed)
    found = {**record.header(bench, cell, setting.config, seed), **cost.as_json(), "training": training, **figures}
    files.write(result_path(setting, cell, seed), found)
    return found


def _measure(bench: Bench, cell: Cell, network: PeftDmlNetwork, seed: int) -> dict[str, Any]:
    recipe, folder = bench.config(cell.plan, seed, second=True), bench.data(cell.test)
    scenes = folder.scenes(cell.test, recipe.splits)
    with gauge() as cost:
        if cell.measure == "cost":
            figures = {"cost": measure_cost(network, folder, scenes, cell.subsets, bench.frames)}
        elif cell.measure == "retrieval":
            reader = FrameReader(folder.root, recipe.spec)
            tokens = sorted(keyframes(folder, scenes, bench.frames))
            figures = {"retrieval": measure_retrieval(network, [reader.frame(t) for t in tokens], recipe.spec)}
        else:
            figures = score_cell(cell, network, folder, scenes, bench.frames, bench.device)
    return {**figures, "measuring": cost.as_json()}


_HERE: dict[tuple[Setting, float], Bench] = {}
"""Data that this process has open."""


def _one(setting: Setting, cell: Cell, seed: int, until: float) -> Outcome:
    start_logging()
    name = f"{cell.command}/{cell.file_name(setting.config, seed)}"
    if (setting, until) not in _HERE:
        _HERE[setting, until] = setting.bench(until)
    bench = _HERE[setting, until]
    try:
        bench.check_time()
        if finished(setting, bench, cell, seed):
            return Outcome(name, "skipped")
        found = run_cell(setting, bench, cell, seed)
    except OutOfTimeError:
        return Outcome(name, "out of time")
    except PeftDmlError as error:
        return Outcome(name, "failed", str(error))
    return Outcome(name, "done", f"{found['wall_s'] / 60:.1f} min")


def run_cells(setting: Setting, cells: list[Cell], jobs: int = 1, seeds: int = 0) -> Iterator[Outcome]:
    """Run what has no result yet; a failed cell does not stop the others.

    Cells whose base another one is making wait for it, so the first cells of the list go to different bases.

    Args:
        setting: Of the run.
        cells: In order of importance.
        jobs: Processes.
        seeds: Seeds of each cell at most; 0 for all.
    """
    until = time.monotonic() + 60 * setting.minutes
    todo = list(pending(setting, setting.bench(until), cells, seeds))
    log.info("%d cells to run of %d", len(todo), sum(len(c.seeds[: seeds or None]) for c in cells))
    if jobs <= 1:
        for cell, seed in todo:
            yield _one(setting, cell, seed, until)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(_one, setting, cell, seed, until) for cell, seed in todo]
        for future in as_completed(waiting):
            yield future.result()
