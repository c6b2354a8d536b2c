# SPDX-License-Identifier: Apache-2.0
"""What sets the parameter `adapter` of the running node: the service `~/use_adapter`, and the router, if it is on."""

import time
from typing import Final

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from peft_dml_ros.core.adapter_domain import scene_figures
from peft_dml_ros.core.adapter_mix import DEFAULT, OFF
from peft_dml_ros.core.adapter_router import AdapterChoice, AdapterRouter, domains_of
from peft_dml_ros.nodes.frame_loop import FrameLoop
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_ros.nodes.parameter_file import NodeParams

PARAMETER: Final = "adapter"
CHOICE: Final = "~/adapter_choice"


class AdapterSwitch:
    """Serves `~/use_adapter`: the base alone, or the adapter that was named before; frames go on meanwhile."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._last = DEFAULT
        self._service = node.create_service(SetBool, "~/use_adapter", self._switch)

    def destroy(self) -> None:
        """End the service."""
        self._node.destroy_service(self._service)

    def _switch(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        now = str(self._node.get_parameter(PARAMETER).value)
        if now not in {OFF, ""}:
            self._last = now
        wanted = self._last if request.data else OFF
        (result,) = self._node.set_parameters([Parameter(PARAMETER, value=wanted)])
        response.success = bool(result.successful)
        response.message = result.reason or f"adapter {wanted} follows {now} between two frames"
        return response


class AdapterRouting:
    """Looks at the newest frame once a second and sets the parameter, where `router.enabled` says so.

    What it chose and why is published on `~/adapter_choice`. While the adapter is switched off (`none`) it rests, and
    an adapter that could not be loaded is chosen no more.
    """

    def __init__(self, node: Node, loop: FrameLoop) -> None:
        self._node, self._loop = node, loop
        self._publisher = node.create_publisher(DiagnosticStatus, CHOICE, LATCHED)
        self._router: AdapterRouter | None = None
        self._base, self._before, self._looked_ns = "", "", 0

    def destroy(self) -> None:
        """End the publisher."""
        self._node.destroy_publisher(self._publisher)

    def consider(self, params: NodeParams) -> None:
        """Look at the newest frame, and change the adapter where another one has led for long enough."""
        job, now = self._loop.newest, params.adapter
        if not params.router.enabled or job is None or job.snapshot.stamp_ns == self._looked_ns:
            self._router = self._router if params.router.enabled else None
            return
        self._looked_ns = job.snapshot.stamp_ns
        if now in {OFF, ""}:
            self._publish(AdapterChoice(OFF, "adapters are switched off, the router rests", {}))
            return
        router = self._ready(params, now)
        choice = router.look(scene_figures(job.snapshot), job.snapshot.present, time.monotonic())
        if choice.adapter != now:
            self._before = now
            self._node.get_logger().info(f"router: adapter '{choice.adapter}': {choice.reason}")
            self._node.set_parameters([Parameter(PARAMETER, value=choice.adapter)])
        self._publish(choice)

    def _ready(self, params: NodeParams, now: str) -> AdapterRouter:
        """Return the router of the bundle in use, which knows what became of its last choice."""
        bundle, warn = self._loop.pipeline.bundle, self._node.get_logger().warning
        base = str(bundle.manifest.base.get("sha256", ""))
        if self._router is None or base != self._base or params.router != self._router.params:
            domains, refused = domains_of(bundle, params.trusted_key)
            for name, why in refused.items():
                warn(f"router: adapter '{name}' is left out: {why}")
            self._router, self._base, self._before = AdapterRouter(domains, params.router, now), base, ""
        elif now != self._router.adapter:  # rolled back, or set by hand
            if now == self._before:
                warn(f"router: '{self._router.adapter}' gave way to '{now}' again and is chosen no more")
                self._router.exclude(self._router.adapter)
            self._router.adapter = now
        return self._router

    def _publish(self, choice: AdapterChoice) -> None:
        fits = sorted(choice.fits.items(), key=lambda item: -item[1])
        values = [KeyValue(key=f"fit {name}", value=f"{fit:.3f}") for name, fit in fits]
        values.insert(0, KeyValue(key="adapter", value=choice.adapter))
        name = f"{self._node.get_name()}: adapter"
        self._publisher.publish(DiagnosticStatus(name=name, message=choice.reason, values=values))
