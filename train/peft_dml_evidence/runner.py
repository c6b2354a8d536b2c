# SPDX-License-Identifier: Apache-2.0
"""Runs cells: what is finished is skipped, what was cut short goes on, several at once where there are cores."""

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peft_dml_evidence import files, record
from peft_dml_evidence.cells import Cell
from peft_dml_evidence.cost import measure_cost
from peft_dml_evidence.gauge import gauge
from peft_dml_evidence.retrieval import measure_retrieval
from peft_dml_evidence.scenes import keyframes
from peft_dml_evidence.scoring import score_cell
from peft_dml_evidence.training import CellBench, OutOfTimeError, RunSettings, network_of, untrained
from peft_dml_ros.core.errors import PeftDmlError
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.sim.workers import begin_process
from peft_dml_train.data.dataset import FrameReader, FrameRequest
from peft_dml_train.loop.stages import set_threads, start_logging
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
State = Literal["done", "skipped", "out of time", "failed"]


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What became of one cell and seed."""

    name: str
    state: State
    note: str = ""


def result_path(setting: RunSettings, cell: Cell, seed: int) -> Path:
    """Return the path of a cell's JSON file."""
    return setting.out / cell.command / cell.file_name(setting.config, seed)


def finished(bench: CellBench, cell: Cell, seed: int) -> bool:
    """Return True when the result is there, and is of this very cell, recipe and data."""
    found = files.read(result_path(bench.setting, cell, seed))
    return found is not None and found.get("identity") == record.identity(bench, cell, seed)


def run_cell(bench: CellBench, cell: Cell, seed: int) -> dict[str, Any]:
    """Train what is not trained yet, measure, write the JSON."""
    recipe = bench.config(cell.plan, seed, second=True)
    set_threads(recipe)
    if bench.setting.base and cell.plan.mode == "base":
        # A given network has no seed: what one seed measured is every seed's.
        for other in cell.seeds:
            if finished(bench, cell, other):
                found = {
                    **(files.read(result_path(bench.setting, cell, other)) or {}),
                    **record.header(bench, cell, seed),
                }
                write_json(result_path(bench.setting, cell, seed), found)
                return found
    with gauge() as cost:
        network, training = network_of(bench, cell.plan, seed)
        bench.check_time()
        figures = _measure(bench, cell, network, seed)
    found = {**record.header(bench, cell, seed), **cost.as_json(), "training": training, **figures}
    write_json(result_path(bench.setting, cell, seed), found)
    return found


def _measure(bench: CellBench, cell: Cell, network: PeftDmlNetwork, seed: int) -> dict[str, Any]:
    recipe, folder = bench.config(cell.plan, seed, second=True), bench.data(cell.test)
    scenes = folder.scenes(cell.test, recipe.splits)
    with gauge() as cost:
        if cell.measure == "cost":
            figures = {"cost": measure_cost(network, folder, scenes, cell.subsets, bench.setting.frames)}
        elif cell.measure == "retrieval":
            reader = FrameReader(folder.root, recipe.spec, bench.cache, folder.reader)
            tokens = sorted(keyframes(folder, scenes, bench.setting.frames))
            frames = (reader.prepared(FrameRequest(token)) for token in tokens)
            figures = {"retrieval": measure_retrieval(network, frames, recipe.spec)}
        else:
            figures = score_cell(cell, network, folder, scenes, bench)
    return {**figures, "measuring": cost.as_json()}


_HERE: dict[tuple[RunSettings, float], CellBench] = {}  #: Data that this process has open


def _one(setting: RunSettings, cell: Cell, seed: int, until: float) -> CellOutcome:
    start_logging()
    name = f"{cell.command}/{cell.file_name(setting.config, seed)}"
    if (setting, until) not in _HERE:
        _HERE[setting, until] = CellBench.open(setting, until)
    bench = _HERE[setting, until]
    try:
        bench.check_time()
        if finished(bench, cell, seed):
            return CellOutcome(name, "skipped")
        found = run_cell(bench, cell, seed)
    except OutOfTimeError:
        return CellOutcome(name, "out of time")
    except PeftDmlError as error:
        return CellOutcome(name, "failed", str(error))
    return CellOutcome(name, "done", f"{found['wall_s'] / 60:.1f} min")


def run_pairs(setting: RunSettings, pairs: list[tuple[Cell, int]], jobs: int = 1) -> Iterator[CellOutcome]:
    """Run cells and seeds that have no result yet, in order as far as no core has to wait for another's weights."""
    until = time.monotonic() + 60 * setting.minutes
    bench = CellBench.open(setting, until)
    todo = [(cell, seed) for cell, seed in pairs if not finished(bench, cell, seed)]
    log.info("%d cells to run of %d", len(todo), len(pairs))
    if jobs <= 1:
        for cell, seed in todo:
            yield _one(setting, cell, seed, until)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin_process) as pool:
        running: dict[Future[CellOutcome], set[Path]] = {}
        while todo or running:
            while todo and len(running) < jobs:
                place, weights = _next(bench, todo, set().union(*running.values()))
                if place is None:
                    break
                cell, seed = todo.pop(place)
                running[pool.submit(_one, setting, cell, seed, until)] = weights
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                yield future.result()


def _next(bench: CellBench, todo: list[tuple[Cell, int]], busy: set[Path]) -> tuple[int | None, set[Path]]:
    """Place of the first cell that needs no weights in training now, and the weights that it will train."""
    for place, (cell, seed) in enumerate(todo):
        try:
            weights = untrained(bench, cell.plan, seed)
        except PeftDmlError:
            weights = set()  # the cell itself will say what is wrong
        if not weights & busy:
            return place, weights
    return None, set()
