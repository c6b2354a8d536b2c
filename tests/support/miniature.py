# SPDX-License-Identifier: Apache-2.0
"""A small nuScenes folder made by the simulator: two scenes, three keyframes each, all sensors, below 10 MB."""

from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from peft_dml_tools.commands.simulate import simulate

SECONDS = 1.6
IMAGE_WIDTH_PX = 96
LIDAR_HZ = 2.0
ARGUMENTS = (
    f"--scenes 2 --seconds {SECONDS} --seed 4 --image-width {IMAGE_WIDTH_PX} --lidar-hz {LIDAR_HZ} --splits 0,1,0"
).split()

_APP = Typer()
_APP.command()(simulate)


def simulate_into(out: Path, *more: str) -> Result:
    """Run `peft-dml simulate` with the miniature's settings."""
    return CliRunner().invoke(_APP, ["--out", str(out), *ARGUMENTS, *more])


def make_miniature(out: Path) -> Path:
    """The folder itself."""
    result = simulate_into(out)
    assert result.exit_code == 0, result.output
    return out
