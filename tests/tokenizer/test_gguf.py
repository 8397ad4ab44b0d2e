"""Tokenizers out of GGUF metadata: ids and texts as the tokenizer that went in has them."""

import json
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from danlu.core.errors import FolderError
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.tokenizer.gguf import PRE, load_gguf_tokenizer, pre_name

TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
SPM = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abce", "ab", "bc", "abc", "▁a", "▁▁"]


def write(path: Path, model: str, tokens: list[str], types: list[int] | None = None, **more) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(77)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types or [1] * len(tokens))
    writer.add_eos_token_id(more.pop("eos", 0))
    for name, value in more.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    lines = ["the furnace is hot", "don't touch 123 coals", "春山来,夏水去", "  two  blanks\n\n"] * 6
    return train_tokenizer(lines, TokenizerConfig(kind="bpe", vocab_size=420))


def spm(path: Path, **more) -> Path:
    types = [2, 3, 3, *[6] * 256, *[1] * (len(SPM) - 259)]
    more.setdefault("unk_token_id", 0)
    scores = [0.0] * 259 + [-9.0] * 5 + [-2.0, -1.0, -3.0, -4.0, -5.0]
    return write(path, "llama", SPM, types, token_scores=scores, eos=2, **more)


def gpt2(path: Path, bpe: Tokenizer, pre: str, **more) -> Path:
    vocabulary = sorted(bpe.backend.get_vocab().items(), key=lambda pair: pair[1])
    merges = [" ".join(merge) for merge in json.loads(bpe.backend.to_str())["model"]["merges"]]
    types = [3] * 4 + [1] * (len(vocabulary) - 4)
    tokens = [token for token, _ in vocabulary]
    return write(path, "gpt2", tokens, types, token_merges=merges, tokenizer_pre=pre, **more)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_byte_level_cuts_as_it_is_named(pre: str, bpe: Tokenizer, tmp_path: Path):
    read = load_gguf_tokenizer(gpt2(tmp_path / "x.gguf", bpe, pre, chat_template=TEMPLATE))
    assert read.backend.get_vocab() == bpe.backend.get_vocab()
    assert read.special_ids == bpe.special_ids
    assert pre_name(read.backend) == pre
    assert read.model_max_length == 77
    assert read.chat_text([{"role": "user", "content": "hi"}]) == "<|im_start|>userhi<|im_end|>"
    assert read.encode("<|im_end|>") != [2]
    assert read.encode("<|im_end|>", special=True) == [2]
    cut = [piece for piece, _ in PRE[pre]().pre_tokenize_str("it's 1234, ok")]
    numbers = {
        "gpt-2": ["Ġ1234"],
        "smollm": ["1", "2", "3", "4"],
        "llama-bpe": ["123", "4"],
        "qwen2": ["1", "2", "3", "4"],
    }
    assert [piece for piece in cut if any(sign.isdigit() for sign in piece)] == numbers[pre]


def test_no_name_for_another_cut(bpe: Tokenizer):
    assert pre_name(bpe.backend) is None  # danlu's own
    other = bpe.backend.from_str(bpe.backend.to_str())
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    assert pre_name(other) is None


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back(text: str, bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory):
    base = tmp_path_factory.getbasetemp()
    for read in (_once(base / "any-gpt2.gguf", bpe), _once(base / "any-spm.gguf", None)):
        back = read.decode(read.encode(text))
        assert back == (text if read.backend.get_vocab().get("▁") is None else text.replace("▁", " "))


_READ: dict[Path, Tokenizer] = {}


def _once(path: Path, bpe: Tokenizer | None) -> Tokenizer:
    if path not in _READ:
        file = spm(path, add_space_prefix=False) if bpe is None else gpt2(path, bpe, "smollm")
        _READ[path] = load_gguf_tokenizer(file)
    return _READ[path]


def test_sentencepiece_merges_the_best_score_first(tmp_path: Path):
    """'bc' (-1) wins over 'ab' (-2); then 'a' + 'bc' is a token too."""
    read = load_gguf_tokenizer(spm(tmp_path / "x.gguf", add_space_prefix=False))
    ids = {token: number for number, token in enumerate(SPM)}
    assert read.encode("abc") == [ids["abc"]]
    assert read.encode("abbc") == [ids["ab"], ids["bc"]]
    assert read.encode("bce a") == [ids["bc"], ids["e"], ids["▁a"]]
    assert read.encode("é") == [ids["<0xC3>"], ids["<0xA9>"]]
    assert read.config["unk_token"] == "<unk>"
    prefixed = load_gguf_tokenizer(spm(tmp_path / "y.gguf"))
    assert prefixed.encode("a") == [ids["▁a"]]
    assert prefixed.decode([ids["▁a"]]) == "a"


def test_loads_through_tokenizer_and_saves_as_a_folder(bpe: Tokenizer, tmp_path: Path):
    read = Tokenizer.load(gpt2(tmp_path / "x.gguf", bpe, "smollm", chat_template=TEMPLATE))
    read.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode("the furnace 12") == read.encode("the furnace 12")
    assert again.config["chat_template"] == TEMPLATE


FAULTS = {
    "kind": {"model": "bert"},
    "pre": {"tokenizer_pre": "unheard-of"},
    "merge": {"token_merges": ["x y"]},
    "merge of nothing": {"token_merges": [""]},
    "eos": {"eos": 99},
    "twice": {"tokens": ["a", "a"]},
    "long": {"tokens": ["a" * 2000]},
    "none": {"tokens": []},
    "types": {"types": [1]},
    "template": {"chat_template": "{% for %}"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_error(fault: dict, tmp_path: Path):
    settings = {"model": "gpt2", "tokens": ["a", "b", "ab"], "token_merges": ["a b"], **fault}
    with pytest.raises(FolderError):
        load_gguf_tokenizer(write(tmp_path / "x.gguf", **settings))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smollm2_gives_llama_cpps_ids():
    from danlu.core.assets import asset_path
    from tests.llama_cpp import llama_cpp

    (path,) = asset_path("smollm2-135m-instruct").glob("*.gguf")
    tokenizer = load_gguf_tokenizer(path)
    texts = [
        "Hello, world!",
        "it's 12345  and\n\n  more\t",
        "春眠不觉晓 — naïve",
        "def f(x):\n    return x",
        " a",
        "🔥 <|im_end|>",
    ]
    with llama_cpp(path) as theirs:
        for text in texts:
            assert tokenizer.encode(text) == theirs.tokenize(text), text
            assert tokenizer.decode(tokenizer.encode(text)) == text
