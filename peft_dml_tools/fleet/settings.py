# SPDX-License-Identifier: Apache-2.0
"""What all drives of a fleet job share, made from the node's parameters."""

import hashlib

from peft_dml_ros.core.bundle import MANIFEST, find_bundle, load_bundle
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.fleet.detection import DetectionSettings


def fleet_settings(out: str, params: NodeParams, segment_s: float) -> DetectionSettings:
    """Return the settings of a job; its bundle is verified once, here. Raises BundleError: the bundle is refused.

    Args:
        out: Path or URL of the results.
        params: As of the node; each job uses one thread, because jobs share the cores.
        segment_s: Length of a segment; 0 does not split.
    """
    load_bundle(params.bundle, params.trusted_key)
    folder = find_bundle(params.bundle).resolve()
    sha = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    kept = params.model_copy(update={"threads": 1, "bundle": str(folder)}).model_dump(mode="json")
    return DetectionSettings(out, kept, sha, segment_s)
