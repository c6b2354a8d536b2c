# SPDX-License-Identifier: Apache-2.0
"""The shipped base: its adapters are small, sound and quickly merged, and several cost little memory."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peft_dml_ros.core.adapter_domain import read_domain
from peft_dml_ros.core.adapter_mix import BASE_ALONE
from peft_dml_ros.core.bundle import ADAPTERS, load_bundle, own_adapters


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(Path(__file__).parents[1] / "models" / "base")


def test_it_says_what_it_is_and_what_it_reaches(bundle):
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert bundle.manifest.name == "base"
    assert bundle.manifest.trained_share < 0.10
    assert "simulated" in card
    assert "| all |" in card
    assert sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file()) <= 10e6


def test_each_adapter_is_small_sound_and_quickly_merged(bundle):
    names = own_adapters(bundle)
    assert "default" in names
    for name in names:
        adapted = load_bundle(bundle.path, adapter=name)
        folder, card = adapted.adapters.parts[0][0].path, adapted.adapters.parts[0][0].card
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_200_000, name
        assert card.metrics["onnx_parity"]["weights"] < 1e-5, name
        assert read_domain(folder), name
        begin = time.process_time()
        merged = [adapted.graph(graph).sha256 for graph in adapted.manifest.graphs]
        assert time.process_time() - begin < 1.0, name
        assert merged != [bundle.with_adapters(BASE_ALONE).graph(graph).sha256 for graph in adapted.manifest.graphs]


FIVE = """
import sys
import psutil
from peft_dml_ros.core.bundle import load_adapters, load_bundle
from peft_dml_ros.engines import load_engines
folder, *adapters = sys.argv[1:]
bundle = load_bundle(folder, adapter=adapters[0])
engines = load_engines(bundle, "onnxruntime", 1)
before = psutil.Process().memory_info().rss
kept = [load_adapters(bundle, name) for name in adapters[1:]]
print(psutil.Process().memory_info().rss - before)
"""


def test_five_adapters_in_memory_cost_less_than_ten_megabytes_over_one(bundle, tmp_path):
    copies = [tmp_path / name for name in "abcde"]
    for copy in copies:
        shutil.copytree(bundle.path / ADAPTERS / "default", copy)
    command = [sys.executable, "-c", FIVE, str(bundle.path), *map(str, copies)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0 < grown <= 10e6
