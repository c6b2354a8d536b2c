# SPDX-License-Identifier: Apache-2.0
"""Published figures on nuScenes' validation set, for comparison: NDS, on real data."""

DROPOUT = (
    # system, full, without LiDAR, without cameras, source
    ("BEVFusion, zeros for what is missing", 71.4, 7.1, 67.5, "as reported by MetaBEV"),
    ("MetaBEV", 71.5, 42.6, 69.2, "its repository"),
    ("MoME", 73.6, 48.2, 69.5, "its repository"),
)
"""NDS."""

RESISTANCE = (
    ("CMT", 0.865),
    ("MEFormer", 0.856),
    ("MoME", 0.856),
    ("UniBEV (concatenation)", 0.847),
    ("BEVFusion", 0.830),
)
"""MultiCorrupt's leaderboard: mRA by NDS, radar not used."""
