# SPDX-License-Identifier: Apache-2.0
"""Published figures on nuScenes' validation set, for comparison: NDS, on real data."""

#: NDS
DROPOUT = (
    # system, full, without LiDAR, without cameras, source
    ("BEVFusion, zeros for what is missing", 71.4, 7.1, 67.5, "as reported by MetaBEV"),
    ("MetaBEV", 71.5, 42.6, 69.2, "its repository"),
    ("MoME", 73.6, 48.2, 69.5, "its repository"),
)

#: MultiCorrupt's leaderboard: mRA by NDS, radar not used
RESISTANCE = (
    ("CMT", 0.865),
    ("MEFormer", 0.856),
    ("MoME", 0.856),
    ("UniBEV (concatenation)", 0.847),
    ("BEVFusion", 0.830),
)

#: Systems whose figures stand on other data: what compares is what they do, not the number
ROUTES = (
    # system, what it does about the same question, reported, what compares
    (
        "DA3D, ACM MM 2025",
        "LoRA ranks by weather, a weather classifier chooses the adapter",
        "K-Radar: +3.8 AP3D on its 3D-LRF baseline",
        "adapting by weather: the gaps `rain` and `fog`; another metric and other data",
    ),
    (
        "ASF, arXiv 2503.07029",
        "any subset of camera, LiDAR, 4D radar by canonical projection and attention per patch",
        "K-Radar: 87.2 AP BEV, 73.6 AP 3D",
        "any subset of sensors: the 31 subsets; 4D radar, one class",
    ),
    (
        "ModalPatch, arXiv 2603.02481",
        "LiDAR and camera drop at once, their features are carried by history",
        "nuScenes; no figure taken over",
        "both dropped at once: the subset of radar, IMU and GNSS; no history here",
    ),
)
