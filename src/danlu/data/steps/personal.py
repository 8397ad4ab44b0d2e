"""Masks personal data: e-mail, telephones, ID and bank cards, addresses, IP addresses, keys; counts each kind.

What is not masked stays byte for byte. The tally counts findings by kind; a row is dropped only when asked for.
"""

from collections import Counter
from typing import Literal

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.data.personal import USUAL, Kind, find, mask, placeholder, pseudonym
from danlu.data.sources import Row
from danlu.data.step import Drop
from danlu.data.steps._text import rewrite

__all__ = ["Config", "Step"]


class Config(Base):
    """What is looked for, and what becomes of it."""

    kinds: tuple[Kind, ...] = doc(USUAL, "what to look for", "查找哪些种类", min_length=1)
    action: Literal["mask", "pseudonym", "drop"] = doc(
        "mask",
        "write <EMAIL> in its place; or <EMAIL:1f2e3d4c>, the same for the same; or drop the row",
        "用 <EMAIL> 代替；或用 <EMAIL:1f2e3d4c>，同一信息同一代号；或丢弃整行",
    )
    key_file: Input | None = doc(
        None,
        "file with the secret that pseudonyms are made with",
        "生成代号所用密钥的文件（action 为 pseudonym 时必填）",
    )


class Step:
    """Masks or drops; see danlu.data.personal for what is found."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._write = placeholder
        if config.action == "pseudonym":
            self._write = pseudonym(_secret(config))
        elif config.key_file is not None:
            raise ConfigError(
                tr("key_file is given, but nothing is made with it", "给出了 key_file，却没有用处"),
                tr("set action: pseudonym", "请设 action: pseudonym"),
            )

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        found: Counter[str] = Counter()

        def masked(text: str) -> str:
            return mask(text, find(text, self.config.kinds), self._write, found)

        changed = rewrite(row, masked)
        others = {
            name: masked(value)
            for name, value in changed.items()
            if isinstance(value, str) and name not in ("id", "source", "text")
        }
        if any(changed[name] != value for name, value in others.items()):
            changed = {**changed, **others}
        tally.update(found)
        if found and self.config.action == "drop":
            return Drop("personal_data", " ".join(sorted(found)))
        return changed


def _secret(config: Config) -> bytes:
    if config.key_file is None:
        raise ConfigError(
            tr("pseudonyms need a secret", "生成代号需要密钥"),
            tr("give key_file: a file with a long random line", "请给出 key_file：内含一行足够长的随机字符"),
        )
    try:
        secret = config.key_file.read_bytes().strip()
    except OSError as error:
        raise DataError(
            tr(f"cannot read {config.key_file}: {error.strerror}", f"无法读取 {config.key_file}：{error.strerror}"),
            tr("check the path of key_file", "请检查 key_file 的路径"),
        ) from None
    if len(secret) < 16:
        raise ConfigError(
            tr(f"{config.key_file} holds {len(secret)} bytes; who can guess the secret can undo the pseudonyms", f"{config.key_file} 只有 {len(secret)} 字节；密钥若能被猜到，代号就能被还原"),
            tr("use 16 random bytes or more", "请使用不少于 16 字节的随机内容"),
        )  # fmt: skip
    return secret
