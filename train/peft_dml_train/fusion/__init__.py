# SPDX-License-Identifier: Apache-2.0
"""Fusion of the modalities: attention over tokens and a gate, per cell, for any subset of sensors."""
