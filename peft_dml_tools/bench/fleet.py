# SPDX-License-Identifier: Apache-2.0
"""The benchmark of fleet jobs: speed-up on two cores, cost of the engine, and many drives with a node that dies."""

import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.bench.live import RATES_HZ
from peft_dml_tools.bench.machine import machine, software
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bags import write_bag
from peft_dml_tools.fleet.cluster import Cluster, connected
from peft_dml_tools.fleet.detection import DetectionSettings
from peft_dml_tools.fleet.drives import expand
from peft_dml_tools.fleet.running import FleetRun
from peft_dml_tools.fleet.settings import fleet_settings
from peft_dml_tools.sim.drive import Drive, DriveSpec


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """How much is run; the defaults take eight minutes on two cores."""

    seconds: float = 5.0  #: Length of the drives that speed and cost are measured with, at nuScenes' rates
    drives: int = 4  #: Their number, even
    repeats: int = 2  #: Pairs of runs with one and two workers
    many: int = 1000  #: Short drives of the run with a lost node
    image_width_px: int = 1600  #: Width of the long drives' pictures


#: Loopback as well; Ray replaces 127.0.0.1 in a cluster's address by the host's address in its network
NODE_ADDRESS = "127.0.0.2"

QUICK = FleetPlan(seconds=2.0, drives=2, repeats=1, many=12, image_width_px=352)
SHORT_S = 0.5  #: Length of each of the many drives: three frames


def measure_fleet(plan: FleetPlan, bundle: str, work: Path, repository: Path) -> dict[str, Any]:
    """Return the figures of the fleet benchmark.

    Args:
        plan: How much.
        bundle: Folder or name of the bundle.
        work: Folder for drives and results; emptied first.
        repository: Checkout, for the commit.
    """
    shutil.rmtree(work, ignore_errors=True)
    drives = _drives(work / "drives", plan)
    pairs = [[_run(work / f"r{r}w{w}", bundle, drives, w) for w in (1, 2)] for r in range(plan.repeats)]
    size_mb = sum(path.stat().st_size for path in drives.iterdir()) / 1e6
    shutil.rmtree(work / "drives")
    driven_s = plan.drives * plan.seconds
    speedups = [one["wall_s"] / two["wall_s"] for one, two in pairs]
    overheads = [100.0 * (one["wall_s"] - one["work_s"]) / one["work_s"] for one, _ in pairs]
    return {
        "machine": machine(),
        "software": software(repository),
        "drive_s": plan.seconds,
        "speedup_2_cores": round(statistics.median(speedups), 3),
        "speedups": [round(value, 3) for value in speedups],
        "overhead_pct": round(statistics.median(overheads), 2),
        "frames_per_s_and_core": round(statistics.median(one["frames"] / one["work_s"] for one, _ in pairs), 2),
        "core_s_per_driven_s": round(statistics.median(one["wall_s"] for one, _ in pairs) / driven_s, 3),
        "recorded_mb_per_driven_s": round(size_mb / driven_s, 2),
        "result_mb_per_driven_s": round(statistics.median(one["result_mb"] for one, _ in pairs) / driven_s, 3),
        **_lost_node(plan.many, bundle, work),
    }


def _settings(bundle: str, out: Path) -> DetectionSettings:
    return fleet_settings(str(out), NodeParams(bundle=bundle), 0.0)


def _drives(folder: Path, plan: FleetPlan) -> Path:
    """Write drives at the rates of nuScenes' sensors; they differ in name and writer, and so in content."""
    spec = DriveSpec(image_width_px=plan.image_width_px, **{f"{kind}_hz": hz for kind, hz in RATES_HZ.items()})
    return _copies(folder, plan.drives, Drive(0, plan.seconds, spec))


def _run(out: Path, bundle: str, drives: Path, workers: int) -> dict[str, float]:
    """Return wall seconds of a run, those spent in jobs, and frames; the cluster's start is not counted."""
    with connected("local", 500, workers) as cluster:
        _warm_up(cluster, workers)
        start = perf_counter()
        outcomes = list(FleetRun(cluster, _settings(bundle, out), expand([str(drives)])).outcomes())
        wall_s = perf_counter() - start
    done = [outcome.summary for outcome in outcomes if outcome.state == "done"]
    result_mb = sum(path.stat().st_size for path in (out / "drives").rglob("*") if path.is_file()) / 1e6
    shutil.rmtree(out)
    work = {"work_s": sum(s["wall_s"] + s["merge_s"] for s in done), "frames": sum(s["frames"] for s in done)}
    return {"wall_s": wall_s, "result_mb": result_mb, **work}


def _warm_up(cluster: Cluster, workers: int) -> None:
    """Start the worker processes, which import this package."""
    queue = cluster.queue(_imported)
    for number in range(workers):
        queue.add(number)
    list(queue.drain())


def _imported(number: int) -> int:
    """Do nothing, in a process that has imported this module to find it."""
    return number


def _lost_node(many: int, bundle: str, work: Path) -> dict[str, Any]:
    """Run many short drives on three nodes, one of which dies when a third of them is done."""
    import ray  # noqa: PLC0415  the other benchmarks do without
    from ray.cluster_utils import Cluster as Nodes  # noqa: PLC0415

    folder = _copies(work / "many", many, Drive(1, SHORT_S, DriveSpec(camera_hz=0.0, lidar_hz=5.0)))
    one = {"num_cpus": 1, "node_ip_address": NODE_ADDRESS}
    nodes = Nodes(initialize_head=True, head_node_args={**one, "include_dashboard": False})
    extra = [nodes.add_node(**one), nodes.add_node(**one)]
    nodes.wait_for_nodes()
    states: list[str] = []
    killed = 0
    with connected(nodes.address, 300) as cluster:

        def kill() -> None:
            nonlocal killed
            if not killed and len(states) >= many // 3:
                nodes.remove_node(extra[0], allow_graceful=False)
                killed = 1

        start = perf_counter()
        names = []
        for outcome in FleetRun(cluster, _settings(bundle, work / "out"), expand([str(folder)])).outcomes(kill):
            states.append(outcome.state)
            names.append(outcome.drive.name)
        wall_s = perf_counter() - start
    nodes.shutdown()
    ray.shutdown()
    results = len(list((work / "out" / "drives").iterdir()))
    shutil.rmtree(work)
    return {
        "drives": many,
        "lost": many - states.count("done"),
        "counted_twice": len(names) - len(set(names)),
        "results": results,
        "nodes": 1 + len(extra),
        "nodes_killed": killed,
        "drives_per_s": round(many / wall_s, 2),
    }


def _copies(folder: Path, count: int, drive: Drive) -> Path:
    """Write a drive several times; each bag names another writer, so that it counts as another content."""
    folder.mkdir(parents=True)
    whole = write_bag(drive, folder / "drive00000.mcap")
    content = whole.read_bytes()
    for number in range(1, count):
        # A byte behind the closing magic would be damage; the library name in the header record is free text.
        (folder / f"drive{number:05d}.mcap").write_bytes(_renamed(content, number))
    BagStorage(folder / f"drive{count - 1:05d}.mcap").check()
    return folder


def _renamed(content: bytes, number: int) -> bytes:
    """Return an MCAP file whose header record names another writer of the same length."""
    # Magic (8), opcode and length (9), profile (4 + n), then the library: length and text.
    profile = int.from_bytes(content[17:21], "little")
    at = 21 + profile
    length = int.from_bytes(content[at : at + 4], "little")
    name = f"{number:0{length}d}".encode()[-length:]
    return content[: at + 4] + name + content[at + 4 + length :]
