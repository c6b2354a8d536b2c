# SPDX-License-Identifier: Apache-2.0
"""Another model while the node runs: loaded and warmed up in the background, taken over between two frames."""

from __future__ import annotations

from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.nodes.pipeline import Pipeline
from peft_dml_ros.nodes.worker import LatestWorker


class HotSwap:
    """Loads models one at a time; of requests that wait, the newest counts.

    Attributes:
        loading: Bundle that is being loaded, empty when none is.
        failure: Why the last request came to nothing; `None` when it did not fail. Whoever reads it clears it.
    """

    def __init__(self) -> None:
        self.loading = ""
        self.failure: Exception | None = None
        self._ready: Pipeline | None = None
        self._loader = LatestWorker(self._load, self._fail)

    def request(self, params: PerceptionParams) -> None:
        """Begin to load what the parameters name; returns at once."""
        self.loading, self.failure = params.bundle, None
        self._loader.submit(params)

    def take(self) -> Pipeline | None:
        """The model that has become ready since the last call, if one has."""
        ready, self._ready = self._ready, None
        return ready

    def close(self) -> None:
        """Drop what is loading or ready."""
        self._loader.close()
        self._ready = None

    def _load(self, params: PerceptionParams) -> None:
        self._ready = Pipeline(params)
        self.loading = ""

    def _fail(self, error: Exception) -> None:
        self.loading, self.failure = "", error
