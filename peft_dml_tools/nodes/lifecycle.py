# SPDX-License-Identifier: Apache-2.0
"""Takes a perception node that waits through configure and activate, and reports the time that each took.

    python -m peft_dml_tools.nodes.lifecycle --node perception

Stdout carries a JSON line `transition` for each.
"""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.nodes.runtime import ros_main
from peft_dml_tools.nodes.command_line import emit
from peft_dml_tools.nodes.replay_parameters import spinning

TRANSITIONS: Final = {"configure": Transition.TRANSITION_CONFIGURE, "activate": Transition.TRANSITION_ACTIVATE}


def activate(options: argparse.Namespace, _stop: threading.Event) -> None:
    """Ask for both transitions in turn. Raises DataError: the node does not appear, or refuses."""
    node = Node("lifecycle_client", start_parameter_services=False)
    with spinning(node):
        client = node.create_client(ChangeState, f"{options.node}/change_state")
        if not client.wait_for_service(options.wait_s):
            msg = f"after {options.wait_s:g} s there is no service {options.node}/change_state"
            raise DataError(f"{msg}; fix: start it")
        for label, number in TRANSITIONS.items():
            begin_s, done = time.monotonic(), threading.Event()
            future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
            future.add_done_callback(lambda _, done=done: done.set())
            if not done.wait(options.wait_s) or not future.result().success:
                raise DataError(f"the node could not {label}; hint: its log says why")
            emit("transition", **{label: round(time.monotonic() - begin_s, 4)})
    node.destroy_node()


def main(args: Sequence[str] | None = None) -> None:
    """Run as a process; `args` as on the command line, including `--ros-args`."""
    parser = argparse.ArgumentParser(prog="lifecycle", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--node", default="perception", help="name of the node")
    parser.add_argument("--wait-s", type=float, default=60.0, help="longest wait for the node, and for each transition")
    options = parser.parse_args(remove_ros_args(sys.argv if args is None else ["lifecycle", *args])[1:])
    ros_main(partial(activate, options), args)


if __name__ == "__main__":
    main()
