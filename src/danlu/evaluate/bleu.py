"""Measure translations: BLEU and chrF of a translator on pairs, or of a file against its references.

衡量译文：翻译模型在句对上的 BLEU 与 chrF，或一份译文与参考译文相比的得分。

Example: danlu bleu runs/translator/model --data data/pairs
Files, one text a line: danlu bleu --hypotheses mine.txt --references theirs.txt --to zh. Scores are sacrebleu's, and its
signature stands beside them: without it BLEU figures cannot be compared (Post 2018).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import PositiveInt
from rich.console import Console
from rich.table import Table

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError, DataError, MissingExtraError
from danlu.core.files import read_lines, write_json
from danlu.core.folder import ModelFolder
from danlu.core.i18n import tr
from danlu.data.pairs import Pair
from danlu.data.translation import LANGUAGES, Language, load_pairs
from danlu.generate.opening import EngineConfig
from danlu.generate.translate import Translator

__all__ = ["Config", "Scores", "run", "score", "score_pairs"]

_SAMPLES = 10


class Config(Base):
    """A model and pairs, or two files."""

    model: Input | None = doc(None, "model folder of a translator", "翻译模型文件夹")
    data: Input | None = doc(None, "folder of pairs (danlu data pairs)", "句对文件夹（danlu data pairs）")
    split: Literal["valid", "test"] = doc("test", "which held-out pairs", "使用哪部分留出句对")
    limit: PositiveInt | None = doc(
        None, "pairs of each origin at most; default: all", "每个来源最多取多少对；默认全部"
    )
    beams: PositiveInt = doc(1, "beam search over so many translations; 1: greedy", "束搜索的束宽；1 表示贪心")
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")
    hypotheses: Input | None = doc(None, "file of translations to measure, one a line", "待评译文文件，每行一条")
    references: list[Path] = doc([], "file of right translations; several may be given", "参考译文文件，可给出多份")
    to: Language = doc("zh", "language of the files: en or zh", "两份文件的语言：en 或 zh")
    json_: Output | None = doc(None, "write the figures to this file", "把结果写入该文件")


class Scores(NamedTuple):
    """BLEU and chrF from 0 to 100, of `texts` translations; signature: how BLEU was computed."""

    bleu: float
    chrf: float
    texts: int
    signature: str


# lesson: bleu
def score(hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: Language) -> Scores:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popović 2015) of `hypotheses` against each of `references`.

    Chinese is counted by character (sacrebleu's tokenizer 'zh'), English by '13a'. `effective_order`: of a text that
    has no four-grams, those orders are counted that it has. Raises DataError where the numbers of texts differ or
    there are none, MissingExtraError without sacrebleu.
    """
    if not hypotheses or not references or any(len(one) != len(hypotheses) for one in references):
        counts = ", ".join(str(len(one)) for one in references)
        raise DataError(
            tr(f"{len(hypotheses)} translations, but {counts or 0} references",
               f"译文有 {len(hypotheses)} 条，参考译文却有 {counts or 0} 条"),
            tr("each line of one file is measured by the same line of the other", "两份文件须逐行对应"),
        )  # fmt: skip
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise MissingExtraError("sacrebleu", "data") from None
    bleu = BLEU(tokenize="zh" if language == "zh" else "13a", effective_order=True)
    found = bleu.corpus_score(list(hypotheses), references)
    chrf = CHRF().corpus_score(list(hypotheses), references)
    return Scores(found.score, chrf.score, len(hypotheses), str(bleu.get_signature()))


# end lesson


def score_pairs(pairs: Sequence[Pair], written: Sequence[str], language: Language) -> dict[str, Scores]:
    """Scores of what was written in `language` for each pair: of 'all', and of each origin by its name."""
    origins = sorted({pair.origin for pair in pairs})
    groups = {"all": range(len(pairs))} | {
        origin: [number for number, pair in enumerate(pairs) if pair.origin == origin] for origin in origins
    }
    return {
        name: score([written[n] for n in group], [[getattr(pairs[n], language) for n in group]], language)
        for name, group in groups.items()
    }


def run(config: Config) -> dict[str, Any]:
    """Measure, print, record in the model's `danlu.json`; return the figures."""
    if config.hypotheses is not None:
        if config.model is not None or config.data is not None:
            raise ConfigError(
                tr("either a model and --data, or --hypotheses and --references", "请给出模型与 --data，或 --hypotheses 与 --references，二者择一")
            )  # fmt: skip
        references = [read_lines(path) for path in config.references]
        scores = {config.to: {"all": score(read_lines(config.hypotheses), references, config.to)}}
        figures: dict[str, Any] = {"scores": _plain(scores)}
    elif config.model is None or config.data is None:
        raise ConfigError(
            tr("what is to be measured?", "要衡量什么？"),
            tr("give a model and --data FOLDER, or --hypotheses FILE and --references FILE",
               "请给出模型与 --data 文件夹，或 --hypotheses 文件与 --references 文件"),
        )  # fmt: skip
    else:
        scores, figures = _measured(config.model, config.data, config)
    _show(scores)
    for sample in figures.get("samples", []):
        Console().print(f"\n{sample['source']}\n→ {sample['written']}\n= {sample['reference']}", markup=False)
    if config.json_ is not None:
        write_json(config.json_, figures)
    return figures


def _measured(model: Path, data: Path, config: Config) -> tuple[dict[str, dict[str, Scores]], dict[str, Any]]:
    pairs = _limited(load_pairs(data, config.split), config.limit)
    translator, scores, samples = Translator(model, config.engine), {}, []
    for source, target in (LANGUAGES, LANGUAGES[::-1]):
        texts = [getattr(pair, source) for pair in pairs]
        written = translator.translate(texts, source, target, beams=config.beams)
        scores[target] = score_pairs(pairs, written, target)
        every = max(1, len(pairs) // (_SAMPLES // 2))
        samples += [
            {"source": texts[n], "written": written[n], "reference": getattr(pairs[n], target), "to": target}
            for n in range(0, len(pairs), every)[: _SAMPLES // 2]
        ]
    figures = {"scores": _plain(scores), "beams": config.beams, "split": config.split}
    ModelFolder.open(model).record(bleu=figures)
    return scores, {**figures, "samples": samples}


def _limited(pairs: list[Pair], limit: int | None) -> list[Pair]:
    """The first `limit` pairs of each origin."""
    kept, counts = [], dict[str, int]()
    for pair in pairs:
        counts[pair.origin] = counts.get(pair.origin, 0) + 1
        if limit is None or counts[pair.origin] <= limit:
            kept.append(pair)
    return kept


def _plain(scores: dict[str, dict[str, Scores]]) -> dict[str, Any]:
    return {
        f"to_{language}": {name: one._asdict() | {"bleu": round(one.bleu, 2), "chrf": round(one.chrf, 2)} for name, one in by_origin.items()}
        for language, by_origin in scores.items()
    }  # fmt: skip


def _show(scores: dict[str, dict[str, Scores]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in (tr("into", "译成"), tr("origin", "来源")):
        table.add_column(column)
    for column in (tr("texts", "条数"), "BLEU", "chrF"):
        table.add_column(column, justify="right")
    for language, by_origin in scores.items():
        for name, one in by_origin.items():
            table.add_row(language, name, str(one.texts), f"{one.bleu:.2f}", f"{one.chrf:.2f}")
    console = Console()
    console.print(table)
    for language, by_origin in scores.items():
        console.print(f"{language}: {by_origin['all'].signature}", style="dim", soft_wrap=True)
