# SPDX-License-Identifier: Apache-2.0
"""The `peft-dml` command: one file per sub-command, heavy imports inside the commands."""
