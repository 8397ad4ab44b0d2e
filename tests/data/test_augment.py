"""Rows become more rows: deterministic for each, labels kept, never the row itself again."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.augment import IMAGE_METHODS, TEXT_METHODS, ImageFolders, augment_rows, variants
from danlu.data.augmenters.images import Config, Images, load, save


class Append:
    """Appends a digit out of `digits`: some results are equal, and '0' means the text as it was."""

    kind: Literal["text"] = "text"

    def __init__(self, digits: str = "0123", tries: int = 3) -> None:
        self.digits, self.tries, self.calls = digits, tries, 0

    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        self.calls += 1
        drawn = [random.choice(self.digits) for random in randoms]
        return [text if digit == "0" else text + digit for text, digit in zip(contents, drawn, strict=True)]


ROWS = [{"id": name, "text": f"text {name}", "label": number} for number, name in enumerate("abcdefgh")]


def made(rows=ROWS, augmenter=None, **options):
    return list(augment_rows(rows, {"append": augmenter or Append()}, **options))


def test_methods_are_files():
    folder = Path(__file__).parents[2] / "src" / "danlu" / "data" / "augmenters"
    assert {path.stem for path in folder.glob("[a-z]*.py")} == set(TEXT_METHODS.values()) | set(IMAGE_METHODS.values())


def test_rows_are_followed_by_their_variants():
    tally: Counter[str] = Counter()
    found = made(copies=2, tally=tally)
    assert [row for row in found if "augmented" not in row] == [row | {"group": row["id"]} for row in ROWS]
    new = [row for row in found if "augmented" in row]
    assert tally["rows"] == 8
    assert tally["append"] == len(new)
    assert tally["append"] + tally["append_unchanged"] == 16
    for row in new:
        (parent,) = (one for one in ROWS if one["id"] == row["group"])
        assert row["augmented"] == "append"
        assert row["label"] == parent["label"]
        assert row["text"][:-1] == parent["text"]
    assert len({row["id"] for row in found}) == len(found)
    assert made(copies=2, keep=False) == new


def test_never_the_row_itself_nor_a_variant_twice():
    assert made(augmenter=Append("0"), keep=False, copies=3) == []
    for row in ROWS:
        texts = [one["text"] for one in made([row], Append("012", tries=9), copies=5, keep=False)]
        assert sorted(texts) == [row["text"] + "1", row["text"] + "2"]


def test_asking_again_stops_when_all_are_new():
    augmenter = Append("123456789", tries=50)
    assert len(made(augmenter=augmenter, keep=False)) == 8
    assert augmenter.calls == 1
    one_try = Append("0", tries=1)
    made(augmenter=one_try)
    assert one_try.calls == 1


@given(st.permutations(ROWS), st.integers(0, 3), st.integers(1, 8))
def test_a_row_gets_its_variants_whatever_stands_around_it(rows, seed: int, size: int):
    alone = {one["id"]: one for row in ROWS for one in made([row], seed=seed, copies=2)}
    assert all(alone[one["id"]] == one for one in made(rows[:size], seed=seed, copies=2))


def test_seeds_give_other_variants():
    texts = [tuple(row["text"] for row in made(seed=seed, keep=False)) for seed in range(5)]
    assert len(set(texts)) == 5
    assert made(seed=3) == made(seed=3)


def test_rows_without_an_id_get_one_of_their_content():
    rows = [{"text": "a"}, {"text": "b"}]
    first, second = ([row["id"] for row in made(order) if "augmented" not in row] for order in (rows, rows[::-1]))
    assert first == second[::-1]
    assert len(set(first)) == 2


def test_a_group_stays():
    assert {row["group"] for row in made([ROWS[0] | {"group": "poet"}])} == {"poet"}


def test_only_what_the_user_says_changes_in_messages():
    said = [
        {"role": "system", "content": "s"}, {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"},
    ]  # fmt: skip
    (new,) = made([{"id": "1", "messages": said}], Append("7"), keep=False)
    assert [message["content"] for message in new["messages"]] == ["s", "u7", "a", "v7"]
    assert said[1]["content"] == "u"
    assert made([{"id": "1", "messages": said[:1]}], keep=False) == []


def test_rows_are_read_in_batches_and_none_is_lost():
    rows = ({"id": str(number), "text": "x"} for number in range(600))
    found = list(augment_rows(rows, {"append": Append("1")}))
    assert [row["id"] for row in found[::2]] == [str(number) for number in range(600)]
    assert len(found) == 1200


def test_a_row_without_text_is_named():
    with pytest.raises(DataError, match="no-text"):
        made([{"id": "no-text", "text": 3}])


def test_images(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    even = np.zeros((4, 4, 1), np.uint8)
    save(image, tmp_path / "a.png")
    save(even, tmp_path / "b.png")
    (tmp_path / "new").mkdir()
    rows = [{"id": "1", "image": "a.png", "label": 3}, {"id": "2", "image": "b.png", "label": 4}]
    tally: Counter[str] = Counter()
    folders = ImageFolders(tmp_path, tmp_path / "new", "new")
    found = list(augment_rows(rows, {"flip": Images("flip", Config())}, copies=2, tally=tally, folders=folders))
    assert [row["label"] for row in found] == [3, 3, 4]
    assert np.array_equal(load(tmp_path / found[1]["image"]), image[:, ::-1])
    assert (tally["flip"], tally["flip_unchanged"]) == (1, 3)  # a mirror has one image, of an even one none
    with pytest.raises(DataError, match="names no image|没有图像"):
        list(augment_rows([ROWS[0]], {"flip": Images("flip", Config())}, folders=folders))


def test_variants_of_nothing():
    assert variants([], [], Append(), "append", 2, 0) == []
