import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from danlu.data.containers import Member, base_name, is_archive, members
from danlu.data.faults import Fault

zstandard = pytest.importorskip("zstandard")
TEXT = "".join(f"第{number}行 line {number * 7919 % 1000}\n" for number in range(20_000)).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress,
}  # fmt: skip


def tar_of(*entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    return out.getvalue()


def contents(data: bytes, name: str, wanted=lambda name, base: True) -> dict[str, bytes | str]:
    """By member its bytes, or the reason why there are none; what ends it all is under '!'."""
    found: dict[str, bytes | str] = {}
    inside = members(io.BytesIO(data), name, len(data), wanted)
    while True:
        try:
            member = next(inside)
        except StopIteration:
            return found
        except Fault as fault:
            return found | {"!": fault.reason}
        if isinstance(member, Fault):
            found[member.detail] = member.reason
            continue
        try:
            found[member.name] = b"".join(iter(lambda member=member: member.stream.read(50_000), b""))
        except Fault as fault:
            found[member.name] = fault.reason


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files_several_in_one_and_cut_off(suffix):
    packed = PACKERS[suffix](TEXT)
    assert contents(packed, f"a.txt{suffix}") == {"": TEXT}
    assert contents(packed + packed, f"a.txt{suffix}") == {"": TEXT + TEXT}
    assert contents(packed[: len(packed) // 2], f"a.txt{suffix}") == {"": "truncated"}
    assert contents(b"not packed at all, really not", f"a.txt{suffix}") == {"": "damaged"}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_tar_within_compression_and_compression_within_a_tar(suffix):
    tar = tar_of(("b/one.txt", TEXT), ("b/two.txt" + suffix, PACKERS[suffix](TEXT)), ("x" * 200 + "/三.txt", b"3"))
    expected = {"b/one.txt": TEXT, "b/two.txt" + suffix: TEXT, "x" * 200 + "/三.txt": b"3"}
    assert contents(tar, "a.tar") == expected
    assert contents(PACKERS[suffix](tar), f"a.tar{suffix}") == expected


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_form_of_tar(form):
    name = "folder/" + "n" * 90 + "/name.txt"
    assert contents(tar_of((name, TEXT), ("b.txt", b""), form=form), "a.tar") == {name: TEXT, "b.txt": b""}


def test_a_zip_with_all_that_may_stand_in_it():
    inner = zip_of(("c.txt", b"c"))
    data = zip_of(("a.txt", TEXT), ("d/", b""), ("b.jsonl.gz", gzip.compress(b"{}")), ("in.zip", inner),
                  ("in.tar", tar_of(("t.txt", b"t"))))  # fmt: skip
    assert contents(data, "a.zip") == {
        "a.txt": TEXT, "b.jsonl.gz": b"{}", "in.zip": "unsupported", "in.tar!t.txt": b"t",
    }  # fmt: skip
    assert contents(data, "a.zip", lambda name, base: base == "b.jsonl") == {"b.jsonl.gz": b"{}"}


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "x/../../a.txt", "..\\a.txt", "C:\\a.txt", ""])
def test_paths_that_leave_the_archive_are_refused_and_the_rest_is_read(name):
    if name:
        found = contents(zip_of((name, b"x"), ("ok.txt", b"ok")), "a.zip")
        assert found.pop("ok.txt") == b"ok"
        assert set(found.values()) == {"unsafe_path"}
    found = contents(tar_of((name, b"x"), ("ok.txt", b"ok")), "a.tar")
    assert found.pop("ok.txt") == b"ok"
    assert set(found.values()) == {"unsafe_path"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind):
    assert contents(tar_of(("link.txt", b""), kind=kind), "a.tar") == {"link.txt": "not_a_file"}


def test_a_link_in_a_zip_and_an_encrypted_member_are_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("secret.txt", "secret")
        file.writestr("ok.txt", "ok")
    data = out.getvalue()
    at = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)  # the directory's entry of secret.txt
    data = data[: at + 8] + b"\1\0" + data[at + 10 :]
    assert contents(data, "a.zip") == {"link.txt": "not_a_file", "secret.txt": "encrypted", "ok.txt": b"ok"}


def test_a_damaged_member_does_not_hide_the_next():
    data = bytearray(zip_of(("a.txt", TEXT), ("b.txt", b"b")))
    data[2000:2100] = b"\0" * 100
    assert contents(bytes(data), "a.zip") == {"a.txt": "damaged", "b.txt": b"b"}
    tar = tar_of(("a.txt.gz", gzip.compress(TEXT)[:3000]), ("b.txt", b"b"))
    assert contents(tar, "a.tar") == {"a.txt.gz": "truncated", "b.txt": b"b"}


def test_archives_cut_off_or_that_are_none():
    data, tar = zip_of(("a.txt", TEXT)), tar_of(("a.txt", TEXT))
    assert contents(data[:-30], "a.zip") == {"!": "damaged"}
    assert contents(b"", "a.zip") == {"!": "damaged"}
    assert contents(tar[: len(tar) // 2], "a.tar") == {"a.txt": "truncated", "!": "truncated"}
    assert contents(b"x" * 600, "a.tar") == {"!": "damaged"}


@pytest.mark.parametrize("suffix", PACKERS)
def test_bombs_are_stopped(suffix, monkeypatch):
    monkeypatch.setattr("danlu.data.containers.SLACK", 1 << 20)
    monkeypatch.setattr("danlu.data.containers.RATIO", 20)
    bomb = PACKERS[suffix](bytes(30 << 20))
    assert contents(bomb, f"a.txt{suffix}") == {"": "bomb"}
    found = contents(tar_of((f"a.txt{suffix}", bomb), ("b.txt", b"b")), "a.tar")
    assert found[f"a.txt{suffix}"] == "bomb"


def test_zip_bombs_by_ratio_and_by_members_that_share_bytes_are_not_opened(monkeypatch):
    monkeypatch.setattr("danlu.data.containers.SLACK", 1 << 20)
    assert contents(zip_of(("a.txt", bytes(30 << 20))), "a.zip") == {"!": "bomb"}
    data = zip_of(("a.txt", TEXT))
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry, tail = data[at:end], bytearray(data[end:])
    tail[8:12] = (1000).to_bytes(2, "little") * 2
    tail[12:16] = (1000 * len(entry)).to_bytes(4, "little")
    assert contents(data[:at] + entry * 1000 + bytes(tail), "a.zip") == {"!": "bomb"}


def test_headers_that_claim_gigabytes_take_no_memory():
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    assert contents(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096), "a.tar") == {"!": "too_long"}
    tail = b"PK\5\6" + bytes(4) + b"\xff\xff\xff\xff" + (1 << 31).to_bytes(4, "little") + bytes(6)
    assert contents(bytes(1000) + tail, "a.zip") == {"!": "too_long"}


def test_names_in_the_encoding_of_the_machine_that_packed_them():
    name = "新闻与评论的文字材料一.txt"
    data = zip_of(("x" * len(name.encode("gb18030")), b"x")).replace(
        b"x" * len(name.encode("gb18030")), name.encode("gb18030")
    )
    assert contents(data, "a.zip") == {name: b"x"}


def test_equal_names_are_told_apart():
    assert set(contents(tar_of(("a.txt", b"1"), ("a.txt", b"2")), "a.tar")) == {"a.txt", "a.txt@2"}


@pytest.mark.parametrize(
    ("name", "base", "archive"),
    [("A.JSONL.GZ", "a.jsonl", False), ("a.tgz", "a.tar", True), ("a.tar.zst", "a.tar", True), ("a.zip", "a.zip", True),
     ("plain", "plain", False)],
)  # fmt: skip
def test_names(name, base, archive):
    assert base_name(name) == base
    assert is_archive(name) is archive
    assert Member("", "a", io.BytesIO()).name == ""
