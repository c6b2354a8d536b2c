# SPDX-License-Identifier: Apache-2.0
"""Tools beside the vehicle: simulator, data sets, replay, offline runs, demo, report, benchmarks and chaos suite."""
