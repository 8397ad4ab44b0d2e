"""Exercise: one step of a recurrent network, and one look of attention. 练习：循环网络的一步，与注意力的一眼。"""

from torch import Tensor


def rnn_tanh_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor) -> Tensor:
    """The next state of a recurrent network: tanh(w_ih x + w_hh h).

    x: [B, I], what comes in; h: [B, H], the state so far; w_ih: [H, I], w_hh: [H, H]. Returns [B, H].
    """
    raise NotImplementedError


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """How much each query looks at each key, wherever it stands: softmax(q kᵀ / √d) over the keys.

    q: [B, H, T, d], k: [B, H, S, d]. Returns [B, H, T, S]; every row sums to 1.
    """
    raise NotImplementedError
