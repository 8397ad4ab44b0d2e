"""Translate between English and Chinese with a model that `danlu translator` trained.

用 danlu translator 训练的模型在中英文之间翻译。

Example: danlu translate runs/translator/model --text "我喜欢看书。" --to en
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError
from danlu.core.files import atomic_path, read_lines
from danlu.core.i18n import tr
from danlu.data.augmenters.back_translation import sentences
from danlu.data.progress import track
from danlu.data.translation import LANGUAGES, Language, tag_ids
from danlu.generate.beam import beam_search
from danlu.generate.opening import EngineConfig
from danlu.generate.params import SamplingParams
from danlu.generate.seq2seq import Seq2Seq
from danlu.models.seq2seq import EncoderDecoder
from danlu.tokenizer import Tokenizer

__all__ = ["Config", "Translator", "run"]

_GREEDY = SamplingParams(temperature=0)


class Config(Base):
    """Which model, which texts, into which language."""

    model: Input = doc(..., "model folder", "模型文件夹")
    text: list[str] = doc([], "a text to translate; may be given several times", "要翻译的文本；可多次给出")
    lines: Input | None = doc(None, "file with one text a line", "文本文件，每行一段")
    to: Language = doc(..., "language to write: en or zh", "译成哪种语言：en 或 zh")
    beams: PositiveInt = doc(1, "beam search over so many translations; 1: greedy", "束搜索的束宽；1 表示贪心")
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")
    json_: Output | None = doc(None, "write texts and translations to this jsonl file", "把原文与译文写入该 jsonl 文件")


class _Part(NamedTuple):
    """A part of text number `text` that is translated by itself."""

    text: int
    ids: list[int]  # as the encoder reads it


class Translator:
    """A translator of both directions: a model folder whose tokenizer has the tags of `danlu.data.translation`."""

    def __init__(self, folder: Path | str, config: EngineConfig | None = None) -> None:
        """Raises FolderError or ConfigError for a folder that is no encoder-decoder, DataError when it has no tags."""
        self._set(Seq2Seq.open(folder, config))

    @classmethod
    def of(cls, model: EncoderDecoder, tokenizer: Tokenizer) -> Self:
        """A translator of a model in memory."""
        made = cls.__new__(cls)
        made._set(Seq2Seq(model, tokenizer))
        return made

    def _set(self, reader: Seq2Seq) -> None:
        self.reader, self.model, self.tokenizer = reader, reader.model, reader.tokenizer
        self.tags = tag_ids(self.tokenizer)

    # lesson: translate
    def translate(
        self,
        texts: Sequence[str],
        source: Language,
        target: Language,
        *,
        beams: int = 1,
        params: SamplingParams | None = None,
    ) -> list[str]:
        """Each text in the language `target`; the order stays, and texts of like length share a batch.

        beams: above 1 searches for the likeliest translation, one text at a time; else params say how tokens are
        chosen, by default greedily. A text longer than the model reads is cut behind sentences, and the translations
        of the parts are joined; what is blank stays so. Raises ConfigError where source and target are one language.
        """
        if source == target or {source, target} != set(LANGUAGES):
            raise ConfigError(
                tr(f"cannot translate from {source} to {target}", f"无法从 {source} 翻译到 {target}"),
                tr("one of them is en, the other zh", "请一个取 en，另一个取 zh"),
            )
        parts = [
            _Part(number, ids)
            for number, text in enumerate(texts)
            for ids in (self._cut(text, self.tags[target]) if text.strip() else ())
        ]
        order = sorted(range(len(parts)), key=lambda at: -len(parts[at].ids))
        sources = [parts[at].ids for at in order]
        written = self._searched(sources, beams) if beams > 1 else self._together(sources, params or _GREEDY)
        answers = dict(zip(order, written, strict=True))
        joined: list[list[str]] = [[] for _ in texts]
        for at, part in enumerate(parts):
            joined[part.text].append(answers[at].strip())
        return [(" " if target == "en" else "").join(pieces) for pieces in joined]

    # end lesson

    def _cut(self, text: str, tag: int) -> list[list[int]]:
        """What the encoder reads of a text: whole where it fits, else as many sentences at a time as fit."""
        room, end = self.model.context - 2, self.tokenizer.eos_id
        whole = self._pieces(text.strip(), room)
        parts = whole
        if len(whole) > 1:
            parts = [[]]
            for sentence in sentences(text.strip()):
                for piece in self._pieces(sentence, room):
                    if len(parts[-1]) + len(piece) > room:
                        parts.append([])
                    parts[-1] += piece
        return [[tag, *part, end] for part in parts if part]

    def _pieces(self, text: str, room: int) -> list[list[int]]:
        """Ids of a text; of its halves, cut at a blank where there is one, as often as it takes to fit."""
        ids = self.tokenizer.encode(text)
        if len(ids) <= room or len(text) == 1:
            return [ids]
        middle = text.rfind(" ", 1, len(text) // 2) + 1 or len(text) // 2
        return self._pieces(text[:middle], room) + self._pieces(text[middle:], room)

    def _together(self, sources: Sequence[list[int]], params: SamplingParams) -> list[str]:
        """`sources` by falling length, so many at a time as the reader takes; each answer ends in reasonable length."""
        rows, found = self.reader.max_rows, list[str]()
        starts = range(0, len(sources), rows)
        for start in track(starts, len(starts), tr("translating", "翻译")):
            asked = sources[start : start + rows]
            each = [
                params.model_copy(
                    update={
                        "max_tokens": min(params.max_tokens, self._longest(ids)),
                        "seed": None if params.seed is None else params.seed + start + place,
                    }
                )
                for place, ids in enumerate(asked)
            ]
            found += [answer.text for answer in self.reader.generate(asked, each)]
        return found

    def _searched(self, sources: Sequence[list[int]], beams: int) -> list[str]:
        found = []
        for ids in track(sources, len(sources), tr("translating", "翻译")):
            best, *_ = beam_search(
                self.model,
                [self.model.start_id],
                num_beams=beams,
                max_tokens=self._longest(ids),
                source=ids,
                stop_ids=self.tokenizer.stop_ids,
            )
            found.append(self.tokenizer.decode(best.ids))
        return found

    def _longest(self, ids: Sequence[int]) -> int:
        """Tokens of a translation: what goes on beyond turns in circles."""
        return min(self.model.context - 1, 2 * len(ids) + 16)


def run(config: Config) -> None:
    """Print the translations; with --json write them beside their texts."""
    texts = [*config.text, *(read_lines(config.lines) if config.lines else [])]
    if not texts:
        raise ConfigError(tr("there is no text", "没有文本"), tr("give --text or --lines", "请给出 --text 或 --lines"))
    source: Language = "zh" if config.to == "en" else "en"
    found = Translator(config.model, config.engine).translate(texts, source, config.to, beams=config.beams)
    for text in found:
        print(text)
    if config.json_ is not None:
        rows = [{source: text, config.to: answer} for text, answer in zip(texts, found, strict=True)]
        with atomic_path(config.json_) as temporary:
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
