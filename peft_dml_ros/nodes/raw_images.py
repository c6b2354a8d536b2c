# SPDX-License-Identifier: Apache-2.0
"""Which cameras are listened to uncompressed: those that bring nothing usable compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rclpy.node import Node

from peft_dml_ros.conversions.topics import raw_image_topic_of, topic_of
from peft_dml_ros.nodes.subscribing import FittingSubscription

PATIENCE = 2
"""Looks at a camera, one a second, without a usable compressed image until its raw ones are taken."""


@dataclass(slots=True)
class _Camera:
    """One camera: what came since the last look, and the subscription to its raw images while there is one."""

    usable: int = 0
    idle_looks: int = 0
    subscription: FittingSubscription | None = None


class RawImages:
    """Subscriptions to raw images, each held only while it is needed.

    Drivers publish both kinds (image_transport does), and a raw image costs a hundred times the bytes.

    Args:
        node: Sees the publishers.
        cameras: Sensor names.
        listen: Subscribes to (camera, topic of its raw images).
    """

    def __init__(self, node: Node, cameras: Iterable[str], listen: Callable[[str, str], FittingSubscription]) -> None:
        self._node, self._listen = node, listen
        self._cameras = {name: _Camera() for name in cameras}

    def compressed_came(self, name: str) -> None:
        """Note a compressed image that could be taken."""
        if name in self._cameras:
            self._cameras[name].usable += 1

    def refresh(self) -> None:
        """Look at every camera; to be called once a second."""
        for name, camera in self._cameras.items():
            camera.idle_looks = 0 if camera.usable else camera.idle_looks + 1
            camera.usable = 0
            wanted = self._published(raw_image_topic_of(name)) and (
                not self._published(topic_of(name)) or camera.idle_looks > PATIENCE
            )
            if wanted and camera.subscription is None:
                camera.subscription = self._listen(name, raw_image_topic_of(name))
            elif not wanted and camera.subscription is not None:
                camera.subscription.destroy()
                camera.subscription = None
            elif camera.subscription is not None:
                camera.subscription.refresh()

    def subscriptions(self) -> dict[str, FittingSubscription]:
        """Those that are held now, by camera."""
        return {name: c.subscription for name, c in self._cameras.items() if c.subscription is not None}

    def destroy(self) -> None:
        """End all subscriptions."""
        for camera in self._cameras.values():
            if camera.subscription is not None:
                camera.subscription.destroy()
                camera.subscription = None

    def _published(self, topic: str) -> bool:
        return bool(self._node.count_publishers(self._node.resolve_topic_name(topic)))
