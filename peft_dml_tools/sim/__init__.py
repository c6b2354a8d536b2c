# SPDX-License-Identifier: Apache-2.0
"""Synthetic drives: one physical scene, seen by every sensor of a nuScenes-like vehicle."""
