# SPDX-License-Identifier: Apache-2.0
"""The table of operators is what TensorRT for RTX does: every graph of it is parsed and built here, without a GPU."""

import json
import logging

import pytest

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.engines.tensorrt_library import load_tensorrt
from peft_dml_train.export import operator_probes
from peft_dml_train.export.operator_probes import Probe, probe_model, probes, verdict
from peft_dml_train.export.operator_rules import BUILDS, TABLE, operator_table, refusal

try:
    LIBRARY = load_tensorrt("tensorrt-rtx")
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)

STORED = json.loads(TABLE.read_text())
QUICK = {"TopK", "MaxPool", "LayerNormalization", "QuantizeLinear", "ScatterND", "GridSample", "Where", "Resize"}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def same_version():
    if LIBRARY.name != STORED["library"]:
        pytest.skip(f"{LIBRARY.name} is installed; write the table again for it")


def test_operators_with_particular_cases_are_as_the_table_says():
    same_version()
    chosen = [probe for probe in probes() if probe.operator in QUICK]
    assert len(chosen) > 20
    for probe in chosen:
        kinds = [kind for kind in probe.types if kind in {"float", "int64", "uint8"}]
        models = {kind: model for kind in kinds if (model := probe_model(probe, kind)) is not None}
        found = {kind: verdict(model, LIBRARY)[0] for kind, model in models.items()}
        assert found == {k: operator_table()[probe.name][k] for k in models}, probe.name


@pytest.mark.slow
def test_the_whole_table_is_what_the_builder_does():
    same_version()
    assert operator_probes.operator_table(LIBRARY) == operator_table()


def test_the_check_refuses_what_the_builder_does_and_takes_what_it_takes():
    """Quantising is stricter: the parser makes int8 of uint8, which is not what the graph says."""
    wrong = []
    for probe in probes():
        for kind in probe.types:
            model = probe_model(probe, kind)
            if model is None or probe.operator in {"QuantizeLinear", "DequantizeLinear"}:
                continue
            weights = {w.name: w for w in model.graph.initializer}
            node = model.graph.node[0]
            types = {v.name: v.type.tensor_type for v in model.graph.input}
            first = types.get(node.input[0]) if node.input else None
            if first is None:
                continue
            refused = refusal(node, first.elem_type, weights, len(first.shape.dim))
            if bool(refused) != (operator_table()[probe.name][kind] != BUILDS):
                wrong.append((probe.name, kind, refused))
    assert not wrong


def test_what_is_parsed_and_then_not_built_is_told_from_what_is_refused():
    (probe,) = [p for p in probes() if p.case.startswith("K above")]
    assert verdict(probe_model(probe, "float"), LIBRARY)[0] == "parses, does not build"
    pooling = Probe("MaxPool", attributes={"kernel_shape": [2, 2], "dilations": [2, 2]})
    found, reason = verdict(probe_model(pooling, "float"), LIBRARY)
    assert found == "refused"
    assert "dilations" in reason
