"""What can be wrong with a row, a file or an archive, by a short reason, and how it is told.

A `Fault` is raised or yielded while reading. The reader makes of it a `Bad` for the quarantine, or a DataError where
there is none.
"""

from typing import NamedTuple

from danlu.core.errors import DataError
from danlu.core.i18n import tr

__all__ = ["RAW_LIMIT", "REASONS", "Bad", "Fault"]

RAW_LIMIT = 64 * 1024  # bytes of a bad row that are kept

# reason: what is wrong (en, zh), what to do (en, zh)
REASONS: dict[str, tuple[str, str, str, str]] = {
    "not_json": ("is not JSON: {}", "不是合法的 JSON:{}", "each row must be one JSON object",
                 "每一行(每个元素)应是一个 JSON 对象"),
    "not_a_row": ("is not a row of columns", "不是由列组成的一行", 'write {"text": "..."}',
                  '请写成 {"text": "..."}'),
    "missing_column": ("has no column '{}'", "没有列“{}”", "name another with --columns text=COLUMN",
                       "可用 --columns text=列名 指定别的列"),
    "wrong_kind": ("has a column of the wrong kind: {}", "有一列的类型不对:{}",
                   "correct that row, or name another column with --columns",
                   "请改正这一行,或用 --columns 指定别的列"),
    "wrong_width": ("has another number of cells than the header: {}", "与表头的列数不同:{}",
                    "is a comma or a quote missing?", "是否缺了逗号或引号?"),
    "bad_csv": ("cannot be read as csv: {}", "无法按 csv 读取:{}", "is a quote left open?", "是否有引号没有闭合?"),
    "bad_mail": ("cannot be read as a mail: {}", "无法按邮件读取:{}", "is it one message in RFC 5322 form?",
                 "它是一封 RFC 5322 格式的邮件吗?"),
    "bad_table": ("is not a plain table: {}", "不是简单的表:{}",
                  "only lists, dictionaries, texts and numbers are read; nothing is executed",
                  "只读取列表、字典、文字与数字;不执行任何内容"),
    "undecodable": ("is not text in the encoding {}", "按 {} 编码无法读通", "name another with --encoding",
                    "请用 --encoding 指定别的编码"),
    "too_long": ("is longer than {} bytes", "超过 {} 字节", "raise max_row_bytes, or cut it", "请调高 max_row_bytes,或切开它"),
    "unreadable": ("cannot be read: {}", "无法读取:{}", "is it complete, and may you read it?",
                   "文件是否完整?是否有读取权限?"),
    "truncated": ("ends too early: {}", "提前结束:{}", "is the file complete?", "文件是否完整?"),
    "damaged": ("is damaged: {}", "已损坏:{}", "is the file complete?", "文件是否完整?"),
    "encrypted": ("is encrypted", "已加密", "unpack it with its password first", "请先用密码解开"),
    "unsafe_path": ("has a path that leaves the archive: {}", "的路径越出了归档:{}", "who made this archive?",
                    "这个归档是谁做的?"),
    "not_a_file": ("is a link or a device, not a file", "是链接或设备,不是文件", "pack the file itself",
                   "请把文件本身打包"),
    "bomb": ("unpacks to more than {} bytes", "解开后超过 {} 字节", "unpack it yourself if you trust it",
             "如果可信,请自行解开"),
    "unsupported": ("is packed in a way that is not read here: {}", "的打包方式这里不能读取:{}",
                    "unpack it first", "请先解开"),
}  # fmt: skip


class Bad(NamedTuple):
    """Something set aside: where ('folder/name.jsonl:17'), why (a key of `REASONS`), what is special, its first bytes."""

    place: str
    reason: str
    raw: bytes
    detail: str = ""


class Fault(Exception):  # noqa: N818  (it is handed on as often as it is raised)
    """A row or a file that cannot be used. `detail` fills the gap in the reason's wording; `hint` stands before what to do."""

    def __init__(self, reason: str, detail: str = "", raw: bytes = b"", hint: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.raw, self.hint = reason, detail, bytes(raw[:RAW_LIMIT]), hint

    def bad(self, place: str) -> Bad:
        """This for the quarantine."""
        return Bad(place, self.reason, self.raw, self.detail)

    def error(self, place: str) -> DataError:
        """This for a person who reads without a quarantine."""
        en, zh, do_en, do_zh = REASONS[self.reason]
        gap = "" if tr("en", "zh") == "zh" else " "
        return DataError(f"{place}{gap}{tr(en, zh).format(self.detail)}", self.hint + tr(do_en, do_zh))
