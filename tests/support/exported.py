# SPDX-License-Identifier: Apache-2.0
"""A network's graphs as the vehicle runs them."""

from pathlib import Path

from peft_dml_ros.core.bundle import Bundle, Manifest, load_bundle
from peft_dml_tools.bundles.manifest import write_manifest
from peft_dml_train.adapters.base_weights import rounded
from peft_dml_train.adapters.lora import weights_digest
from peft_dml_train.export.bundle import graph_infos
from peft_dml_train.export.graphs import export_graphs
from peft_dml_train.network import PeftDmlNetwork


def bundle_of(network: PeftDmlNetwork, folder: Path) -> Bundle:
    """Export a network, whose weights take their stored form, as a base without adapters."""
    state = rounded(network.state_dict())
    network.load_state_dict(state)
    export_graphs(network.eval(), folder)
    base = {"sha256": weights_digest(state)}
    write_manifest(
        folder,
        Manifest(
            name=folder.name, version="0", spec=network.spec, graphs=graph_infos(network.spec), files={}, base=base,
            trained_share=0.0,
        ),
    )  # fmt: skip
    return load_bundle(folder)
