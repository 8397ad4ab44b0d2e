"""`danlu export gguf`: the file holds the model, and llama.cpp reads the same ids and says the same."""

import json
import random
from pathlib import Path

import pytest
import torch

from danlu.core.errors import ConfigError, FolderError
from danlu.core.folder import Lineage
from danlu.core.gguf import GGUF
from danlu.export.gguf import Config, run, tokenizer_entries
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.conftest import tiny_decoder
from tests.llama_cpp import llama_cpp

GREEDY = SamplingParams(temperature=0, max_tokens=24)
TEXTS = [
    "春山来，夏水去。",
    " 春  山 ",
    "a b\tc\n\nd\r\n",
    "龘𠮷é🔥 <|im_end|> <0x41> ",
    "",
]
WORDS = [
    "The furnace is hot; don't touch 12345 coals!",
    "  two  blanks, (brackets) and\n\n    lines...",
    "春山来，夏水去。Mixed 中文 text: \"quoted.\" 'single'",
    "naïve façade — 3.14 ≈ π, x+=1; \t tab",
]


def logits(model, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model({"input_ids": torch.tensor([ids])})[0].float()


@pytest.mark.parametrize(("kind", "gap"), [("f32", 0.0), ("f16", 1e-2), ("q8_0", 5e-2), ("q4_0", 1.0)])
def test_there_and_back(kind: str, gap: float, folder: Path, model, tmp_path: Path):
    out = run(Config(folder=folder, out=tmp_path / "x.gguf", type=kind))
    back = auto.load(out)
    assert back.hf_config() == model.hf_config()
    ids = list(range(4, 40))
    assert (logits(back, ids) - logits(model, ids)).abs().max() <= gap
    kinds = {info.kind.name for info in GGUF(out).tensors.values() if len(info.shape) > 1}
    # the inner width of the tiny model's MLP is a multiple of 32, so that nothing is left in float16
    assert kinds == {"f32": {"F32"}, "f16": {"F16"}, "q8_0": {"Q8_0"}, "q4_0": {"Q4_0", "Q8_0"}}[kind]


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_other_families_there_and_back(family: str, tokenizer: Tokenizer, tmp_path: Path):
    """Biases of qwen2, the norms of q and k of qwen3; neither has its rows turned."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"intermediate_size": 64, "head_dim": 8, "max_position_embeddings": 64, "tie_word_embeddings": True}
    model = auto.build({"model_type": family, "vocab_size": tokenizer.vocab_size, **shape})
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    auto.save(model.eval(), tmp_path / "m", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    out = run(Config(folder=tmp_path / "m", out=tmp_path / "x.gguf", type="f32"))
    back = auto.load(out)
    ids = list(range(4, 40))
    assert torch.equal(logits(back, ids), logits(model, ids))


def test_an_untied_output_and_odd_rows(tokenizer: Tokenizer, tmp_path: Path):
    from danlu.models.decoder import Decoder, DecoderConfig

    shape = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 64}
    config = DecoderConfig(vocab_size=tokenizer.vocab_size, tie_word_embeddings=False, **shape)
    model = Decoder(config)
    model.initialise(torch.Generator().manual_seed(3))
    auto.save(model.eval(), tmp_path / "m", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    out = run(Config(folder=tmp_path / "m", out=tmp_path / "x.gguf", type="q8_0"))
    kinds = {name: info.kind.name for name, info in GGUF(out).tensors.items()}
    assert kinds["output.weight"] == "F16"  # rows of 48
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 64
    ids = list(range(4, 30))
    assert (logits(auto.load(out), ids) - logits(model, ids)).abs().max() < 5e-2


def test_a_bpe_tokenizer_comes_back(texts: list[str]):
    tokenizer = train_tokenizer([*texts, *WORDS * 5], TokenizerConfig(kind="bpe", vocab_size=600))
    entries = tokenizer_entries(tokenizer, tokenizer.vocab_size + 3)
    assert entries["tokenizer.ggml.pre"] == "qwen2"
    assert entries["tokenizer.ggml.tokens"][-3:] == [f"[PAD{tokenizer.vocab_size + n}]" for n in range(3)]
    assert entries["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 3]
    assert entries["tokenizer.ggml.eot_token_id"] == 2
    assert "generation %}" not in entries["tokenizer.chat_template"]


def test_the_template_says_the_same_without_its_marks(folder: Path, tmp_path: Path):
    chat = [
        {"role": "user", "content": "春"},
        {"role": "assistant", "content": "山"},
        {"role": "user", "content": "水"},
    ]
    before = Tokenizer.load(folder)
    after = Tokenizer.load(run(Config(folder=folder, out=tmp_path / "x.gguf")))
    assert after.render(chat) == before.render(chat)
    assert after.render(chat, add_generation_prompt=True) == before.render(chat, add_generation_prompt=True)
    assert after.stop_ids == before.stop_ids
    with llama_cpp(tmp_path / "x.gguf", context=64) as theirs:
        assert theirs.render(chat) == before.chat_text(chat, add_generation_prompt=True)


def test_refuses_what_llama_cpp_cannot_run(tokenizer: Tokenizer, folder: Path, tmp_path: Path):
    from tokenizers import normalizers, pre_tokenizers

    for change in ("normalizer", "pre_tokenizer"):
        other = Tokenizer(tokenizer.backend.from_str(tokenizer.backend.to_str()), tokenizer.config)
        part = normalizers.Lowercase() if change == "normalizer" else pre_tokenizers.Whitespace()
        setattr(other.backend, change, part)
        with pytest.raises(ConfigError, match=r"llama\.cpp"):
            tokenizer_entries(other, tokenizer.vocab_size)
    (folder / "danlu.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    for changed in ({"model_type": "rnn"}, {"quantization_config": {}}):
        (folder / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(FolderError):
            run(Config(folder=folder, out=tmp_path / "x.gguf"))
    assert not (tmp_path / "x.gguf").exists()


def test_refuses_weights_beyond_float16(model, tokenizer: Tokenizer, tmp_path: Path):
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    auto.save(model, tmp_path / "m", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    with pytest.raises(FolderError, match="up_proj"):
        run(Config(folder=tmp_path / "m", out=tmp_path / "x.gguf"))
    assert not (tmp_path / "x.gguf").exists()


def test_llama_cpp_reads_and_says_the_same(folder: Path, tmp_path: Path):
    """The tiny model in float32: ids of any text, and greedy ids."""
    out = run(Config(folder=folder, out=tmp_path / "x.gguf", type="f32"))
    engine, draw = Engine.open(folder), random.Random(0)
    letters = "春夏秋冬山水，。 \n\tab龘é<|>0x"
    texts = TEXTS + ["".join(draw.choices(letters, k=20)) for _ in range(20)]
    with llama_cpp(out, context=64) as theirs:
        for text in texts:
            assert theirs.tokenize(text) == engine.encode(text) == Tokenizer.load(out).encode(text), text
        for first in ("春", "山水", "a"):
            ids = engine.encode(first)
            (own,) = engine.generate([ids], GREEDY)
            said, _ = theirs.greedy(ids, 24)
            assert [token for token in said if token not in engine.tokenizer.stop_ids] == own.ids


def test_llama_cpp_reads_a_bpe_vocabulary_alike(texts: list[str], tmp_path: Path):
    tokenizer = train_tokenizer([*texts, *WORDS * 5], TokenizerConfig(kind="bpe", vocab_size=600))
    model = tiny_decoder(tokenizer.vocab_size)
    auto.save(model, tmp_path / "m", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    out = run(Config(folder=tmp_path / "m", out=tmp_path / "x.gguf"))
    back = Tokenizer.load(out)
    with llama_cpp(out, context=64) as theirs:
        for text in [*TEXTS, *WORDS]:
            assert theirs.tokenize(text) == tokenizer.encode(text) == back.encode(text), text
            assert back.decode(back.encode(text)) == text


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_every_family_says_the_same_in_llama_cpp(family: str, tied: bool, tokenizer: Tokenizer, tmp_path: Path):
    """Random weights, biases and norms of q and k included: greedy ids, but for ties of a random model."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"intermediate_size": 64, "head_dim": 8, "max_position_embeddings": 64, "tie_word_embeddings": tied}
    bias = {"attention_bias": True} if family == "llama" else {}
    model = auto.build({"model_type": family, "vocab_size": tokenizer.vocab_size, **shape, **bias})
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    auto.save(model.eval(), tmp_path / "m", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    engine = Engine.open(tmp_path / "m")
    with llama_cpp(run(Config(folder=tmp_path / "m", out=tmp_path / "x.gguf", type="f32")), context=64) as theirs:
        for first in ("春", "山水", "月下花"):
            ids = engine.encode(first)
            (own,) = engine.generate([ids], GREEDY)
            said = [token for token in theirs.greedy(ids, 24)[0] if token not in engine.tokenizer.stop_ids]
            same = next((n for n, (a, b) in enumerate(zip(own.ids, said, strict=False)) if a != b), None)
            if same is None:
                assert len(own.ids) == len(said)
                continue
            row = logits(engine.model, ids + own.ids[:same])[-1]
            assert 0 <= float(row[own.ids[same]] - row[said[same]]) < 1e-3


POEMS = (
    "春山来去，夏水明落。", "秋月生暗，冬风来明。", "晨花落去，暮云生来。", "春风明暗，秋水生落。",
    "夏云去来，冬山暗生。", "晨月来落，暮花去明。", "冬水落暗，春云明生。", "暮山生去，晨风暗来。",
)  # fmt: skip


@pytest.fixture(scope="module")
def poet(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows its eight poems by heart: it continues each from its first two characters."""
    model = tiny_decoder(tokenizer.vocab_size, hidden_size=64, intermediate_size=128).train()
    rows = torch.tensor([[*tokenizer.encode(poem), tokenizer.eos_id] for poem in POEMS])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(150):
        scores = model({"input_ids": rows[:, :-1]})
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("poet") / "model"
    auto.save(model.eval(), path, lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    return path


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_a_poet_speaks_the_same_in_llama_cpp(kind: str, poet: Path, tmp_path: Path):
    """Greedy verse of the folder in danlu, of the file in danlu, and of the file in llama.cpp."""
    out = run(Config(folder=poet, out=tmp_path / "poet.gguf", type=kind))
    folder, file = Engine.open(poet), Engine.open(out)
    with llama_cpp(out, context=64) as theirs:
        for poem in POEMS:
            ids = folder.encode(poem[:2])
            (own,), (read,) = folder.generate([ids], GREEDY), file.generate([ids], GREEDY)
            said, text = theirs.greedy(ids, 24)
            assert own.text == read.text == text == poem[2:]
            assert [*own.ids, folder.tokenizer.eos_id] == said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_the_quickstarts_poet_speaks_the_same_in_llama_cpp(kind: str, tmp_path: Path):
    """Greedy verse for ten titles, of the same file in both; two words nearly as likely may part them."""
    poet = Path(__file__).parents[2] / "runs/quickstart/sft/model"
    if not poet.is_dir():
        pytest.skip("no poet here: danlu quickstart makes one")
    out = run(Config(folder=poet, out=tmp_path / "poet.gguf", type=kind))
    engine = Engine.open(out)
    titles = ("江南春", "秋夜", "送友人", "登高", "月下", "山行", "春望", "早梅", "湖上", "雪")
    prompts = [engine.encode([{"role": "user", "content": f"写一首七言绝句，题为《{title}》。"}]) for title in titles]
    with llama_cpp(out) as theirs:
        for title, ids in zip(titles, prompts, strict=True):
            (own,) = engine.generate([ids], SamplingParams(temperature=0, max_tokens=64))
            said = [token for token in theirs.greedy(ids, 64)[0] if token not in engine.tokenizer.stop_ids]
            same = next((n for n, (a, b) in enumerate(zip(own.ids, said, strict=False)) if a != b), None)
            if same is None:
                assert len(own.ids) == len(said), title
                continue
            row = logits(engine.model, ids + own.ids[:same])[-1]
            gap = float(row[own.ids[same]] - row[said[same]])
            print(f"{title} parts at token {same}, where the logits differ by {gap:.3f}")
            assert 0 <= gap < {"f16": 0.01, "q8_0": 0.1, "q4_0": 0.3}[kind], title
