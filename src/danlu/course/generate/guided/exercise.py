"""Exercise: a guide for an answer that is one of several texts. 练习：让回答必定是几个文本之一的约束。"""

from torch import Tensor

from danlu.generate.grammar import token_bytes
from danlu.generate.guided import Guided
from danlu.tokenizer import Tokenizer


class Guide:
    """One answer under way, and which tokens may come next. Here `guided.choice` is given: the texts it may be."""

    def __init__(self, guided: Guided, tokenizer: Tokenizer) -> None:
        assert guided.choice
        self.choices = [text.encode() for text in guided.choice]
        self.tokens = token_bytes(tokenizer)  # the bytes that each token adds; b"" for one that adds nothing
        self.stop_ids = frozenset(tokenizer.stop_ids)
        self.said = b""  # the state of the automaton: what was said so far

    @property
    def complete(self) -> bool:
        """What was said is one of the choices; a stop token may come."""
        raise NotImplementedError

    def allowed(self) -> Tensor:
        """Which tokens may come next: bool [V], V = len(self.tokens).

        A token may come when some choice begins with what was said and the token's bytes, however the choice is cut
        into tokens; a stop token when the answer is complete. A token without bytes that stops nothing may not come.
        """
        raise NotImplementedError

    def advance(self, token_id: int) -> None:
        """Say a token. Raises danlu.core.errors.DataError for one that may not come, and then nothing has changed."""
        raise NotImplementedError
