"""Exercise: positions without rotation: sinusoids, ALiBi, T5's buckets. 练习：不靠旋转的位置编码：正弦、ALiBi、T5 的分桶。"""

from torch import Tensor


def sinusoidal(positions: Tensor, size: int, base: float = 10000.0) -> Tensor:
    """Sine at the even places and cosine at the odd ones: place 2i and 2i + 1 hold the angle position · base^(-2i/size).

    positions: integers of any shape [...], size: even. Returns float32 [..., size]; compute the angles in float64.
    """
    raise NotImplementedError


def alibi_slopes(heads: int) -> Tensor:
    """How fast each of n heads forgets with distance: 2^(-8/n), 2^(-16/n), ... down to 2^(-8). float32 [heads].

    `heads` is a power of two in this exercise.
    """
    raise NotImplementedError


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """What ALiBi adds to the scores: -slope · |query position - key position|.

    slopes: [H], query_positions: [T], key_positions: [S]. Returns [H, T, S].
    """
    raise NotImplementedError


def relative_buckets(distance: Tensor, buckets: int = 32, reach: int = 128, *, bidirectional: bool) -> Tensor:
    """T5's bucket of each distance, key position minus query position; any shape, int64.

    Causal (bidirectional=False): let n = -distance, and 0 where the key stands after the query. Of the buckets the
    first half, e = buckets // 2, are exact: n < e is its own bucket. Beyond, the bucket is
    e + floor(log(n / e) / log(reach / e) · (buckets - e)), and at most buckets - 1.
    bidirectional: the same with |distance| and half as many buckets; keys after the query get the other half.
    """
    raise NotImplementedError
