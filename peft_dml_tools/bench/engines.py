# SPDX-License-Identifier: Apache-2.0
"""Engines and the path of a frame without ROS: per stage, per subset of sensors, and as the input grows.

All ratios are measured in turn in one run, in processor time, with one thread.
"""

import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import psutil

from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.engine import Engine, EngineArray
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.typing import AnyArray
from peft_dml_ros.engines import load_engines
from peft_dml_tools.bench.child import measured, pick_core
from peft_dml_tools.bench.growth import by_size, by_subset, fresh, simulated_frames
from peft_dml_tools.bench.hot_path import hot_path
from peft_dml_tools.bench.machine import machine, software
from peft_dml_tools.bench.timing import WARM_UP, interleaved
from peft_dml_tools.evaluation.percentiles import percentiles

Report: TypeAlias = dict[str, Any]

EAGER_MODULE: Final = "peft_dml_train.export.eager_time"
EAGER_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How much is measured."""

    repeats: int = 30  #: Runs of each timed part
    frames: int = 200  #: Frames of the steady run
    drive_s: float = 1.6  #: Length of the simulated drive that the frames come from, in s


QUICK: Final = EnginePlan(repeats=2, frames=4, drive_s=1.1)


class MeteredEngine:
    """An engine with its processor time."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.spent_s = engine, 0.0
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.warm_up = engine.warm_up

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds of the last run, by the engine itself."""
        return self._engine.elapsed_ms

    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run and wait."""
        begin = time.process_time()
        found = self._engine(feeds)
        self.spent_s += time.process_time() - begin
        return found

    def start(self, feeds: Mapping[str, EngineArray]) -> Mapping[str, EngineArray]:
        """Begin to run."""
        begin = time.process_time()
        found = self._engine.start(feeds)
        self.spent_s += time.process_time() - begin
        return found


class EngineBenchmark:
    """All measurements of this page.

    Args:
        plan: How much.
        bundle: Bundle to measure.
        int8: The same bundle in 8 bit, for the ratio; without it the bundle's own 8-bit graphs, if it holds some.
        repository: For the commit.
        status: Called with what is being measured.
    """

    def __init__(
        self, plan: EnginePlan, bundle: str, int8: str | None, repository: Path, status: Callable[[str], None]
    ) -> None:
        self._plan, self._repository, self._status = plan, repository, status
        begin = time.perf_counter()
        self._bundle = load_bundle(bundle)
        self._engines = load_engines(self._bundle, threads=1)
        self._status("simulating a drive")
        loaded_s = time.perf_counter() - begin
        self._scene = simulated_frames(plan.drive_s)
        begin = time.perf_counter()
        self._detector = Detector(self._bundle, self._scene.rig, self._engines, threads=1)
        self._detector.warm_up()
        self.load_and_warm_up_s = round(loaded_s + time.perf_counter() - begin, 2)
        self._int8 = _conversion(load_bundle(int8), self._bundle) if int8 else None
        self._holds_int8 = self._bundle.manifest.precision != "int8" and "int8" in self._bundle.precisions

    def run(self) -> Report:
        """Measure everything."""
        report: Report = {"machine": machine(), "software": software(self._repository)}
        report["bundle"] = (
            f"{self._bundle.manifest.name} {self._bundle.manifest.version} {self._bundle.manifest.precision}"
        )
        report["load_and_warm_up_s"] = self.load_and_warm_up_s
        for name, part in (
            ("engines", self._engine_times),
            ("frame", self._steady),
            ("hot_path", lambda: hot_path(self._plan.repeats)),
            ("int8", self._eight_bit),
            ("eager", self._eager),
            ("subsets", lambda: by_subset(self._detector, self._scene.snapshots[-1], max(self._plan.repeats // 3, 2))),
            ("growth", lambda: by_size(self._bundle, self._scene, self._detector, max(self._plan.repeats // 2, 2))),
        ):
            self._status(name)
            report[name] = part()
        report["summary"] = summary(report)
        return report

    def _feeds(self) -> dict[str, dict[str, Any]]:
        """Return inputs of every graph for the last frame."""
        inputs = InputAssembler(self._bundle.spec, self._scene.rig)(self._scene.snapshots[-1])
        feeds: dict[str, dict[str, Any]] = {str(m): f for m, f in inputs.feeds.items()}
        latents = {m: self._engines[m](f)["latent"] for m, f in feeds.items()}
        state = {"mask": inputs.mask, "age_s": inputs.age_s, "completeness": inputs.completeness}
        return {**feeds, "fusion": {**latents, **state}}

    def _engine_times(self) -> Report:
        feeds = self._feeds()
        return interleaved({g: _call(self._engines[g], feeds[g]) for g in self._engines}, self._plan.repeats)

    def _steady(self) -> Report:
        """Measure whole frames one after the other: stages, what is not the engines', memory that stays."""
        stages: dict[str, list[float]] = {}
        metered = {graph: MeteredEngine(engine) for graph, engine in self._engines.items()}
        detector = Detector(self._bundle, self._scene.rig, metered, threads=1)
        spent: list[tuple[float, float]] = []
        memory: list[float] = []
        for number in range(self._plan.frames + WARM_UP):
            begin, before = time.process_time(), sum(m.spent_s for m in metered.values())
            found = detector(fresh(self._scene.snapshots[number % len(self._scene.snapshots)]))
            whole = time.process_time() - begin
            if number < WARM_UP:
                continue
            spent.append((whole * 1e3, (sum(m.spent_s for m in metered.values()) - before) * 1e3))
            for stage, wall in found.stages_ms.items():
                stages.setdefault(stage, []).append(wall)
            memory.append(psutil.Process().memory_info().rss / 1e6)
        settled = memory[len(memory) // 4]
        return {
            "cpu_ms": percentiles([whole for whole, _ in spent]),
            "engines_cpu_ms": percentiles([engines for _, engines in spent]),
            "over_engines": percentiles([whole / engines for whole, engines in spent]),
            "stages_wall_ms": {stage: percentiles(wall) for stage, wall in stages.items()},
            "rss_mb": round(memory[-1], 1),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
            "rss_growth_pct": round(100 * (memory[-1] / settled - 1), 2),
        }

    def _eight_bit(self) -> Report | None:
        if self._int8 is not None:
            others, losses = load_engines(self._int8, threads=1), nds_losses(self._bundle, self._int8)
        elif self._holds_int8:
            others, losses = load_engines(self._bundle, threads=1, precision="int8"), recorded_losses(self._bundle)
        else:
            return None
        feeds = self._feeds()
        full, reduced = {}, {}
        for graph in self._engines:
            calls = {"fp32": _call(self._engines[graph], feeds[graph]), "int8": _call(others[graph], feeds[graph])}
            both = interleaved(calls, self._plan.repeats)
            full[graph], reduced[graph] = both["fp32"]["p50"], both["int8"]["p50"]
        ratio = sum(reduced.values()) / sum(full.values())
        return {"fp32_ms": full, "int8_ms": reduced, "ratio": round(ratio, 3), "nds_loss_points": losses}

    def _eager(self) -> Report | None:
        """Measure the network in PyTorch, where the training project is installed."""
        if importlib.util.find_spec("peft_dml_train") is None or importlib.util.find_spec(EAGER_MODULE) is None:
            return None
        command = [sys.executable, "-m", EAGER_MODULE, str(self._bundle.path), str(self._plan.repeats)]
        figures: Report = json.loads(measured(command, pick_core(), EAGER_TIMEOUT_S).output.splitlines()[-1])
        return figures


def _call(engine: Any, feeds: dict[str, Any]) -> Callable[[], object]:
    return lambda: engine(feeds)


def _conversion(other: Bundle, bundle: Bundle) -> Bundle:
    """Return the other bundle, if it was made of this one.

    Raises ConfigError: it was made of other graphs, so that no figure of the two belongs together.
    """
    origin = other.manifest.provenance.get("precision", {}).get("from")
    graphs = [graph.file for graph in bundle.manifest.graphs.values()]
    if origin is not None and any(origin.get(file) != bundle.manifest.files[file] for file in graphs):
        msg = f"{other.path} was not made of {bundle.path} as it is now; fix: delete it and convert the bundle again"
        raise ConfigError(msg)
    return other


def nds_losses(bundle: Bundle, other: Bundle) -> dict[str, float]:
    """Return NDS points that the other bundle loses, by subset; both must have been evaluated with `--record`."""
    before, after = bundle.manifest.metrics.get("test", {}), other.manifest.metrics.get("test", {})
    return {s: round(100 * (before[s]["nd_score"] - after[s]["nd_score"]), 3) for s in before if s in after}


def recorded_losses(bundle: Bundle) -> dict[str, float]:
    """NDS points that the bundle's own 8-bit graphs lose, by subset, as `check-precision --record` wrote them."""
    found = bundle.manifest.metrics.get("precisions", {}).get("int8", ())
    return {entry["subset"]: round(entry["nds"], 3) for entry in found}


def summary(report: Report) -> Report:
    """Return the figures that have a target, and no ROS."""
    hot, frame, subsets = report["hot_path"], report["frame"], report["subsets"]
    figures = {
        "frame_over_engines_p50": frame["over_engines"]["p50"],
        "frame_over_engines_p99": frame["over_engines"]["p99"],
        "cloud_decode_ms": hot["cloud_decode"]["p50"],
        "cloud_list_over_ours": round(hot["cloud_decode_list"]["p50"] / hot["cloud_decode"]["p50"], 1),
        "pillars_270k_ms": hot["pillars_270k"]["p50"],
        "jpeg6_ms": hot["jpeg6"]["p50"],
        "nms500_ms": hot["nms500"]["p50"],
        "rss_mb": frame["rss_mb"],
        "rss_growth_pct": frame["rss_growth_pct"],
        "points_line_r2": report["growth"]["points"]["line"]["r2"],
        "subsets_sum_r2": subsets["r2"],
        "load_and_warm_up_s": report["load_and_warm_up_s"],
    }
    if report["int8"]:
        figures["int8_over_fp32"] = report["int8"]["ratio"]
        figures["int8_nds_loss"] = max(report["int8"]["nds_loss_points"].values(), default=None)
    if report["eager"]:
        figures["ort_over_eager"] = report["eager"]["ratio"]
    return figures


def compare(old: Report, new: Report, path: str = "") -> Iterable[tuple[str, float, float]]:
    """Yield every number that both reports have, by dotted name, old and new."""
    for key in old.keys() & new.keys():
        before, after, name = old[key], new[key], f"{path}.{key}" if path else str(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from compare(before, after, name)
        elif isinstance(before, (int, float)) and isinstance(after, (int, float)) and not isinstance(before, bool):
            yield name, float(before), float(after)
