# SPDX-License-Identifier: Apache-2.0
"""The recipes' scripts from end to end, at tiny sizes on the CPU."""

import json
import os
import subprocess

import pytest

from peft_dml_ros.core.bundle import load_bundle
from tests.support.warm_commands import warm_commands

TINY = {
    "DEVICE": "cpu",
    "CONFIG": "train/configs/tiny.yaml",
    "RAIN": "train/configs/tiny.yaml",
    "WORKERS": "1",
    "SOURCE_SCENES": "3",
    "TARGET_SCENES": "3",
    "SIMULATE": "--splits 0.34,0.33,0.33 --seconds 1.5 --lidar-hz 4 --image-width 96 --camera-hz 2",
    "SET": "pretrain.steps=2 finetune.steps=2 pretrain.batch=2 finetune.batch=2 dropout.degraded_portion=0",
    "CONDITIONS": "--sensors lidar --weather rain=40",
    "WEATHER": "--weather rain=40",
    "MINUTES": "60",
    "ROUNDS": "2",
    "TARGETS": "yes",
    "SMOKE": "threads=1 pretrain.steps=1 pretrain.batch=1 bfloat16=false dropout.degraded_portion=0 spec.latent_dim=32"
    " spec.grid.size=32 spec.lidar.pillar_grid=128 spec.lidar.pillars=500 spec.candidates=20 network.camera.context=16"
    " spec.camera.width_px=128 spec.camera.height_px=64 spec.camera.depth_bins=12 network.head_width=32"
    " network.lidar.pillar=16 network.lidar.widths=[16,24,32] network.lidar.neck=8 network.lidar.out=24"
    " network.camera.widths=[32,48,64,80] network.camera.depths=[1,1,1,1]",
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_domains_make_a_bundle_with_two_adapters(repository, tmp_path):
    run, bundle = tmp_path / "run", tmp_path / "models" / "demo"
    command = [str(repository / "train" / "recipes" / "gpu.sh")]
    with warm_commands(tmp_path) as variables:
        environment = {**os.environ, **TINY, **variables, "RUN": str(run), "BUNDLE": str(bundle)}
        made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-4000:]
    assert "mAP, all sensors" in made.stdout
    assert "s in all" in made.stdout
    loaded = load_bundle(bundle)
    domain = loaded.manifest.provenance["source"]["domain"]
    assert (domain["vehicle"], domain["streets"]) == ("van", "grid")
    assert "One command makes it again: `train/recipes/gpu.sh`" in (bundle / "MODEL_CARD.md").read_text()
    assert loaded.manifest.provenance["data"]["domain"]["name"] == "target"
    assert loaded.manifest.provenance["stages"].keys() == {"pretrain, first round", "pretrain", "finetune"}
    rain = load_bundle(bundle, adapter="rain").adapters.parts[0][0].card.metrics
    assert "nds" in rain["test"]["rain=40"]["lidar"]
    assert rain["gain over 'default'"]["rain=40"]["verdict"] in {"better", "worse", "undecided"}
    assert json.loads((run / "targets" / "targets.json").read_text())["retrieval"]["objects"]
    assert (run / "nuscenes" / "base.pt").is_file()
