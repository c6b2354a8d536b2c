# SPDX-License-Identifier: Apache-2.0
"""Data path, targets, network, losses and decoding fit together: frames can be learnt by heart.

The eight frames take some six minutes on one idle core, so they are asked for:
    PEFT_DML_OVERFIT=1 pytest tests/train/test_overfit.py
"""

import os

import pytest

from peft_dml_tools.commands.simulate import write_one
from peft_dml_tools.datasets.nuscenes_writer_tables import finish
from peft_dml_tools.sim.drive import DriveSpec
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_train.config import load_config
from peft_dml_train.loop.overfit import CONFIG, overfit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
NAMES = ("scene-6000", "scene-6001")


@pytest.fixture
def eight_frames(tmp_path):
    """Two scenes of four keyframes."""
    pytest.importorskip("embreex")
    root, spec = tmp_path / "scenes", DriveSpec(image_width_px=192)
    for i, name in enumerate(NAMES):
        write_one((str(root), name, 61 + i, 1.9, spec))
    finish(root, "v1.0-sim", make_rig(192), {"sim_train": list(NAMES)})
    return root


@pytest.mark.skipif("PEFT_DML_OVERFIT" not in os.environ, reason="takes minutes; set PEFT_DML_OVERFIT=1")
def test_eight_simulated_frames_are_learnt_by_heart(eight_frames, tmp_path):
    metrics = overfit(load_config(CONFIG), eight_frames, "sim_train", 8, tmp_path)
    assert metrics["map_of_present"] > 0.9
    assert metrics["found"] > 0.9


def test_the_real_keyframe_is_learnt_by_heart(real_keyframe, tmp_path):
    config = load_config(CONFIG, ("pretrain.steps=240",))
    metrics = overfit(config, real_keyframe, "scene-0061", 1, tmp_path)
    assert metrics["boxes"] >= 40
    assert metrics["found"] > 0.85
