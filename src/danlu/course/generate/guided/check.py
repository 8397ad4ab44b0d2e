"""Checks for guided generation; the references are the five-token vocabulary by hand and every way to cut a text."""

from types import SimpleNamespace

import torch

from danlu.core.errors import DataError
from danlu.generate.guided import Guided
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

SOLUTION = {"Guide": "danlu.generate.guided:Guide"}

COLOURS = ("red", "green", "grey")
_KNOWN: list[Tokenizer] = []


def _tokenizer() -> Tokenizer:
    """Bytes, and a few tokens of several letters."""
    if not _KNOWN:
        texts = ["red green grey yes yesterday 春风 "] * 30
        _KNOWN.append(train_tokenizer(texts, TokenizerConfig(vocab_size=300, chat_template="none")))
    return _KNOWN[0]


def _guide(exercise: SimpleNamespace, *choices: str):
    return exercise.Guide(Guided(choice=choices), _tokenizer())


def _spelt(mask: torch.Tensor) -> set[str]:
    """The texts of the tokens that are allowed."""
    tokenizer = _tokenizer()
    return {tokenizer.decode([token], skip_special=False) for token in mask.nonzero().flatten().tolist()}


def _byte(letter: str) -> int:
    """The token that is this letter alone."""
    tokenizer = _tokenizer()
    return next(number for number in range(tokenizer.vocab_size) if tokenizer.decode([number]) == letter)


def check_the_first_mask(exercise: SimpleNamespace) -> None:
    """Before anything is said: every token with which red, green or grey begins, short or long, and no other.
    还没写任何内容时：凡是 red、green、grey 的开头，长短词元都可以，别的都不行。
    """
    mask = _guide(exercise, *COLOURS).allowed()
    assert mask.dtype == torch.bool, f"dtype {mask.dtype}"
    assert mask.shape == (_tokenizer().vocab_size,), f"shape {tuple(mask.shape)}"
    told = _spelt(mask)
    assert {"r", "g"} <= told, f"allowed: {told}"
    assert all(any(colour.startswith(text) for colour in COLOURS) for text in told), f"allowed: {told}"


def check_the_state_moves(exercise: SimpleNamespace) -> None:
    """After 'gre' comes 'e' or 'y' (or what begins so), and after 'green' nothing but a stop token.
    写了 “gre” 之后只能接 “e” 或 “y” 开头的；写完 “green” 之后只能结束。
    """
    guide = _guide(exercise, *COLOURS)
    for letter in "gre":
        guide.advance(_byte(letter))
    assert {text[0] for text in _spelt(guide.allowed())} == {"e", "y"}, f"allowed: {_spelt(guide.allowed())}"
    for letter in "en":
        assert not guide.complete
        guide.advance(_byte(letter))
    assert guide.complete
    assert set(guide.allowed().nonzero().flatten().tolist()) == set(_tokenizer().stop_ids)


def check_every_way_to_cut_is_allowed(exercise: SimpleNamespace) -> None:
    """The model may spell 'green' by any of its tokens: as it likes, not only as the tokenizer would.
    模型可以用任何切法写出 “green”，不限于分词器自己的切法。
    """
    tokenizer = _tokenizer()
    spelt = {tokenizer.decode([number]): number for number in range(tokenizer.vocab_size)}
    cuts = [["g", "r", "e", "e", "n"]]
    cuts += [["green"[:at], *"green"[at:]] for at in range(2, 6) if "green"[:at] in spelt]
    assert len(cuts) > 1
    for cut in cuts:
        guide = _guide(exercise, *COLOURS)
        for piece in cut:
            assert guide.allowed()[spelt[piece]], f"{piece!r} of {cut}"
            guide.advance(spelt[piece])
        assert guide.complete


def check_a_choice_that_begins_another(exercise: SimpleNamespace) -> None:
    """After 'yes' both may come: the stop token, and the beginning of 'terday'.
    写完 “yes” 之后两者皆可：结束，或接着写 “terday”。
    """
    guide = _guide(exercise, "yes", "yesterday")
    for letter in "yes":
        guide.advance(_byte(letter))
    mask = guide.allowed()
    assert guide.complete
    assert mask[_tokenizer().eos_id], "no stop token"
    assert mask[_byte("t")], "no 't'"
    guide.advance(_byte("t"))
    assert not guide.complete
    assert not guide.allowed()[_tokenizer().eos_id]


def check_characters_of_several_bytes(exercise: SimpleNamespace) -> None:
    """春 is three bytes: after the first of them only its second may come. Compare bytes, not characters.
    “春”有三个字节：写了第一个之后只能接第二个。要按字节比较，而不是按字符。
    """
    guide = _guide(exercise, "春")
    for written in range(3):
        assert not guide.complete, f"complete after {written} of 3 bytes"
        allowed = guide.allowed().nonzero().flatten().tolist()
        assert allowed, f"nothing is allowed after {written} bytes"
        guide.advance(allowed[0])  # single bytes have the lowest ids
    assert guide.complete


def check_a_wrong_token_is_refused(exercise: SimpleNamespace) -> None:
    """DataError, and the guide stands where it stood; a stop token before the end is wrong too.
    应抛出 DataError，状态保持不变；没写完就结束也不允许。
    """
    guide = _guide(exercise, *COLOURS)
    guide.advance(_byte("g"))
    before = guide.allowed()
    for token in (_byte("x"), _tokenizer().eos_id):
        try:
            guide.advance(token)
        except DataError:
            pass
        else:
            raise AssertionError(f"token {token} was taken")
    assert torch.equal(guide.allowed(), before)


def check_noise_becomes_an_answer(exercise: SimpleNamespace) -> None:
    """Random numbers for logits, masked: the answer is a choice, always.
    logits 全是随机数，加上掩码之后，回答也一定是几个文本之一。
    """
    tokenizer = _tokenizer()
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        guide, ids = _guide(exercise, *COLOURS), []
        for _ in range(8):
            logits = torch.randn(tokenizer.vocab_size, generator=generator)
            token = int(logits.masked_fill(~guide.allowed(), float("-inf")).argmax())
            if token in tokenizer.stop_ids:
                break
            guide.advance(token)
            ids.append(token)
        assert tokenizer.decode(ids) in COLOURS, tokenizer.decode(ids)
