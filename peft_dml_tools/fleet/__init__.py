# SPDX-License-Identifier: Apache-2.0
"""Fleet jobs on Ray: detection, simulation, evaluation and mining over many drives and machines."""
