# SPDX-License-Identifier: Apache-2.0
"""Tools that no vehicle needs: simulator, data sets, replay, offline runs, demo, report, benchmarks, chaos suite."""
