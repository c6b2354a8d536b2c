# SPDX-License-Identifier: Apache-2.0
"""Weather and faults of a replay as ROS parameters, so that they can be switched while it plays."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.nodes.runtime import spin
from peft_dml_tools.nodes.replay_faults import MessageFaults
from peft_dml_tools.sim.faults import Fault, dump_faults, parse_faults, weather_fault
from peft_dml_tools.sim.weather.weather import CLEAR

WEATHER = "weather"
FAULTS = "faults"


class FaultParameters:
    """Declares `weather` and `faults` on a node, and switches the faults of its messages when they are set.

    Raises ConfigError: a value given for the parameters on the command line is wrong.
    """

    def __init__(
        self,
        node: Node,
        faulty: MessageFaults,
        script: Sequence[Fault],
        weather: str,
        seed: int = 0,
        announce: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> None:
        self._faulty, self._seed, self._announce = faulty, seed, announce
        self._texts = {WEATHER: weather, FAULTS: dump_faults(script) if script else ""}
        words = {
            WEATHER: "fog=50 (visibility in m), rain=25 or snow=5 (mm/h), clear",
            FAULTS: "YAML list of {sensor, fault, ...}; times count from the recording's beginning; empty for none",
        }
        descriptors = {name: ParameterDescriptor(description=text) for name, text in words.items()}
        declared = {n: node.declare_parameter(n, text, descriptors[n]) for n, text in self._texts.items()}
        self._switch({name: str(parameter.value or "") for name, parameter in declared.items()})
        node.add_on_set_parameters_callback(self._set)

    def _switch(self, texts: dict[str, str]) -> None:
        """Go on with other weather and faults, where they are others.

        Raises ConfigError: they cannot be read, or name a sensor that is not there; the old ones stay.
        """
        if texts == self._texts:
            return
        script = parse_faults(texts[FAULTS], "parameter faults")
        self._faulty.switch((*script, *weather_fault(texts[WEATHER] or CLEAR, self._seed)))
        self._texts = texts
        self._announce(texts)

    def _set(self, changes: Sequence[Parameter]) -> SetParametersResult:
        try:
            self._switch(self._texts | {c.name: str(c.value or "") for c in changes if c.name in self._texts})
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Answer calls to a node from another thread."""
    done = threading.Event()
    thread = threading.Thread(target=spin, args=(node, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
