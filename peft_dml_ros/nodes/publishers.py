# SPDX-License-Identifier: Apache-2.0
"""Everything the perception node publishes."""

from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, PointCloud2
from std_msgs.msg import Float32, Header
from vision_msgs.msg import Detection3DArray, LabelInfo, VisionClass, VisionInfo
from visualization_msgs.msg import MarkerArray

from peft_dml_ros.conversions import markers_to_cdr, velocities_to_msg
from peft_dml_ros.conversions.boxes import boxes_to_cdr
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.detector import Detections
from peft_dml_ros.nodes.diagnostics import NodeIdentity, NodeReport, identity_of, to_diagnostics
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.interface import STAGES, cameras_of, overlay_topic
from peft_dml_ros.nodes.matched_subscription import LATCHED
from peft_dml_ros.nodes.objects import ObjectOutputs
from peft_dml_ros.nodes.overlays import Overlays
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FrameJob

DEPTH = 10


class NodeOutputs:
    """Publishers of the node; a message is only made while somebody listens to its topic.

    Args:
        node: Their owner; nothing leaves them until it is active.
        bundle: Tells class names and the model's identity.
        params: Frame of the boxes, and the cameras.
        drops: Counts pictures that could not be made.
    """

    def __init__(self, node: LifecycleNode, bundle: Bundle, params: NodeParams, drops: DropCounter) -> None:
        self._node, self._bundle, self._frame = node, bundle, params.base_frame
        self._classes = bundle.spec.classes
        self._make = RclpyFactory()
        silent = PublisherEventCallbacks(use_default_callbacks=False)
        new = partial(node.create_lifecycle_publisher, event_callbacks=silent)
        self._detections = new(Detection3DArray, "~/detections", DEPTH)
        self._velocities = new(PointCloud2, "~/velocities", DEPTH)
        self._markers = new(MarkerArray, "~/markers", DEPTH)
        self._status = new(DiagnosticArray, "~/status", DEPTH)
        self._labels = new(LabelInfo, "~/label_info", LATCHED)
        self._vision = new(VisionInfo, "~/vision_info", LATCHED)
        self._debug = {stage: new(Float32, f"~/debug/{stage}_ms", DEPTH) for stage in STAGES}
        self._pictures = {name: new(CompressedImage, overlay_topic(name), 1) for name in cameras_of(params.sensors)}
        self._objects = ObjectOutputs(new, params)
        self._overlays = Overlays(self._pictures, drops)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", DEPTH, event_callbacks=silent)

    def destroy(self) -> None:
        """End all publishers."""
        self.end_pictures()
        for publisher in (
            *(self._detections, self._velocities, self._markers, self._status, self._labels, self._vision),
            *(*self._debug.values(), *self._pictures.values(), *self._objects.publishers, self._diagnostics),
        ):
            self._node.destroy_publisher(publisher)

    def end_pictures(self) -> None:
        """End the thread that draws; the next picture that is wanted starts it again."""
        self._overlays.close()

    def announce(self, threshold: float) -> None:
        """Publish, latched, class names, model, and the score below which boxes are not published."""
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._frame)
        classes = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(self._classes)]
        self._labels.publish(LabelInfo(header=header, class_map=classes, threshold=threshold))
        manifest = self._bundle.manifest
        topic = self._node.resolve_topic_name("~/label_info")
        method = f"{manifest.name} {manifest.version}, adapter {self._bundle.adapters}"
        self._vision.publish(VisionInfo(header=header, method=method, database_location=topic))

    def take_over(self, bundle: Bundle, threshold: float) -> None:
        """Speak for another model from now on."""
        self._bundle, self._classes = bundle, bundle.spec.classes
        self.announce(threshold)

    def publish_boxes(self, boxes: Boxes3D, stamp_ns: int) -> None:
        """Publish the boxes of a frame, also when there are none: silence must mean failure."""
        if self._detections.get_subscription_count():
            self._detections.publish(boxes_to_cdr(boxes, stamp_ns, self._frame, self._classes))
        if self._velocities.get_subscription_count():
            self._velocities.publish(velocities_to_msg(boxes, stamp_ns, self._frame, self._make))

    def publish_objects(self, found: Detections, job: FrameJob) -> None:
        """Publish tracks, and objects for Autoware."""
        self._objects.publish(found, job, self._classes)

    def publish_views(self, boxes: Boxes3D, stamp_ns: int, job: FrameJob) -> None:
        """Publish what viewers draw of a frame: markers now, pictures with boxes as soon as they are made."""
        classes = self._classes
        if self._markers.get_subscription_count():
            self._markers.publish(markers_to_cdr(boxes, stamp_ns, self._frame, classes))
        self._overlays.submit(job.snapshot, job.rig, boxes, classes)

    def publish_status(self, report: NodeReport) -> None:
        """Publish what belongs to the frame of the report: its status, and times of stages that are listened to."""
        found = report.detections
        if found is None:
            return
        if self._status.get_subscription_count():
            self._status.publish(to_diagnostics(report, found.stamp_ns, self._identity()))
        times_ms = {**found.stages_ms, "total": report.latency_ms}
        for stage, publisher in self._debug.items():
            if stage in times_ms and publisher.get_subscription_count():
                publisher.publish(Float32(data=times_ms[stage]))

    def publish_diagnostics(self, report: NodeReport) -> None:
        """Publish the state of the node to /diagnostics."""
        now_ns = int(self._node.get_clock().now().nanoseconds)
        self._diagnostics.publish(to_diagnostics(report, now_ns, self._identity()))

    def _identity(self) -> NodeIdentity:
        return identity_of(self._node, self._bundle.manifest.name)
