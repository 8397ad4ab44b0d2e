"""Sentence vectors against sentence-transformers: a tiny random model it saved, and the real all-MiniLM-L6-v2."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from danlu.core.errors import AssetError, ConfigError, DataError, FolderError
from danlu.generate import embed
from danlu.generate.embed import Embedder, EmbeddingPlan, read_plan
from danlu.ops.pooling import POOLINGS

TEXTS = [
    "a cat sat",
    "the cat sat on the mat and the dog sat on the cat",
    "A DOG!",
    "",
    "dog " * 60,
    "the mat, the mat",
]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *("a", "the", "cat", "dog", "sat", "on", "mat", "and", "!", ","),
    *"abcdefghijklmnopqrstuvwxyz",
]


def save_backbone(folder: Path) -> Path:
    """A tiny BERT and its tokenizer, as transformers saves them."""
    backend = tokenizers.Tokenizer(
        WordPiece({word: number for number, word in enumerate(dict.fromkeys(WORDS))}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=48, **names).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=backend.get_vocab_size(), max_position_embeddings=48, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def theirs(backbone):
    """(poolings, normalised?, longest) -> what sentence-transformers makes of it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    def make(poolings, normalise, longest):
        transformer = Transformer(str(backbone), max_seq_length=longest)
        steps = [transformer, Pooling(16, pooling_mode=poolings), *([Normalize()] if normalise else [])]
        return SentenceTransformer(modules=steps, device="cpu")

    return make


@pytest.mark.parametrize(
    ("poolings", "normalise", "longest"),
    [
        *(((name,), False, None) for name in POOLINGS),
        (("mean",), True, 16),
        (("cls", "max", "mean"), True, None),
    ],
)
def test_vectors_are_those_of_sentence_transformers(theirs, tmp_path, poolings, normalise, longest):
    model = theirs(poolings, normalise, longest)
    model.save(str(tmp_path / "m"))
    mine = Embedder.open(tmp_path / "m")
    assert (mine.plan.poolings, mine.plan.normalise) == (poolings, normalise)
    assert mine.longest == (longest or 48)
    expected = model.encode(TEXTS, convert_to_tensor=True, batch_size=2).cpu()
    torch.testing.assert_close(mine.embed(TEXTS, batch_size=4), expected, atol=1e-5, rtol=1e-5)


def test_prompts_of_the_folder(theirs, tmp_path):
    model = theirs(("mean",), False, None)
    model.prompts, model.default_prompt_name = {"query": "the dog sat ", "other": "cat "}, "query"
    model.save(str(tmp_path / "m"))
    expected = model.encode(TEXTS, convert_to_tensor=True).cpu()
    torch.testing.assert_close(Embedder.open(tmp_path / "m").embed(TEXTS), expected, atol=1e-5, rtol=1e-5)


def test_without_a_plan_it_is_the_mean(backbone, theirs):
    assert read_plan(backbone) == EmbeddingPlan()
    expected = theirs(("mean",), False, None).encode(TEXTS, convert_to_tensor=True).cpu()
    torch.testing.assert_close(Embedder.open(backbone).embed(TEXTS), expected, atol=1e-5, rtol=1e-5)
    other = Embedder.open(backbone, pooling="cls").embed(TEXTS)
    assert (other - expected).abs().max() > 0.1


def test_batches_do_not_change_a_vector(backbone):
    mine = Embedder.open(backbone)
    alone = torch.cat([mine.embed([text]) for text in TEXTS])
    for batch_size in (1, 3, 100):
        torch.testing.assert_close(mine.embed(TEXTS, batch_size), alone, atol=1e-5, rtol=1e-5)


def test_what_is_too_long_keeps_its_frame(backbone):
    mine = Embedder.open(backbone)
    short, long = mine.tokens(["a cat", "dog " * 60])
    assert len(long) == 48
    assert (long[0], long[-1]) == (short[0], short[-1]) == (2, 3)


def test_special_tokens_spelt_in_a_text_are_letters(backbone):
    mine = Embedder.open(backbone)
    (ids,) = mine.tokens(["a [SEP] cat"])
    assert ids.count(3) == 1


def test_a_decoder_gives_vectors_too(folder):
    mine = Embedder.open(folder, pooling="lasttoken")
    vectors = mine.embed(["春山来", "秋水去生"])
    (ids, _) = mine.tokens(["春山来", "秋水去生"])
    with torch.no_grad():
        expected = mine.model.hidden({"input_ids": torch.tensor([ids])})[0, -1]
    torch.testing.assert_close(vectors[0], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(DataError, match="no token"):
        mine.embed([""])


@pytest.mark.parametrize(
    ("modules", "pooling", "named"),
    [
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}], {}, "Dense"),
        ([{"type": "x.Pooling", "path": "1_Pooling"}, {"type": "x.Transformer", "path": ""}], {}, "Transformer"),
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.Normalize", "path": "n"}], {}, "Normalize"),
        ({"type": "x.Transformer"}, {}, "modules.json"),
        (None, {"pooling_mode": "median"}, "median"),
        (None, {"pooling_mode": [["mean"]]}, "mean"),
        (None, {"pooling_mode": []}, "pooling_mode"),
        (None, {"pooling_mode_mean_tokens": True, "include_prompt": False}, "include_prompt"),
        (None, [], "config.json"),
    ],
)
def test_a_plan_that_is_not_implemented_is_refused_by_name(tmp_path, modules, pooling, named):
    plain = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules if modules is not None else plain))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(FolderError, match=named):
        read_plan(tmp_path)


def test_older_pooling_settings_and_lower_case(tmp_path):
    plain = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(plain))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}'
    )
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 9, "do_lower_case": true}')
    assert read_plan(tmp_path) == EmbeddingPlan(("cls", "max"), longest=9, lower=True)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": -1}')
    with pytest.raises(FolderError, match="max_seq_length"):
        read_plan(tmp_path)


def test_the_verb_prints_cosines_and_writes_vectors(backbone, tmp_path, capsys):
    file, lines = tmp_path / "vectors.json", tmp_path / "more.txt"
    lines.write_text("a cat sat\n\nthe [bold]dog[/bold]\n")
    embed.run(embed.Config(model=backbone, text=["a cat sat"], lines=lines, device="cpu", json=file))
    out = capsys.readouterr().out
    assert "[bold]dog[/bold]" in out
    first = next(line for line in out.splitlines() if line.startswith("1"))
    expected = Embedder.open(backbone).embed(["a cat sat", "the [bold]dog[/bold]"])
    cosine = torch.cosine_similarity(expected[0], expected[1], dim=0).item()
    assert first.split()[-3:] == ["1.000", "1.000", f"{cosine:.3f}"]
    rows = json.loads(file.read_text())["rows"]
    assert [row["text"] for row in rows] == ["a cat sat", "a cat sat", "the [bold]dog[/bold]"]
    torch.testing.assert_close(torch.tensor(rows[2]["vector"]), expected[1], atol=1e-5, rtol=1e-5)


def test_of_many_texts_the_nearest_is_told(backbone, capsys):
    texts = [f"{letter} cat" for letter in "abcdefghijklmn"] + ["b cat"]
    embed.run(embed.Config(model=backbone, text=texts, device="cpu"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "b", "cat", "15", "1.000"] in rows
    assert ["15", "b", "cat", "2", "1.000"] in rows


def test_what_cannot_be_embedded_is_told(backbone, tmp_path):
    with pytest.raises(ConfigError, match="no text"):
        embed.run(embed.Config(model=backbone))
    with pytest.raises(DataError, match="cannot read"):
        embed.run(embed.Config(model=backbone, lines=tmp_path / "absent"))
    (tmp_path / "bad").write_bytes("小猫来了".encode("gb18030"))
    with pytest.raises(DataError, match="UTF-8"):
        embed.run(embed.Config(model=backbone, lines=tmp_path / "bad"))
    with pytest.raises(FolderError):
        embed.run(embed.Config(model=tmp_path / "absent", text=["a"]))


def test_the_command_line(danlu, backbone):
    told = danlu("embed", backbone, "--text", "a cat sat", "--text", "the dog", "--device", "cpu")
    assert (told.code, told.err) == (0, "")
    assert "vectors of 16 numbers" in told.out
    told = danlu("embed", backbone)
    assert told.code == 2
    assert "--text" in told.err


@pytest.mark.slow
def test_all_minilm_l6_v2_is_what_sentence_transformers_makes_of_it(capsys):
    from sentence_transformers import SentenceTransformer

    from danlu.core.assets import asset_path

    try:
        path = asset_path("all-minilm-l6-v2")
    except AssetError as error:
        pytest.skip(str(error))
    texts = [
        "A cat sits on the mat.",
        "A kitten rests on a rug.",
        "Stocks fell sharply on Monday after the bank raised its rates.",
        "春眠不觉晓，处处闻啼鸟。",
        "naïve café — “quotes”, emoji 😀 and 1,234.5 numbers!",
        "",
        "word " * 700,
    ]
    expected = SentenceTransformer(str(path), device="cpu").encode(texts, convert_to_tensor=True).cpu()
    told = Embedder.open(path).embed(texts)
    far = (told - expected).abs().max().item()
    assert far < 1e-4
    assert told[0] @ told[1] > 0.5
    assert told[0] @ told[2] < 0.2
    with capsys.disabled():
        print(f"\nthe largest difference from sentence-transformers': {far:.1e}")
