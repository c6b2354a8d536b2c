# SPDX-License-Identifier: Apache-2.0
"""A tiny network and made-up frames."""

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from peft_dml_train.config import TrainConfig, load_config
from peft_dml_train.data.frame import Frame
from peft_dml_train.loop.stages import new_network
from peft_dml_train.network import PeftDmlNetwork
from tests.support.train_frames import some_boxes, some_frame

CONFIG = Path(__file__).parents[2] / "train" / "configs" / "tiny.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_accelerator():
    """Accelerate keeps the precision of a process's first run, and refuses another one."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return load_config(CONFIG)


@pytest.fixture
def network(config) -> PeftDmlNetwork:
    return new_network(config)


@pytest.fixture(scope="session")
def make_boxes():
    return some_boxes


@pytest.fixture(scope="session")
def frames(config) -> list[Frame]:
    return [some_frame(config.spec, seed) for seed in range(4)]
