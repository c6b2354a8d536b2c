# SPDX-License-Identifier: Apache-2.0
"""Measurements of this software: seconds, memory, and how near the simulator comes to the real world."""
