"""Exercise: how much of each source goes into a mixture. 练习：混合语料中每个来源占多少。"""

import numpy as np
from numpy.typing import NDArray


def shares(
    sizes: NDArray[np.float64], weights: NDArray[np.float64], temperature: float, total: float, most: float
) -> NDArray[np.float64]:
    """What each source contributes to a mixture of `total`, float64 [K], in proportion to weights^(1/T).

    No source gives more than `most` times its size; what it cannot give, the others do, in their proportions. If all
    are exhausted the mixture stays smaller than `total`. A source of weight 0 gives nothing.
    """
    raise NotImplementedError
