# SPDX-License-Identifier: Apache-2.0
"""`engine: auto`: the CPU engine that is fastest on this machine, found by a trial of a second and remembered."""

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.engine import Engine
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.load import usable_cores
from peft_dml_ros.engines.cache import cache_folder, write_atomically

log = logging.getLogger(__name__)

TRIAL_S: Final = 1.0
LEAST_RUNS: Final = 3
PREFERRED: Final = "openvino"
#: ONNX Runtime is taken where it needs at most this share of OpenVINO's time: it may be faster because it computes in 8
#: bit, where OpenVINO has bfloat16, which loses nothing
WORTH: Final = 0.8

Loader = Callable[[str], Mapping[str, Engine]]


def choose_engine(bundle: Bundle, threads: int, load: Loader, precision: str = "auto") -> str:
    """Return the CPU engine to run a bundle with."""
    try:
        versions = [f"{name} {version(name)}" for name in ("onnxruntime", "openvino")]
    except PackageNotFoundError:
        return "onnxruntime"
    about = [_processor(), usable_cores(), threads, precision, *versions, sorted(bundle.manifest.files.items())]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    file = cache_folder() / "trials.json"
    trials: dict[str, dict[str, float]] = {}
    with suppress(OSError, ValueError):
        trials = json.loads(file.read_text())
    if not _is_trial(trials.get(key)):
        trials[key] = _trial(load)
        with suppress(EngineError):  # the next start will only have to measure again
            write_atomically(file, json.dumps(trials, indent=1).encode())
    found = trials[key]
    chosen = "onnxruntime" if found["onnxruntime"] <= WORTH * found.get(PREFERRED, np.inf) else PREFERRED
    figures = ", ".join(f"{name} {ms:.0f} ms" for name, ms in sorted(found.items(), key=lambda entry: entry[1]))
    log.info("engine: auto takes %s (all graphs of a frame, measured on this machine: %s)", chosen, figures)
    return chosen


def _is_trial(found: object) -> bool:
    return isinstance(found, dict) and "onnxruntime" in found and all(isinstance(ms, float) for ms in found.values())


def _trial(load: Loader) -> dict[str, float]:
    """Return the least time in ms of all graphs one after the other by engine; the engines take turns.

    The least, since other work on the machine only ever adds to a time.
    """
    candidates: dict[str, Mapping[str, Engine]] = {"onnxruntime": load("onnxruntime")}
    try:
        candidates[PREFERRED] = load(PREFERRED)
    except EngineError as error:
        log.warning("%s; engine: auto takes onnxruntime", error)
        return {"onnxruntime": 0.0}
    zeros = {
        graph: {name: np.zeros(shape, dtype) for name, (shape, dtype) in engine.inputs.items()}
        for graph, engine in candidates["onnxruntime"].items()
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for engines in candidates.values():
        for engine in engines.values():
            engine.warm_up()
    end = perf_counter() + TRIAL_S
    while perf_counter() < end or len(times[PREFERRED]) < LEAST_RUNS:
        for name, engines in candidates.items():
            start = perf_counter()
            for graph, engine in engines.items():
                engine(zeros[graph])
            times[name].append((perf_counter() - start) * 1e3)
    return {name: min(spent) for name, spent in times.items()}


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor())
