# SPDX-License-Identifier: Apache-2.0
"""From nuScenes folders to batches: cache, targets, augmentation, modality dropout."""
