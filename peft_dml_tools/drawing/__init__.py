# SPDX-License-Identifier: Apache-2.0
"""Still pictures of detections: a bird's-eye view and camera views."""
