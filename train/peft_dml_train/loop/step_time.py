# SPDX-License-Identifier: Apache-2.0
"""Seconds per step of the adaptation, two versions of the code side by side, one step of each in turn.

git worktree add ../before COMMIT
python -m peft_dml_train.loop.step_time --data FOLDER --code ../before --code .
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import typer

CYCLE: Final = 4
"""Batches of each version: every fourth step passes each sample twice. The first cycle warms up and is not counted."""

WORKER: Final = """
import sys, tempfile, time
from pathlib import Path
from peft_dml_train.adapters.lora import adapt, train_mode
from peft_dml_train.config import load_config
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.data.dataset import load_frames
from peft_dml_train.loop.stages import new_network, set_threads
from peft_dml_train.loop.trainer import Trainer

recipe, data, scene, cycle, *changes = sys.argv[1:]
config = load_config(Path(recipe), (*changes, "threads=1"))
set_threads(config)
frames = load_frames(Path(data), (scene,), config.spec)
network = adapt(new_network(config), config.adapters).get_base_model()
trainer = Trainer(config, config.finetune, network, Path(tempfile.mkdtemp()), train_mode)
train_mode(network)
stream = BatchStream(frames, config, config.finetune, seed=1)
batches = [stream.make(number, 1.0) for number in range(int(cycle))]
print("ready", flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    trainer._step(batches[trainer.step % len(batches)])
    trainer.step += 1
    print(time.process_time() - cpu, time.perf_counter() - wall, flush=True)
"""


def _start(code: Path, arguments: list[str]) -> subprocess.Popen[str]:
    paths = os.pathsep.join((str(code.resolve()), str(code.resolve() / "train")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", WORKER, *arguments],
        cwd=code,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _answer(worker: subprocess.Popen[str]) -> str:
    line = worker.stdout.readline() if worker.stdout else ""
    if not line:
        raise typer.Exit(worker.wait() or 1)
    return line


def main(
    data: Annotated[Path, typer.Option(help="nuScenes folder")],
    code: Annotated[list[Path], typer.Option(help="Checkout of the code; repeatable")],
    scene: Annotated[str, typer.Option(help="Scene, or beginning of scene names, that gives the frames")] = "scene-",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each version that count")] = 12,
    config: Annotated[Path, typer.Option(help="Recipe within each checkout")] = Path("train/configs/demo.yaml"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override for all versions; repeatable")] = None,
) -> None:
    """Print the median seconds per step of each version, and their ratio to the first one's."""
    arguments = [str(config), str(data.resolve()), scene, str(CYCLE), *(overrides or ())]
    workers = [_start(folder, arguments) for folder in code]
    times: list[list[list[float]]] = [[] for _ in workers]
    try:
        for worker in workers:
            _answer(worker)
        for step in range(CYCLE + steps):
            for found, worker in zip(times, workers, strict=True):
                if worker.stdin:
                    worker.stdin.write("step\n")
                    worker.stdin.flush()
                measured = [float(value) for value in _answer(worker).split()]
                if step >= CYCLE:
                    found.append(measured)
    finally:
        for worker in workers:
            worker.kill()
    means = [[sum(pair[i] for pair in found) / len(found) for i in (0, 1)] for found in times]
    for folder, found, (cpu, wall) in zip(code, times, means, strict=True):
        middle = median(pair[0] for pair in found)
        share = cpu / means[0][0]
        typer.echo(
            f"{folder}: {cpu:.3f} CPU s a step (median {middle:.3f}), {wall:.3f} s wall, {share:.2f} of the first"
        )


if __name__ == "__main__":
    typer.run(main)
