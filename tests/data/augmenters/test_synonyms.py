"""Synonyms from small dictionaries in the form of the real ones; the real ones in slow tests."""

from pathlib import Path
from random import Random

import pytest

from danlu.core.errors import DataError
from danlu.data.augmenters._wordnet import WordNet
from danlu.data.augmenters.synonyms import Cilin, Config, Synonyms

CILIN = """Ed01A01= 便宜 廉价 低廉 贱
Ed01A02# 高兴 天空
Bn01A01@ 旅馆
Ed02A01= 高兴 愉快 快乐 欢天喜地 怿
Ia01A01= 高兴 喜欢
Ga01A01= 好 优秀
"""
# Two nouns, a verb and an adjective of WordNet's form; {0} and {1} are the places of the synsets in data.noun.
SYNSETS = {
    "noun": ["03 n 02 house 0 dwelling 0 000 | a place", "04 n 03 dwelling 0 Villa 0 house 1 000 | grand", "05 n 02 city 0 metropolis 0 000 | a"],
    "verb": ["06 v 02 stop 0 halt 0 001 @ 00000000 v 0000 01 + 08 00 | end", "07 v 02 buy 0 purchase 0 000 00 | get", "08 v 02 grab 0 take 0 000 00 | x"],
    "adj": ["09 a 02 big 0 large(a) 0 000 | size", "10 s 02 old 0 elderly 0 000 | age"],
    "adv": ["11 r 02 quickly 0 rapidly 0 000 | fast"],
}  # fmt: skip
FIRST = {
    "noun": {"house": 0, "dwelling": 0, "city": 2, "metropolis": 2},
    "verb": {"stop": 0, "halt": 0, "buy": 1, "purchase": 1, "grab": 2, "take": 2},
    "adj": {"big": 0, "large": 0, "old": 1, "elderly": 1},
    "adv": {"quickly": 0, "rapidly": 0},
}
EXCEPTIONS = {"noun": "men man\n", "verb": "bought buy\nstopped stop\nstopping stop\ntook take\ntaken take\n", "adj": "", "adv": ""}  # fmt: skip
TEXT = """a/at big/jj house/nn large/jj houses/nns dwelling/nn dwellings/nns city/nn cities/nns metropolises/nns
stopped/vbd halted/vbd buying/vbg purchasing/vbg bought/vbd grabbed/vbd grabs/vbz takes/vbz took/vbd quickly/rb rapidly/rb
old/jj elderly/jj Grand/jj-tl City/nn-tl stop/vb halt/vb halting/vbg"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "同义词.txt").write_text(CILIN, encoding="utf-8")
    words = tmp_path / "dict"
    words.mkdir()
    for name, synsets in SYNSETS.items():
        data, places = "  1 a licence\n", []
        for synset in synsets:
            places.append(len(data))
            data += f"{len(data):08d} {synset}\n"
        (words / f"data.{name}").write_text(data)
        index = [f"{word} {name[0]} 1 0 1 1 {places[at]:08d}  " for word, at in FIRST[name].items()]
        (words / f"index.{name}").write_text(
            "\n".join(["  1 a licence", "new_york n 1 0 1 1 00000000", *sorted(index)])
        )
        (words / f"{name}.exc").write_text(EXCEPTIONS[name])
    corpus = tmp_path / "brown"
    corpus.mkdir()
    (corpus / "ca01").write_text(TEXT)
    return tmp_path


@pytest.fixture
def synonyms(files: Path) -> Synonyms:
    return Synonyms(Config(share=0.5, cilin=files, wordnet=files / "dict", corpus=files / "brown"))


def test_cilin_has_only_groups_of_synonyms(files: Path):
    cilin = Cilin(files)
    assert {word for word, _ in cilin.of("便宜")} == {"廉价", "低廉"}
    assert cilin.of("旅馆") == cilin.of("天空") == cilin.of("没有") == []
    assert cilin.of("好") == []  # a character alone has too many meanings
    assert "欢天喜地" not in dict(cilin.of("高兴"))


def test_cilin_asks_for_the_part_of_speech(files: Path):
    cilin = Cilin(files)
    assert {word for word, _ in cilin.of("高兴", "a")} == {"愉快", "快乐"}
    assert {word for word, _ in cilin.of("高兴", "v")} == {"喜欢"}
    assert {word for word, _ in cilin.of("高兴")} == {"愉快", "快乐", "喜欢"}
    assert Cilin(files, senses=1).of("高兴") == []


def test_rare_synonyms_stay_out(files: Path):
    """In the segmenter's dictionary 高兴 stands 5,388 times, 快乐 2,517, 愉快 1,194."""
    assert {word for word, _ in Cilin(files, rarity=0.4).of("高兴", "a")} == {"快乐"}


def test_english_keeps_ending_and_case(files: Path):
    words = WordNet(files / "dict", files / "brown")
    for word, other in {
        "big": "large", "Big": "Large", "BIG": "LARGE", "house": "dwelling", "houses": "dwellings", "stopped": "halted",
        "stopping": "halting", "buying": "purchasing", "cities": "metropolises", "quickly": "rapidly", "old": "elderly",
    }.items():  # fmt: skip
        assert [found for found, _ in words.of(word)] == [other], word


def test_english_leaves_alone_what_it_cannot_inflect(files: Path):
    words = WordNet(files / "dict", files / "brown")
    for word in ("bought", "grabbed", "men", "is", "the", "xyzzy", "of", "a", "took"):
        assert words.of(word) == [], word
    assert words.of("grabs") == [("takes", 1)]  # no form of its own is irregular there


def test_a_synonym_must_usually_mean_the_same(files: Path):
    """'dwelling' stands in two synsets; the second, with 'villa', is not what it usually means."""
    index = files / "dict" / "index.noun"
    words = WordNet(files / "dict", files / "brown")
    assert words.of("house")
    first, second = (line[:8] for line in (files / "dict" / "data.noun").read_text().splitlines()[1:3])
    text = index.read_text()
    index.write_text(text.replace(f"dwelling n 1 0 1 1 {first}", f"dwelling n 2 0 2 2 {second} {first}"))
    assert index.read_text() != text
    assert WordNet(files / "dict", files / "brown").of("house") == []


def test_replacing(synonyms: Synonyms):
    assert synonyms.replace("He bought a big old house.", Random(0)) in {
        "He bought a large elderly house.", "He bought a large old dwelling.", "He bought a big elderly dwelling.", "He bought a large elderly dwelling.",
    }  # fmt: skip
    assert synonyms.replace("An old x y", Random(0)) == "An elderly x y"
    assert synonyms.replace("It is a old", Random(0)) == "It is an elderly"
    assert synonyms.replace("东西很便宜。", Random(0)) in {"东西很廉价。", "东西很低廉。"}
    assert synonyms.replace("the Big house", Random(1)) == "the Big dwelling"  # a name
    assert synonyms.replace("", Random(0)) == ""
    assert synonyms.replace("123 !!", Random(0)) == "123 !!"


def test_the_share_is_kept(synonyms: Synonyms):
    text = " ".join(["big"] * 40)
    (new,) = synonyms.augment([text], [Random(0)])
    assert new.split().count("large") == 20


def test_synonyms_of_some_words(synonyms: Synonyms):
    assert synonyms.some("a big thing", 1, Random(0)) == ["large"]
    assert sorted(synonyms.some("a big old thing", 2, Random(0))) == ["elderly", "large"]
    assert sorted(synonyms.some("a big old thing", 3, Random(0)))[0] == "elderly"
    assert len(synonyms.some("a big old thing", 5, Random(0))) == 5
    assert synonyms.some("no such thing", 2, Random(0)) == synonyms.some("", 1, Random(0)) == []


def test_unreadable_files_are_named(tmp_path: Path, files: Path):
    with pytest.raises(DataError, match="同义词"):
        Cilin(tmp_path / "nothing" / "同义词.txt")
    with pytest.raises(DataError, match="WordNet"):
        WordNet(tmp_path / "nothing", files / "brown")
    with pytest.raises(DataError, match="no tagged texts|词性"):
        WordNet(files / "dict", tmp_path)


@pytest.mark.slow
def test_the_real_dictionaries():
    """The reader agrees with NLTK's well-known first synsets, and both languages give what one would say."""
    from danlu.core.assets import pull

    words = WordNet(pull("wordnet"), pull("brown"))
    assert words.synset("car", "n") == ["auto", "automobile", "machine", "motorcar"]
    assert dict(words.of("helped")).keys() == {"assisted", "aided"}
    assert "children" not in dict(words.of("kids"))
    cilin = Cilin(pull("cilin"))
    assert {"廉价", "低廉"} <= dict(cilin.of("便宜", "a")).keys()
    assert "益处" not in dict(cilin.of("便宜", "a"))
