# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the default engine, and the reference for every other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnxruntime as ort

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.core.typing import AnyArray

_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}


class OnnxRuntimeEngine:
    """One ONNX graph with static shapes.

    Args:
        path: ONNX file.
        threads: Threads within an operator; 0 takes one per core.

    Raises:
        EngineError: the file is no loadable graph.
    """

    def __init__(self, path: Path, threads: int = 2) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Spinning idle threads would steal the cores that decode the next frame.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            msg = f"ONNX Runtime {ort.__version__} cannot load {path}: {error}"
            raise EngineError(msg) from error
        self._inputs = {i.name: (tuple(i.shape), _DTYPES.get(i.type, i.type)) for i in self._session.get_inputs()}
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._path = path

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and numpy dtype name of each input."""
        return self._inputs

    def __call__(self, feeds: dict[str, AnyArray]) -> dict[str, AnyArray]:
        """Run the graph.

        Args:
            feeds: One array per input, of the declared shape and dtype.

        Raises:
            EngineError: an input is missing, superfluous, or has another shape or dtype.
        """
        found = {name: (array.shape, str(array.dtype)) for name, array in feeds.items()}
        if found != self._inputs:
            wrong = {n: found.get(n) for n in {*found, *self._inputs} if found.get(n) != self._inputs.get(n)}
            msg = f"{self._path.name}: inputs {wrong} do not fit, expected {self._inputs}"
            raise EngineError(msg)
        values = self._session.run(self._outputs, feeds)
        return dict(zip(self._outputs, values, strict=True))
