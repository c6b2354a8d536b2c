# SPDX-License-Identifier: Apache-2.0
"""One-cycle learning rate (Smith and Topin, "Super-Convergence", 2018)."""

import math

FLOOR = 0.002


def one_cycle(progress: float, warm_up: float) -> float:
    """Return the factor on the peak rate: a cosine up during the warm-up, a cosine down to nearly nothing after it.

    Args:
        progress: Share of the schedule that is done, 0 to 1.
        warm_up: Share of the schedule in which the rate rises.
    """
    if progress < warm_up:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / warm_up)) / 2
    done = min(1.0, (progress - warm_up) / (1 - warm_up))
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2
