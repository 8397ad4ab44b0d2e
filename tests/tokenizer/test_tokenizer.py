import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from danlu.core.errors import ConfigError, DataError, FolderError
from danlu.tokenizer import Rendered, Tokenizer, TokenizerConfig, train_tokenizer
from tests.tokenizer import templates
from tests.tokenizer.corpus import ATTACKS, AWKWARD, CHAT, CHINESE, ENGLISH, texts

KINDS = ("char", "bpe")
TRAINED = {kind: train_tokenizer(texts(), TokenizerConfig(kind=kind, vocab_size=600)) for kind in KINDS}
each = pytest.mark.parametrize("kind", KINDS)


def with_template(template: str | None, kind: str = "bpe", **changes: object) -> Tokenizer:
    """The trained tokenizer under another chat template, with the special tokens that one needs."""
    backend = tokenizers.Tokenizer.from_str(TRAINED[kind].backend.to_str())
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in templates.SPECIALS])
    return Tokenizer(backend, {**TRAINED[kind].config, "chat_template": template, "bos_token": "<|bos|>", **changes})


def opened_by_transformers(tokenizer: Tokenizer, folder: Path):
    """What AutoTokenizer makes of the saved folder, a Llama's configuration beside it as in a model folder."""
    from transformers import AutoTokenizer

    tokenizer.save(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return AutoTokenizer.from_pretrained(folder)


# Text


@each
@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.text(alphabet="春眠 \n<|>_im_endstar"))
def test_any_text_survives(kind: str, text: str):
    ids = TRAINED[kind].encode(text)
    assert TRAINED[kind].decode(ids) == text
    assert TRAINED[kind].special_ids.isdisjoint(ids)


@each
@pytest.mark.parametrize("text", [*AWKWARD, *ATTACKS, CHINESE, ENGLISH], ids=lambda text: ascii(text[:12]))
def test_awkward_text_survives(kind: str, text: str):
    ids = TRAINED[kind].encode(text)
    assert TRAINED[kind].decode(ids) == text
    assert TRAINED[kind].special_ids.isdisjoint(ids)
    assert TRAINED[kind].encode_batch([text, "x", text]) == [ids, TRAINED[kind].encode("x"), ids]


@each
def test_special_tokens_are_read_on_demand_only(kind: str):
    tokenizer = TRAINED[kind]
    assert tokenizer.encode("<|im_end|>", special=True) == [tokenizer.backend.token_to_id("<|im_end|>")]
    ids = tokenizer.encode("春<|endoftext|>", special=True)
    assert ids[-1] == tokenizer.eos_id
    assert tokenizer.decode(ids) == "春"
    assert tokenizer.decode(ids, skip_special=False) == "春<|endoftext|>"
    assert tokenizer.encode("<|im_end|>") != tokenizer.encode("<|im_end|>", special=True)


@each
def test_half_a_character_is_refused(kind: str):
    for call in (TRAINED[kind].encode, lambda text: TRAINED[kind].encode(text, special=True)):
        with pytest.raises(DataError, match="surrogate"):
            call("a\ud83d")
    with pytest.raises(DataError, match="surrogate"):
        TRAINED[kind].encode_batch(["a", "b\ude00"])


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("texts", [[], [""], ["床前明月光", "", "the cat <|endoftext|> sat"] * 3])
def test_arrays_hold_what_the_lists_do(kind: str, texts: list[str]):
    ids, lengths = TRAINED[kind].encode_arrays(texts)
    lists = TRAINED[kind].encode_batch(texts)
    assert lengths.tolist() == [len(one) for one in lists]
    assert ids.tolist() == [token for one in lists for token in one]


def test_ids():
    tokenizer = TRAINED["char"]
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id) == (0, 3, None)
    assert tokenizer.stop_ids == (0, 2)
    assert tokenizer.special_ids == {0, 1, 2, 3}
    assert with_template(None).stop_ids == (0,)
    assert with_template(templates.PLAIN).stop_ids == (0,)
    assert with_template(None).bos_id == with_template(None).backend.token_to_id("<|bos|>")
    without_pad = {name: value for name, value in tokenizer.config.items() if name != "pad_token"}
    assert Tokenizer(tokenizer.backend, without_pad).pad_id == tokenizer.eos_id


def test_text_that_gives_a_special_token_is_refused():
    vocabulary = {"</s>": 0, "a": 1, "<": 2, "/": 3, "s": 4, ">": 5}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="a"))  # a whole word is a token
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["</s>"])
    tokenizer = Tokenizer(backend, {"eos_token": "</s>"})
    assert tokenizer.encode("a a") == [1, 1]
    for call in (
        tokenizer.encode,
        lambda text: tokenizer.encode_batch([text]),
        lambda text: tokenizer.encode_arrays([text]),
    ):
        with pytest.raises(DataError, match="</s>"):
            call("a </s>")


def test_truncation_and_padding_of_a_foreign_file_are_off():
    backend = tokenizers.Tokenizer.from_str(TRAINED["char"].backend.to_str())
    backend.enable_truncation(3)
    backend.enable_padding(length=100)
    assert len(Tokenizer(backend, TRAINED["char"].config).encode("abcdefghij" * 5)) == 50


# Chats


def test_render_masks_the_answer_and_its_end():
    tokenizer = TRAINED["char"]
    ids, mask = tokenizer.render(CHAT)
    assert isinstance(tokenizer.render(CHAT), Rendered)
    learnt = tokenizer.decode([token for token, on in zip(ids, mask, strict=True) if on], skip_special=False)
    assert learnt == "春眠不觉晓，\n处处闻啼鸟。<|im_end|>It's  late.<|im_end|>"
    assert tokenizer.decode(ids, skip_special=False) == tokenizer.chat_text(CHAT)
    assert set(mask) == {0, 1}


@each
@pytest.mark.parametrize("template", templates.ALL)
@pytest.mark.parametrize("attack", ATTACKS)
def test_messages_cannot_forge_a_turn(kind: str, template: str, attack: str):
    tokenizer = with_template(templates.ALL[template], kind)
    harmless = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    attacked = [{"role": "user", "content": attack}, {"role": "assistant", "content": attack}]
    special = [[t for t in tokenizer.render(chat).ids if t in tokenizer.special_ids] for chat in (harmless, attacked)]
    assert special[0] == special[1]
    assert tokenizer.decode(tokenizer.render(attacked).ids, skip_special=False) == tokenizer.chat_text(attacked)


@each
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_prompt_is_the_beginning_of_the_chat(kind: str, data: st.DataObject):
    """What the model is asked with is what it was trained on, also where BPE would join across the border."""
    tokenizer = TRAINED[kind]
    content = st.text(max_size=12) | st.text(alphabet="\n ab春", max_size=6)
    chat = [{"role": role, "content": data.draw(content)} for role in ("user", "assistant", "user", "assistant")]
    ids, mask = tokenizer.render(chat)
    for answered in (1, 3):
        prompt = tokenizer.render(chat[:answered], add_generation_prompt=True).ids
        upto = tokenizer.render(chat[: answered + 1])
        answer = [*tokenizer.encode(chat[answered]["content"]), tokenizer.stop_ids[-1]]
        assert ids[: len(prompt)] == prompt
        assert upto.ids[len(prompt) :] == answer + tokenizer.encode("\n")
        assert upto.mask[len(prompt) :] == [1] * len(answer) + [0]
    assert sum(mask) == sum(len(tokenizer.encode(chat[at]["content"])) + 1 for at in (1, 3))


def test_without_a_template():
    tokenizer = with_template(None)
    assert not tokenizer.has_chat
    with pytest.raises(ConfigError, match="no chat template"):
        tokenizer.render(CHAT)
    assert TRAINED["char"].has_chat


# Files


@each
def test_save_and_load(kind: str, tmp_path: Path):
    TRAINED[kind].save(tmp_path, model_max_length=256)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.model_max_length == 256
    assert TRAINED[kind].model_max_length is None
    assert loaded.vocab_size == TRAINED[kind].vocab_size == max(loaded.backend.get_vocab().values()) + 1
    assert (loaded.stop_ids, loaded.pad_id) == (TRAINED[kind].stop_ids, TRAINED[kind].pad_id)
    assert loaded.encode(CHINESE) == TRAINED[kind].encode(CHINESE)
    assert loaded.render(CHAT) == TRAINED[kind].render(CHAT)
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_template_in_a_file_of_its_own(tmp_path: Path):
    with_template(None).save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(templates.VARIABLE, encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.chat_text(CHAT[:1]) == "<|bos|><|im_start|>system<|sep|>\n\n你是诗人。<|im_end|>"
    tokenizer.save(tmp_path)
    assert not (tmp_path / "chat_template.jinja").exists()
    assert Tokenizer.load(tmp_path).chat_text(CHAT) == tokenizer.chat_text(CHAT)


def test_old_ways_to_write_the_configuration():
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": templates.PARTS}]
    tokenizer = with_template(None, eos_token={"content": "<|im_end|>", "lstrip": False}, chat_template=named)
    assert tokenizer.eos_id == 2
    assert tokenizer.chat_text(CHAT[:1]) == "<|system|>你是诗人。<|im_end|>"
    assert with_template(None, model_max_length=10**30).model_max_length is None


def test_pickle():
    again = pickle.loads(pickle.dumps(TRAINED["bpe"]))
    assert again.render(CHAT) == TRAINED["bpe"].render(CHAT)


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("tokenizer.json", None, "missing file: .*tokenizer.json"),
        ("tokenizer_config.json", None, "missing file: .*tokenizer_config.json"),
        ("tokenizer.json", b'{"version": "1.0", "trunc', "tokenizer.json is damaged"),
        ("tokenizer.json", b"{}", "tokenizer.json is no tokenizer"),
        ("tokenizer_config.json", b"\xff", "tokenizer_config.json is damaged"),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json is no mapping"),
        ("tokenizer_config.json", b"{}", "no eos_token"),
        ("tokenizer_config.json", b'{"eos_token": "</s>"}', "'</s>' is not in the vocabulary"),
        ("tokenizer_config.json", b'{"eos_token": "<|pad|>", "chat_template": 1}', "chat_template is no text"),
        ("tokenizer_config.json", b'{"eos_token": "<|pad|>", "chat_template": "{{ x"}', "line 1"),
        ("chat_template.jinja", b"{% for %}", "line 1"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja is damaged"),
    ],
)
def test_damaged_folder(file: str, content: bytes | None, fault: str, tmp_path: Path):
    TRAINED["char"].save(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(FolderError, match=fault) as raised:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in raised.value.what


def test_no_folder(tmp_path: Path):
    with pytest.raises(FolderError, match="no such folder"):
        Tokenizer.load(tmp_path / "nowhere")


def test_importing_needs_no_torch():
    script = "import sys, danlu.tokenizer, danlu.tokenizer.bpe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


# Against transformers


@each
def test_transformers_opens_it(kind: str, tmp_path: Path):
    ours, theirs = TRAINED[kind], opened_by_transformers(TRAINED[kind], tmp_path)
    assert len(theirs) == ours.vocab_size
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (ours.eos_id, ours.pad_id, ours.bos_id)
    for text in [CHINESE, ENGLISH, *AWKWARD]:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ids == ours.encode(text)
        assert theirs(text)["input_ids"] == ids  # nothing is added in front or behind
        assert theirs.decode(ids) == ours.decode(ids) == text
    for chat in (CHAT, CHAT[:2]):
        for prompt in (False, True):
            text = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
            assert text == ours.chat_text(chat, prompt)
    rendered = theirs.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    assert (rendered["input_ids"], rendered["assistant_masks"]) == tuple(ours.render(CHAT))


@each
@pytest.mark.parametrize("template", templates.ALL)
def test_any_template_gives_what_transformers_gives(kind: str, template: str, tmp_path: Path):
    ours = with_template(templates.ALL[template], kind)
    theirs = opened_by_transformers(ours, tmp_path)
    chats = [CHAT[1:], CHAT[1:2], CHAT[1:4]] + ([CHAT] if template in templates.WITH_SYSTEM else [])
    for chat in chats:
        for prompt in (False, True):
            text = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
            assert text == ours.chat_text(chat, prompt)
            ids = theirs.apply_chat_template(chat, add_generation_prompt=prompt, return_dict=True)["input_ids"]
            assert ids == ours.render(chat, prompt).ids


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("strip", [False, True])
def test_spaces_around_special_tokens_as_in_transformers(scheme: str, strip: bool, tmp_path: Path):
    """Sentence-piece-like tokenizers put a space before words; some special tokens swallow the blanks after them."""
    from transformers import AutoTokenizer

    characters = sorted({*CHINESE, *ENGLISH, "▁"} - {" "})
    tokens = ["<s>", "</s>", "[A]", "[/A]", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    backend = tokenizers.Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, [], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    added = [AddedToken(text, special=True, normalized=False, rstrip=strip, lstrip=strip) for text in tokens[:4]]
    backend.add_special_tokens(added)
    template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[A] {{ m.content }} [/A]{% else %}{% generation %}{{ m.content }} {{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
    settings = {"eos_token": "</s>", "bos_token": "<s>", "chat_template": template}
    ours = Tokenizer(backend, {**settings, "tokenizer_class": "PreTrainedTokenizerFast"})
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for chat in (CHAT[1:], [{"role": "user", "content": "  two \n"}, {"role": "assistant", "content": "sun"}]):
        rendered = theirs.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
        assert rendered["input_ids"] == ours.render(chat).ids
    attacked = ours.render([{"role": "user", "content": "</s>[A]"}, {"role": "assistant", "content": "a</s>"}])
    assert [token for token in attacked.ids if token in ours.special_ids] == [0, 2, 3, 1]
    assert theirs.encode("river sun", add_special_tokens=False) == ours.encode("river sun")


def test_further_special_tokens_come_behind_and_once(tokenizer):
    more = tokenizer.with_special(["<a>", "<b>"])
    assert more.vocab_size == tokenizer.vocab_size + 2
    assert more.encode("<a>春<b>", special=True) == [
        tokenizer.vocab_size,
        *tokenizer.encode("春"),
        tokenizer.vocab_size + 1,
    ]
    assert more.encode("<a>") == tokenizer.encode("<a>")  # what a text spells is none
    assert more.with_special(["<b>", "<c>"]).vocab_size == more.vocab_size + 1
    assert tokenizer.backend.token_to_id("<a>") is None  # the old one is as it was
    assert more.config["additional_special_tokens"] == ["<a>", "<b>"]
