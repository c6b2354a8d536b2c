# SPDX-License-Identifier: Apache-2.0
"""Losses: detection, metric alignment of the modalities, consistency under dropout, gate, depth."""
