# SPDX-License-Identifier: Apache-2.0
# Sourced by colcon's package.sh: puts `peft-dml` on PATH. path.dsv says the same to colcon's setup scripts.
_colcon_prepend_unique_value PATH "$COLCON_CURRENT_PREFIX/share/peft_dml_ros/bin"
