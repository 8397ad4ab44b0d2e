"""Render a chat in ChatML: token ids, and the mask of what the assistant has to say. Write `render`.

The layout, for each message:

    <|im_start|>ROLE\\nCONTENT<|im_end|>\\n

With `add_generation_prompt`, `<|im_start|>assistant\\n` follows at the end: there the model takes over.
"""

from collections.abc import Mapping, Sequence

from danlu.tokenizer import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"


def render(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False
) -> tuple[list[int], list[int]]:
    """ids and mask, of equal length: mask[i] is 1 where the assistant has to produce ids[i].

    That is the content of its messages and the <|im_end|> that closes them, nothing else: not the question, not
    the line that says who speaks. Special tokens come from the layout only: whoever types <|im_end|> gets these
    letters.

    `tokenizer.encode(text)` reads any text as letters and never gives a special token;
    `tokenizer.backend.token_to_id(START)` is the id of one.
    """
    raise NotImplementedError
