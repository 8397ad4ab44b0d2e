import json
from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.stages.tokenizer_train import Config, learnable_texts, run
from danlu.tokenizer import Tokenizer

LINES = ["春眠不觉晓，处处闻啼鸟。", "夜来风雨声，花落知多少。", "Rain at night, and the wind."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of texts, long enough to be split."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(30):
        (texts / f"{number}.txt").write_text("\n".join([*LINES, f"第 {number} 篇"]), encoding="utf-8")
    return texts


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_folder_of_texts(kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = run(Config(data=folder, out=tmp_path / "tok", kind=kind, vocab_size=400))
    tokenizer = Tokenizer.load(out)
    assert tokenizer.has_chat
    assert tokenizer.decode(tokenizer.encode(LINES[0])) == LINES[0]
    if kind == "char":
        assert len(tokenizer.encode(LINES[0])) == len(LINES[0])
    assert f"{tokenizer.vocab_size:,}" in capsys.readouterr().out
    again = run(Config(data=folder, out=tmp_path / "again", kind=kind, vocab_size=400))
    assert (again / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()


def test_prepared_data_learns_from_the_training_split(tmp_path: Path):
    for split, text in (("train", "甲乙丙"), ("valid", "丁戊己")):
        rows = [
            {
                "text": text * 5,
                "messages": [{"role": "user", "content": "问？"}, {"role": "assistant", "content": text}],
            }
        ] * 2
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    vocabulary = Tokenizer.load(run(Config(data=tmp_path, out=tmp_path / "tok", kind="char"))).backend.get_vocab()
    assert set(vocabulary) >= set("甲乙丙问？")
    assert set(vocabulary).isdisjoint("丁戊己")


def test_column(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    rows = [{"verse": f"春风{number}", "text": "unused"} for number in range(30)]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    vocabulary = Tokenizer.load(
        run(Config(data=file, out=tmp_path / "tok", kind="char", column="verse"))
    ).backend.get_vocab()
    assert "春" in vocabulary
    assert "u" not in vocabulary
    with pytest.raises(DataError, match="'title'"):
        run(Config(data=file, out=tmp_path / "none", column="title"))
    assert not (tmp_path / "none").exists()


def test_learnable_texts():
    said = [
        {"role": "user", "content": "写"},
        {"role": "assistant", "content": "春风"},
        {"role": "tool", "content": None},
    ]
    assert learnable_texts({"text": "《题》春风", "messages": said}) == ["《题》春风", "写"]
    assert learnable_texts({"messages": said}) == ["写", "春风"]
    assert learnable_texts({"text": "a"}) == ["a"]


def test_missing_data(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere"):
        run(Config(data=tmp_path / "nowhere", out=tmp_path / "tok"))


def test_out_is_not_overwritten_unless_it_is_a_tokenizer(folder: Path, tmp_path: Path):
    run(Config(data=folder, out=tmp_path / "tok"))
    run(Config(data=folder, out=tmp_path / "tok", kind="char"))
    with pytest.raises(DataError, match="more than a tokenizer"):
        run(Config(data=folder, out=folder))
    assert len(list(folder.iterdir())) == 30
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(DataError):
        run(Config(data=folder, out=file))


def test_paths_come_first_and_unknown_settings_are_named():
    assert list(Config.model_fields)[:2] == ["data", "out"]
    with pytest.raises(ConfigError, match="vocab_sise"):
        Config.parse({"data": "a", "out": "b", "vocab_sise": 300})
