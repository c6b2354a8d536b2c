# SPDX-License-Identifier: Apache-2.0
"""Several processes train as one would with all their samples."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import torch

from peft_dml_ros.core.errors import DataError
from peft_dml_train.loop.checkpoint import save_checkpoint
from peft_dml_train.loop.parallel import reported_error
from tests.support.parallel_gradients import gradients


def test_two_processes_give_the_gradients_of_one_with_the_double_batch(tmp_path, repository):
    file = tmp_path / "gradients.pt"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
        *("-m", "tests.support.parallel_gradients", str(file)),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    two, one = torch.load(file, weights_only=True), gradients(tmp_path)
    assert one.keys() == two.keys()
    assert len(one) > 200
    for name, wanted in one.items():
        found = two[name]
        assert (found - wanted).norm() <= 2e-4 * wanted.norm() + 1e-6, name


def test_an_error_of_another_process_is_told_as_it_is():
    try:
        save_checkpoint(Path("/dev/null/last.pt"), {})
    except DataError:
        reported = reported_error(f"-- Process 1 terminated with the following error:\n{traceback.format_exc()}")
    assert isinstance(reported, DataError)
    assert "cannot be written" in str(reported)
    assert reported_error("Traceback\nValueError: a fault of the program") is None
