"""Learning-rate schedules, as a factor of the peak rate."""

import math
from typing import Literal

__all__ = ["Schedule", "rate"]

Schedule = Literal["cosine", "linear", "wsd", "constant"]


# lesson: schedule
def rate(schedule: Schedule, step: int, steps: int, *, warmup: int, floor: float, decay: float) -> float:
    """The factor for step `step` (from 0) of `steps`.

    Warm-up rises linearly over `warmup` steps. Then: 'cosine' (Loshchilov & Hutter 2017) and 'linear' fall to
    `floor` at the last step; 'wsd' (Hu et al. 2024, MiniCPM) stays at 1 and falls linearly over the last `decay`
    share of the steps; 'constant' stays.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup + 1) / max(1, steps - warmup)
    if schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - (1 - floor) * done
    if schedule == "wsd":
        return 1 - (1 - floor) * max(0.0, (done - (1 - decay)) / decay)
    return 1.0


# end lesson
