"""Make more training rows out of those there are: synonyms, edits, slips, back-translation; images turned and cut.

扩充训练数据：同义词替换、增删换位、错别字、回译；图像旋转与裁剪等。

Example: danlu data augment --data train.jsonl --out more.jsonl --methods synonyms --methods swap
Each row keeps its label; its variants say by `augmented` which method made them. The same rows and settings give the
same bytes. Give it the training rows only. Images are files that rows name by `image`; new ones go beside OUT.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import field_validator

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError
from danlu.core.files import atomic_folder, atomic_path
from danlu.core.i18n import tr
from danlu.data.augment import IMAGE_METHODS, TEXT_METHODS, Augmenter, ImageFolders, augment_rows
from danlu.data.augmenters.back_translation import BackTranslation, EndpointTranslator, Translator
from danlu.data.augmenters.back_translation import Config as BackTranslationConfig
from danlu.data.augmenters.edits import Config as EditsConfig
from danlu.data.augmenters.edits import Edits
from danlu.data.augmenters.images import Config as ImagesConfig
from danlu.data.augmenters.images import Images
from danlu.data.augmenters.lookalikes import Config as LookalikesConfig
from danlu.data.augmenters.lookalikes import Homophones, Shapes, Typos
from danlu.data.augmenters.synonyms import Config as SynonymsConfig
from danlu.data.augmenters.synonyms import Synonyms
from danlu.data.progress import track
from danlu.data.sources import Row, read_rows

__all__ = ["Config", "make_augmenters", "run"]

_Edit = Literal["swap", "delete", "insert"]
_Image = Literal["rotate", "crop", "flip", "colour", "cutout"]
_Slip = Literal["homophones", "shapes", "typos"]
Method = Literal["synonyms", _Edit, _Slip, "back-translation", _Image]


class Config(Base):
    """Which rows, which methods, how many variants."""

    data: Input = doc(..., "rows to augment: jsonl, parquet, or text with one row a line", "要扩充的数据：jsonl、parquet，或每行一条的文本")  # fmt: skip
    out: Output = doc(..., "jsonl file to write", "输出的 jsonl 文件")
    methods: list[Method] = doc(
        ..., f"any of {', '.join(TEXT_METHODS)}; or of {', '.join(IMAGE_METHODS)}", "方法，可给多个；文本与图像不可混用"
    )
    copies: int = doc(1, "variants of each row by each method", "每种方法为每行生成几份", ge=1, le=100)
    keep: bool = doc(True, "write the rows themselves too", "同时写出原来的行")
    seed: int = doc(0, "chooses the variants", "随机种子")
    synonyms: SynonymsConfig = doc(SynonymsConfig(), "synonyms, and insert", "同义词（insert 也用）")
    edits: EditsConfig = doc(EditsConfig(), "swap, delete, insert", "换位、删除、插入")
    lookalikes: LookalikesConfig = doc(LookalikesConfig(), "homophones, shapes, typos", "同音字、形近字、键盘误击")
    back_translation: BackTranslationConfig = doc(BackTranslationConfig(), "who translates", "由谁翻译")
    images: ImagesConfig = doc(ImagesConfig(), "rotate, crop, flip, colour, cutout", "图像各方法的幅度")

    @field_validator("methods", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def run(config: Config) -> dict[str, int]:
    """Write the rows and print how many each method made; return these counts."""
    augmenters = make_augmenters(config)
    of_images = config.methods[0] in IMAGE_METHODS
    tally: Counter[str] = Counter()
    made = config.out.with_name(f"{config.out.stem}-images")
    with atomic_path(config.out) as file, atomic_folder(made) if of_images else nullcontext(made) as folder:
        rows = track(_read(config, of_images), None, tr("augmenting rows", "扩充数据"))
        folders = ImageFolders(config.out.parent, folder, made.name) if of_images else None
        with open(file, "w", encoding="utf-8", errors="surrogatepass", newline="\n") as lines:
            for row in augment_rows(rows, augmenters, copies=config.copies, seed=config.seed, keep=config.keep, tally=tally, folders=folders):  # fmt: skip
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    _show(config, tally)
    return dict(tally)


def make_augmenters(config: Config) -> dict[str, Augmenter]:
    """The augmenters by method, in the order given; what they read is loaded when first needed.

    Raises ConfigError for methods of both kinds or given twice, and for back-translation by nobody or by two.
    """
    methods = config.methods
    if not methods or len(set(methods)) < len(methods) or len({method in IMAGE_METHODS for method in methods}) > 1:
        raise ConfigError(
            tr(f"methods: {', '.join(methods) or 'none'}", f"methods：{'、'.join(methods) or '空'}"),
            tr("give each once, and those of texts or those of images", "每种给一次；文本与图像的方法不能混用"),
        )
    words = Synonyms(config.synonyms)
    slips = {"homophones": Homophones, "shapes": Shapes, "typos": Typos}
    found: dict[str, Augmenter] = {}
    for method in methods:
        if method in get_args(_Image):
            found[method] = Images(method, config.images)  # type: ignore[arg-type]
        elif method in get_args(_Edit):
            found[method] = Edits(method, config.edits, words)  # type: ignore[arg-type]
        elif method in slips:
            found[method] = slips[method](config.lookalikes)
        elif method == "synonyms":
            found[method] = words
        else:
            found[method] = BackTranslation(_translator(config.back_translation), config.back_translation)
    return found


def _translator(config: BackTranslationConfig) -> Translator:
    if (config.folder is None) == (config.url is None):
        raise ConfigError(
            tr("back-translation needs one translator", "回译需要一个翻译者"),
            tr(
                "give --back_translation.folder (danlu translator trains one) or --back_translation.url",
                "请给出 --back_translation.folder（由 danlu translator 训练）或 --back_translation.url",
            ),
        )
    if config.folder is None:
        return EndpointTranslator.of(config)
    from danlu.generate import translate

    return translate.Translator(config.folder)


def _read(config: Config, of_images: bool) -> Iterator[Row]:
    """The rows; their images named relative to where the output stands."""
    here = config.data.parent if config.data.is_file() else config.data
    for row in read_rows(config.data, columns=("image",) if of_images else None, split="line"):
        yield row | {"image": _relative(here / row["image"], config.out)} if of_images else row


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path, out.parent)).as_posix()


def _show(config: Config, tally: Counter[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(config.out))
    table.add_column(tr("method", "方法"))
    table.add_column(tr("variants", "新增"), justify="right")
    table.add_column(tr("would not change", "未能改动"), justify="right")
    table.add_row(tr("rows read", "读入"), f"{tally['rows']:,}", "")
    for method in config.methods:
        table.add_row(method, f"{tally[method]:,}", f"{tally[f'{method}_unchanged']:,}")
    Console().print(table)
