# SPDX-License-Identifier: Apache-2.0
"""The service `~/use_adapter`: the base alone, or the adapter that the parameter named before."""

from typing import Final

from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from peft_dml_ros.core.adapter_mix import DEFAULT, OFF

PARAMETER: Final = "adapter"


class AdapterSwitch:
    """Turns adapters off and on again by the parameter `adapter`; frames go on meanwhile."""

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
