"""Checks for mixing, by hand."""

from types import ModuleType

import numpy as np

SOLUTION = "danlu.data.steps.mix"
SIZES = np.array([8000.0, 800.0, 200.0])


def _close(told: np.ndarray, wanted: list[float]) -> None:
    assert np.allclose(told, wanted), f"{np.round(told, 2).tolist()}, wanted {wanted}"


def check_temperature_one_keeps_the_proportions(exercise: ModuleType) -> None:
    """Sources of 8000, 800 and 200 in a mixture of 4500: half of each.
    来源为 8000、800、200，混合成 4500：各取一半。
    """
    _close(exercise.shares(SIZES, SIZES, 1.0, 4500, 4), [4000, 400, 100])


def check_two_takes_square_roots(exercise: ModuleType) -> None:
    """Weights of 16, 4 and 1 at T = 2 are 4, 2 and 1; at T = 0.5 they are 256, 16 and 1.
    权重 16、4、1 在 T = 2 时变为 4、2、1；在 T = 0.5 时变为 256、16、1。
    """
    weights = np.array([16.0, 4, 1])
    _close(exercise.shares(SIZES, weights, 2.0, 700, 4), [400, 200, 100])
    _close(exercise.shares(SIZES, weights, 0.5, 273, 4), [256, 16, 1])


def check_what_one_lacks_the_others_give(exercise: ModuleType) -> None:
    """Equal weights, 3900 in all, at most 4 times: 200 gives 800, not 1300; the others share the remaining 3100.
    权重相等，共 3900，最多重复 4 遍：200 的来源只能给 800，而不是 1300；其余两个平分剩下的 3100。
    """
    _close(exercise.shares(SIZES, np.ones(3), 1.0, 3900, 4), [1550, 1550, 800])


def check_limits_may_meet_one_after_another(exercise: ModuleType) -> None:
    """After the third source has given its 800, the second has to give more, and meets its own limit of 3200.
    第三个来源给满 800 之后，第二个来源要多给一些，于是也碰到自己的上限 3200。
    """
    _close(exercise.shares(SIZES, np.ones(3), 1.0, 9000, 4), [5000, 3200, 800])
    _close(exercise.shares(SIZES, np.ones(3), 1.0, 10**6, 4), [32000, 3200, 800])


def check_weight_zero_gives_nothing(exercise: ModuleType) -> None:
    """A source of weight 0 is left out, whatever the temperature.
    权重为 0 的来源不参与，与温度无关。
    """
    _close(exercise.shares(SIZES, np.array([0.0, 1, 1]), 3.0, 300, 4), [0, 150, 150])
