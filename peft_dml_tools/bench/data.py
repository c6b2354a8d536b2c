# SPDX-License-Identifier: Apache-2.0
"""The benchmark of data: simulate, read, corrupt and export by number of scenes and by length, and realism."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.spec import Frozen
from peft_dml_tools.atomic_files import claim_folder
from peft_dml_tools.bench.child import measured, module, pick_core
from peft_dml_tools.bench.machine import commit, machine, software
from peft_dml_tools.bench.realism import NEAR, realism_rows
from peft_dml_tools.bench.statistics import measure_folder
from peft_dml_tools.datasets.nuscenes import NuScenesReader

Figures = dict[str, Any]
Say = Callable[[str], None]

TIMEOUT_S: Final = 900.0
COMMANDS: Final = "peft_dml_ros.cli.main"
#: What a 20 s scene may take on one core
LIMITS: Final = {"simulate_s_per_scene": 90.0, "simulate_peak_mb": 1000.0, "export_s_per_scene": 30.0}


class BenchmarkPlan(Frozen):
    """What is measured.

    The longest of `lengths_s` is the scene of the figures at the top of the report.
    """

    scene_counts: tuple[int, ...] = (1, 2, 4)
    scene_s: float = 3.0
    lengths_s: tuple[float, ...] = (5.0, 10.0, 20.0)
    image_width_px: int = 704
    camera_hz: float = 12.0
    lidar_hz: float = 20.0
    corrupted_frames: int = 2
    realism_scenes: int = 40
    realism_s: float = 3.0
    realism_seed: int = 3


#: Seconds instead of minutes: every stage once, figures of no worth
QUICK: Final = BenchmarkPlan(
    scene_counts=(1,),
    scene_s=1.5,
    lengths_s=(1.5,),
    image_width_px=96,
    camera_hz=2,
    corrupted_frames=1,
    realism_scenes=1,
    realism_s=1.5,
)


class DataBenchmark:
    """Runs a plan; what was measured is kept, so that a run that was cut short goes on where it was."""

    def __init__(self, plan: BenchmarkPlan, folder: Path, repository: Path, real: Path | None, say: Say) -> None:
        """Take up what was measured in the folder by the same plan and commit."""
        self.plan, self.folder, self._repository, self._real, self._say = plan, folder, repository, real, say
        self._core = pick_core()
        self._notes = folder / "notes.json"
        origin = {"plan": plan.model_dump(mode="json"), "commit": commit(repository)}
        kept = json.loads(self._notes.read_text(encoding="utf-8")) if self._notes.is_file() else {}
        if kept.get("origin") != origin:
            self.clear()
            kept = {"origin": origin, "machine": machine(), "stages": {}}
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: Figures = kept
        self._note()

    def run(self) -> Figures:
        """Measure everything. Raises BenchmarkError: a measured command failed."""
        by_length = [self._length(seconds) for seconds in self.plan.lengths_s]
        by_scenes = [self._scenes(count) for count in self.plan.scene_counts]
        longest, most = by_length[-1], by_scenes[-1]
        figures: Figures = {
            "simulate_s_per_scene": longest["simulate"]["cpu_s"],
            "simulate_peak_mb": longest["simulate"]["peak_mb"],
            "read_ms_per_sample": longest["read"]["cpu_ms_per_sample"],
            "corrupt_ms_per_sample": most["corrupt"]["cpu_ms_per_sample"],
            "export_s_per_scene": longest["export"]["cpu_s"],
            "export_peak_mb": longest["export"]["peak_mb"],
        }
        return {
            "note": "seconds are of processor time on one core, wall time is given too; MB are 10^6 bytes",
            **figures,
            "within_limits": {k: figures[k] <= limit for k, limit in LIMITS.items()},
            "limits": LIMITS,
            "scene": self.plan.model_dump(mode="json", include={"image_width_px", "camera_hz", "lidar_hz"})
            | {"seconds": longest["seconds"]},
            "by_length": by_length,
            "by_scenes": by_scenes,
            "realism": self._realism(),
            "machine": self._kept["machine"],
            "software": software(self._repository),
        }

    def clear(self) -> None:
        """Remove the working folder. Raises ConfigError: it holds something, but no benchmark's notes."""
        claim_folder(self.folder, self._notes.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---------------------------------------------------------------- stages
    def _length(self, seconds: float) -> Figures:
        root = self.folder / f"length-{seconds:g}"
        row: Figures = {"seconds": seconds, "simulate": self._simulate(root, 1, seconds)}
        row["read"] = self._loop("read", root)
        row["export"] = self._export(root, 1)
        return row

    def _scenes(self, count: int) -> Figures:
        root = self.folder / f"scenes-{count}"
        row: Figures = {"scenes": count, "seconds_a_scene": self.plan.scene_s}
        row["simulate"] = self._simulate(root, count, self.plan.scene_s)
        row["read"] = self._loop("read", root)
        row["corrupt"] = self._loop("corrupt", root, self.plan.corrupted_frames)
        row["export"] = self._export(root, count)
        return row

    def _simulate(self, root: Path, scenes: int, seconds: float) -> Figures:
        rates = ("--camera-hz", self.plan.camera_hz, "--lidar-hz", self.plan.lidar_hz)
        wanted = ("--scenes", scenes, "--seconds", seconds, "--image-width", self.plan.image_width_px, *rates)
        command = module(COMMANDS, "simulate", "--out", root, *wanted)

        def stage() -> Figures:
            shutil.rmtree(root, ignore_errors=True)  # a part of it would be gone on with, and measured too low
            return measured(command, self._core, TIMEOUT_S).figures()

        return self._once(f"simulate {root.name}", stage)

    def _loop(self, kind: str, root: Path, *arguments: object) -> Figures:
        def stage() -> Figures:
            usage = measured(module("peft_dml_tools.bench.loops", kind, root, *arguments), self._core, TIMEOUT_S)
            report: Figures = json.loads(usage.output.splitlines()[-1])
            return report | {"peak_mb": usage.figures()["peak_mb"]}

        return self._once(f"{kind} {root.name}", stage)

    def _export(self, root: Path, scenes: int) -> Figures:
        """Return one command a scene: seconds add up, memory does not."""
        bag = self.folder / f"{root.name}.mcap"

        def stage() -> Figures:
            total = {"wall_s": 0.0, "cpu_s": 0.0, "peak_mb": 0.0, "bag_mb": 0.0}
            for name in NuScenesReader(root).scenes[:scenes]:
                command = module(COMMANDS, "bag", "export", root, "--scene", name, "--out", bag, "--overwrite")
                used = measured(command, self._core, TIMEOUT_S).figures()
                for key in ("wall_s", "cpu_s"):
                    total[key] = round(total[key] + used[key], 2)
                total["peak_mb"] = max(total["peak_mb"], used["peak_mb"])
                total["bag_mb"] = round(total["bag_mb"] + bag.stat().st_size / 1e6, 1)
                bag.unlink()
            return total

        return self._once(f"export {root.name}", stage)

    def _realism(self) -> Figures:
        plan, root = self.plan, self.folder / "realism"

        def stage() -> Figures:
            lengths = ("--scenes", plan.realism_scenes, "--seconds", plan.realism_s, "--seed", plan.realism_seed)
            rates = ("--camera-hz", 0, "--lidar-hz", plan.lidar_hz)
            measured(module(COMMANDS, "simulate", "--out", root, *lengths, *rates), self._core, TIMEOUT_S)
            return realism_of(root, self._real)

        return self._once("realism", stage) | {"seconds_a_scene": plan.realism_s, "seed": plan.realism_seed}

    def _once(self, key: str, stage: Callable[[], Figures]) -> Figures:
        """Return the figures of a stage, measured unless they were before."""
        stages: dict[str, Figures] = self._kept["stages"]
        if key not in stages:
            self._say(key)
            stages[key] = stage()
            self._note()
        return stages[key]

    def _note(self) -> None:
        self._notes.write_text(json.dumps(self._kept), encoding="utf-8")


def realism_of(simulated: Path, real: Path | None = None) -> Figures:
    """Return the table of nearness of a simulated folder, with what it is of."""
    reader = NuScenesReader(simulated)
    statistics = measure_folder(reader)
    keyframes = measure_folder(NuScenesReader(real, allow_missing=True)) if real else None
    rows = realism_rows(statistics, keyframes)
    outside = [f"{row['group']}: {row['name']}" for row in rows if not row["within_1_5"]]
    return {
        "factor": NEAR,
        "scenes": len(reader.scenes),
        "frames": statistics.frames,
        "keyframes_at_hand": keyframes.frames if keyframes else 0,
        "rows_within": len(rows) - len(outside),
        "outside": outside,
        "rows": rows,
    }
