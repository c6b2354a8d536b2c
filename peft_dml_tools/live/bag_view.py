# SPDX-License-Identifier: Apache-2.0
"""Plays a recording into a Foxglove server in real time, again and again; needs no ROS."""

import threading
import time
from typing import Final

from rosbags.interfaces import QosDurability

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.live.foxglove_server import STATUS_TYPE, FoxgloveServer

STATUS_END: Final = "/perception/status"


def play_bag(
    storage: BagStorage, server: FoxgloveServer, stop: threading.Event, *, rate: float = 1.0, once: bool = False
) -> None:
    """Play until `stop` is set, or once. Raises DataError: the bag holds no message, or is damaged."""
    if not storage.count:
        raise DataError(f"bag {storage.path} holds no message; fix: name another recording")
    shown = {topic for topic, kind in storage.connections.items() if server.declare(topic, kind)}
    latched = {
        topic
        for topic in shown
        if topic.endswith("/tf_static")
        or any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in storage.offered[topic])
    }
    while not stop.is_set():
        begun_s = time.monotonic()
        for message in storage.logged(shown):
            due_s = begun_s + (message.logged_ns - storage.begin_ns) / 1e9 / rate
            if stop.wait(max(0.0, due_s - time.monotonic())):
                return
            server.log(message.topic, message.cdr, message.logged_ns, latched=message.topic in latched)
            if message.topic.endswith(STATUS_END) and message.msgtype == STATUS_TYPE:
                server.log_status(message.cdr, message.logged_ns)
        storage.check()
        if once:
            return
