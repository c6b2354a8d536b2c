# SPDX-License-Identifier: Apache-2.0
"""Offline training, evaluation and export of the PEFT-DML detector; the deployed half is ``peft_dml_ros``."""

from peft_dml_ros.cli import start as run

__version__ = "0.2.0"


def start() -> None:
    """Run `peft-dml-train`."""
    run("peft_dml_train.cli")
