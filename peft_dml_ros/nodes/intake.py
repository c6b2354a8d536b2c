# SPDX-License-Identifier: Apache-2.0
"""From messages to frame jobs: subscriptions feed the calibration store and the decoder, and that the synchroniser."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from rclpy.node import Node

from peft_dml_ros.conversions.decoders import decoder_of
from peft_dml_ros.core.cloud_checks import Hint
from peft_dml_ros.core.health import SensorState
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.nodes.calibrations import CalibrationStore
from peft_dml_ros.nodes.decoder import Decoder
from peft_dml_ros.nodes.diagnostics import sensor_reports
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.matched_subscription import MatchedSubscription
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FrameJob
from peft_dml_ros.nodes.subscriptions import SensorSubscriptions

HINTS_EVERY: Final = 5  #: Seconds from one look at the sensors to the next


def ignore_image(name: str, image: CameraImage) -> None:
    """Do nothing with a picture."""


class Intake:
    """What the node hears, put together.

    Args:
        node: Owner of the subscriptions and of the clock.
        params: Sensors, frames, limits.
        drops: Where every measurement that is not used is counted.
        on_job: Called in the executor's thread with every frame that is due; must return at once.
        on_image: Called there with every picture, before any frame can ask for it.
        checks: Looks at the newest measurements every `HINTS_EVERY` seconds.
    """

    def __init__(
        self,
        node: Node,
        params: NodeParams,
        drops: DropCounter,
        on_job: Callable[[FrameJob], None],
        on_image: Callable[[str, CameraImage], None] = ignore_image,
        checks: SensorChecks | None = None,
    ) -> None:
        self._checks = checks or SensorChecks(ModelSpec(), base_frame=params.base_frame)
        self._warn, self._seconds = node.get_logger().warning, 0
        self._clock, self._drops = node.get_clock(), drops
        self._synchroniser = Synchroniser(params)
        self._store = CalibrationStore(params.sensors, params.base_frame, params.calibration, drops, self._rig_changed)
        converters = {name: decoder_of(name, params.inputs) for name in params.sensors}
        self._decoder = Decoder(converters, self._synchroniser, self._store, self._clock, drops, on_job, on_image)
        self._subscriptions = SensorSubscriptions(node, params, self._decoder, self._store)
        self.refresh()

    def _rig_changed(self) -> None:
        self._decoder.rig_changed()

    def destroy(self) -> None:
        """End all subscriptions."""
        self._subscriptions.destroy()

    def refresh(self) -> None:
        """Fit subscriptions to publishers that have come or gone since; to be called once a second."""
        self._subscriptions.refresh()
        self._store.every_second()
        self._seconds += 1
        if self._seconds % HINTS_EVERY == 1:
            self._look_at_sensors()

    def _look_at_sensors(self) -> None:
        """Log what looks wrong with the newest measurements: units, scales, transforms; each thing once."""
        for name, sensor in self._store.rig.sensors.items():
            for hint in self._checks.survey(name, self._synchroniser.buffered(name), sensor):
                self._warn(str(hint))

    def connections(self) -> dict[str, MatchedSubscription]:
        """Return what is listened to: by sensor, by `info_of(camera)`, by `raw_of(camera)`, and /tf_static."""
        return self._subscriptions.connections()

    @property
    def waiting(self) -> frozenset[str]:
        """Sensors of which one message waits for their calibration: it is neither admitted nor refused yet."""
        return self._decoder.waiting

    @property
    def hints(self) -> list[Hint]:
        """What looks wrong with the sensors, each thing once."""
        return list(self._checks.hints.values())

    def tick(self) -> None:
        """Let the clock make a frame when no sensor does."""
        now_ns = self._now_ns()
        if now_ns:
            self._decoder.emit(self._synchroniser.tick(now_ns), now_ns)

    def reset(self) -> None:
        """Forget all measurements, as after a jump of the clock."""
        self._synchroniser.reset()

    def reports(self) -> dict[str, SensorState]:
        """Return every sensor as it is now."""
        unusable = self._store.missing | self._decoder.unfit
        return sensor_reports(self._synchroniser.states(self._now_ns()), unusable, self._decoder.received)

    def drops(self) -> Counter[str]:
        """Return all drops before the detector, by reason."""
        return self._drops.totals() + Counter(self._synchroniser.drops)

    def _now_ns(self) -> int:
        return int(self._clock.now().nanoseconds)
