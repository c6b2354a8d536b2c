# SPDX-License-Identifier: Apache-2.0
"""One encoder per modality: LiDAR, camera and radar to a bird's-eye-view map, IMU and GNSS to one token."""
