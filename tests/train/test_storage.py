# SPDX-License-Identifier: Apache-2.0
"""Weights stored in 16 bit: smaller files, the same operators, nearly the same numbers."""

import shutil

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import numpy_helper

from peft_dml_train.export.graphs import export_graphs
from peft_dml_train.export.operators import operator_problems
from peft_dml_train.export.parity import TOLERANCE, parity
from peft_dml_train.export.storage import LARGEST, pack, pack_files, unpack
from peft_dml_train.loop.stages import new_network


@pytest.fixture(scope="module")
def stored(config, tmp_path_factory):
    """A network, its graphs as they were, and the same graphs and an adapter file stored in 16 bit."""
    network = new_network(config).eval()
    folder = tmp_path_factory.mktemp("stored")
    paths = export_graphs(network, folder / "as_they_were")
    packed = {graph: folder / path.name for graph, path in paths.items()}
    for graph, path in paths.items():
        shutil.copy(path, packed[graph])
    adapter = folder / "adapter.safetensors"
    safetensors.torch.save_file({"large": torch.randn(64, 64), "small": torch.randn(8)}, adapter)
    pack_files(packed, adapter)
    return network, paths, packed, adapter


def weights(model):
    return {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}


def test_graphs_take_half_the_space_and_compute_what_the_network_does(stored):
    network, paths, packed, _ = stored
    assert packed["camera"].stat().st_size < 0.6 * paths["camera"].stat().st_size
    assert max(parity(network, packed).values()) < TOLERANCE
    assert all(operator_problems(onnx.load(path)) == [] for path in packed.values())


def test_unpacked_graphs_have_their_nodes_and_rounded_weights(stored):
    before, after = (onnx.load(paths["lidar"]) for paths in stored[1:3])
    assert len(after.graph.node) > len(before.graph.node)
    after = unpack(after)
    assert [n.name for n in after.graph.node] == [n.name for n in before.graph.node]
    was, now = weights(before), weights(after)
    assert was.keys() == now.keys()
    assert {v.dtype for v in now.values()} == {v.dtype for v in was.values()}
    for name, value in was.items():
        np.testing.assert_allclose(now[name], value, rtol=2**-10, atol=1e-7)


def test_a_weight_beyond_16_bit_stays_as_it_is(stored):
    model = onnx.load(stored[1]["camera"])
    largest = max(model.graph.initializer, key=lambda w: len(w.raw_data))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) + np.float32(2 * LARGEST), largest.name))
    assert weights(pack(model))[largest.name].dtype == np.float32


def test_an_adapter_keeps_its_small_weights(stored):
    found = safetensors.torch.load_file(stored[3])
    assert (found["large"].dtype, found["small"].dtype) == (torch.float16, torch.float32)
