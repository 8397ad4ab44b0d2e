"""The verb: files in, files out, the same bytes again; what it cannot do, it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.data.augmenters.back_translation import EndpointTranslator
from danlu.data.augmenters.images import load, save
from danlu.stages.data_augment import Config, make_augmenters, run

ROWS = [
    {"id": "1", "text": "The quick brown fox jumps over the lazy dog.", "label": 1},
    {"id": "2", "text": "酒店环境很不错，服务态度非常热情。", "label": 0},
    {"id": "3", "text": "42!", "label": 2},
]


def config(folder: Path, *methods: str, rows=ROWS, **settings) -> Config:
    data = folder / "in.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return Config.parse({"data": data, "out": folder / "new" / "out.jsonl", "methods": list(methods), **settings})


def written(settings: Config) -> list[dict]:
    return [json.loads(line) for line in settings.out.read_text(encoding="utf-8").splitlines()]


def test_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    settings = config(tmp_path, "swap", "typos", "homophones", copies=2)
    tally = run(settings)
    rows = written(settings)
    assert tally == {
        "rows": 3, "swap": 4, "swap_unchanged": 2, "typos": 2, "typos_unchanged": 4, "homophones": 2, "homophones_unchanged": 4,
    }  # fmt: skip
    assert [(row["id"], row.get("augmented"), row["label"]) for row in rows[:5]] == [
        ("1", None, 1), ("1-swap-0", "swap", 1), ("1-swap-1", "swap", 1), ("1-typos-0", "typos", 1), ("1-typos-1", "typos", 1),
    ]  # fmt: skip
    shown = capsys.readouterr().out
    assert "homophones" in shown
    first = settings.out.read_bytes()
    run(settings)
    assert settings.out.read_bytes() == first


def test_only_the_new_rows(tmp_path: Path):
    settings = config(tmp_path, "delete", keep=False)
    run(settings)
    assert {row["augmented"] for row in written(settings)} == {"delete"}


def test_plain_text_has_a_row_on_each_line(tmp_path: Path):
    (tmp_path / "in.txt").write_text("one two\nthree four\n")
    settings = Config.parse({"data": tmp_path / "in.txt", "out": tmp_path / "out.jsonl", "methods": "swap"})
    run(settings)
    assert [row["text"] for row in written(settings)] == ["one two", "two one", "three four", "four three"]


def test_images(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 1), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    save(image, tmp_path / "pictures" / "a.png")
    settings = config(tmp_path, "flip", "cutout", rows=[{"image": "pictures/a.png", "label": 7}])
    run(settings)
    rows = written(settings)
    assert [row["image"] for row in rows[:1]] == ["../pictures/a.png"]
    found = [load(settings.out.parent / row["image"]) for row in rows]
    assert np.array_equal(found[0], image)
    assert np.array_equal(found[1], image[:, ::-1])
    assert {row["label"] for row in rows} == {7}
    assert len(list((tmp_path / "new" / "out-images").iterdir())) == 2


def test_a_fault_leaves_what_was_there(tmp_path: Path):
    settings = config(tmp_path, "swap")
    run(settings)
    before = settings.out.read_bytes()
    with pytest.raises(DataError):
        run(config(tmp_path, "swap", rows=[*ROWS, {"id": "4", "label": 1}]))
    assert settings.out.read_bytes() == before
    assert len(list(settings.out.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("methods", "fault"),
    [
        (["swap", "flip"], "swap"),
        (["swap", "swap"], "swap"),
        ([], "none|空"),
        (["back-translation"], "translator|翻译"),
    ],
)
def test_methods_that_do_not_go_together(tmp_path: Path, methods: list[str], fault: str):
    with pytest.raises(ConfigError, match=fault):
        run(config(tmp_path, *methods))


def test_an_unknown_method_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="shuffle"):
        config(tmp_path, "shuffle")


def test_the_endpoint_becomes_the_translator(tmp_path: Path):
    settings = config(tmp_path, "back-translation", back_translation={"url": "http://127.0.0.1:1/v1", "model": "m"})
    (augmenter,) = make_augmenters(settings).values()
    assert isinstance(augmenter._translator, EndpointTranslator)  # type: ignore[attr-defined]
    both = settings.back_translation.model_copy(update={"folder": tmp_path})
    with pytest.raises(ConfigError):
        make_augmenters(settings.model_copy(update={"back_translation": both}))


def test_a_model_folder_becomes_the_translator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from danlu.generate import translate

    class Fake:
        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def translate(self, texts, source, target):
            return [f"{text}?" for text in texts]

    monkeypatch.setattr(translate, "Translator", Fake)
    settings = config(tmp_path, "back-translation", back_translation={"folder": tmp_path})
    run(settings)
    assert [row["text"] for row in written(settings) if "augmented" in row] == [row["text"] + "??" for row in ROWS]
