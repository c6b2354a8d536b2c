# SPDX-License-Identifier: Apache-2.0
"""Parameters that act while the node runs: another model is loaded in the background, a refused one rolled back."""

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.parameter import Parameter

from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.engines import LoadedEngines
from peft_dml_ros.nodes.frame_loop import FrameLoop, LatestWorker
from peft_dml_ros.nodes.parameter_file import MODEL_PARAMETERS, NodeParams
from peft_dml_ros.nodes.parameters import read_parameters
from peft_dml_ros.nodes.pipeline import Pipeline


class HotSwap:
    """Acts on parameters that were set; models are loaded one at a time, of requests that wait the newest counts."""

    def __init__(self, node: Node, params: NodeParams, loop: FrameLoop, kept: LoadedEngines) -> None:
        self._node, self._params, self._loop, self._kept = node, params, loop, kept
        self._failure: Exception | None = None
        self._loader = LatestWorker(self._load, self._fail)
        self._following = False
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_post_set_parameters_callback(self._at_once)

    @property
    def params(self) -> NodeParams:
        """Parameters that are in force."""
        return self._params

    def close(self) -> None:
        """Drop what is being loaded."""
        if hasattr(self._node, "remove_post_set_parameters_callback"):
            self._node.remove_post_set_parameters_callback(self._at_once)
        self._loader.close()

    def _at_once(self, changes: Sequence[Parameter]) -> None:
        """Act on a parameter that was just set, unless it is this object that set it."""
        if not self._following and any(change.name in MODEL_PARAMETERS for change in changes):
            self.follow()

    def follow(self) -> None:
        """Act on parameters that were set since; those of sensors wait for the next configure."""
        self._following = True
        self._roll_back()
        self._following = False
        wanted, before = read_parameters(self._node), self._params
        if wanted == before:
            return
        self._params = wanted
        if any(getattr(wanted, name) != getattr(before, name) for name in MODEL_PARAMETERS):
            self._loader.submit(wanted)
            model, threads = f"bundle {wanted.bundle}, adapter {wanted.adapter}", wanted.threads or "spare"
            self._node.get_logger().info(f"loading {model}, {wanted.engine}, {threads} threads")
        self._loop.tune(wanted.detection)
        rest = {"detection": wanted.detection, "router": wanted.router} | {
            name: getattr(wanted, name) for name in MODEL_PARAMETERS
        }
        if before.model_copy(update=rest) != wanted:
            self._node.get_logger().warning("sensors, frames, paces and limits change with the next configure")

    def _roll_back(self) -> None:
        """After a failed load, set the parameters of the model that stays, and say which changed."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        pipeline = self._loop.pipeline
        manifest, kept = pipeline.bundle.manifest, pipeline.settings
        asked = {name: getattr(self._params, name) for name in kept}
        back = ", ".join(
            f"{name} back from {asked[name]} to {kept[name]}" for name in kept if kept[name] != asked[name]
        )
        self._node.get_logger().error(f"{failure}; {manifest.name} {manifest.version} stays in use: {back}")
        self._node.set_parameters([Parameter(name, value=value) for name, value in kept.items()])
        self._params = read_parameters(self._node)

    def _load(self, params: PerceptionParams) -> None:
        ready = Pipeline(params, self._kept)
        self._loop.take_over(ready)
        manifest = ready.bundle.manifest
        what = f"bundle {manifest.name} {manifest.version}, adapter {ready.bundle.adapters}"
        self._node.get_logger().info(f"{what} loaded, the next frame is its first")

    def _fail(self, error: Exception) -> None:
        self._failure = error
