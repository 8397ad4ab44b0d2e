"""Byte-pair encoding by hand beside the compiled `tokenizers` library: the same merges, and how long both take.

手写的字节对编码与编译实现的 tokenizers 库：合并规则是否完全相同，各用多少时间。

Then what vocabularies learnt from English, from Chinese and from both make of either language. The English is
Python's own documentation; the Chinese is danlu's lessons, or what lies at --chinese, such as prepared poems.
"""

import json
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import tokenizers
from _common import arguments, interleave, ratio, show, write
from tokenizers import models, trainers

import danlu
from danlu.data.load import load_split
from danlu.tokenizer.bpe import BytePairEncoding, byte_alphabet
from danlu.tokenizer.pretokenize import byte_level

SIZE = 2000  # tokens of the vocabulary
CHARACTERS = 200_000  # of each language, at most; a tenth as many again to measure on
WORK = f"learning {SIZE} byte-level BPE tokens / 学习含 {SIZE} 个词元的字节级 BPE 词表"


def library(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """The same training by the compiled library."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = byte_level()
    alphabet = list(byte_alphabet().values())
    trained.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    )
    return trained


def merges_of(trained: tokenizers.Tokenizer) -> list[tuple[bytes, ...]]:
    byte_of = {character: byte for byte, character in byte_alphabet().items()}
    merges = json.loads(trained.to_str())["model"]["merges"]
    return [tuple(bytes(byte_of[character] for character in part) for part in pair) for pair in merges]


def halves(texts: list[str]) -> tuple[list[str], str]:
    """Texts to learn from, up to CHARACTERS, and a later stretch to measure on."""
    text = "\n".join(islice(texts, CHARACTERS))[: CHARACTERS * 11 // 10]
    cut = len(text) * 10 // 11
    return text[:cut].splitlines(keepends=True), text[cut:]


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--chinese", type=Path, help="folder or file of Chinese text / 中文文本所在的目录或文件")
    read = parser.parse_args()
    if read.chinese:
        chinese = [row["text"] for row in load_split(read.chinese, "train")]
    else:
        course = Path(danlu.__file__).parent / "course"
        chinese = [file.read_text(encoding="utf-8") for file in sorted(course.glob("*/*/lesson.zh.md"))]
    corpora = {"English": halves([topics[name] for name in sorted(topics)]), "Chinese": halves(chinese)}
    learnt = {name: texts for name, (texts, _) in corpora.items()}
    learnt["both"] = learnt["English"] + learnt["Chinese"]
    both: dict[str, BytePairEncoding | tokenizers.Tokenizer] = {}

    def train(who: str) -> None:
        both[who] = BytePairEncoding.train(learnt["both"], SIZE, 2) if who == "danlu" else library(learnt["both"], SIZE)

    raw = interleave({"danlu": lambda: train("danlu"), "tokenizers": lambda: train("tokenizers")}, read.repeats)
    theirs = merges_of(both["tokenizers"])
    same = sum(one == other for one, other in zip(both["danlu"].merges, theirs, strict=True)) / len(theirs)

    rows = []
    for name, texts in learnt.items():
        encoding = both["danlu"] if name == "both" else BytePairEncoding.train(texts, SIZE, 2)
        tokens = {language: len(encoding.encode(text)) / len(text) for language, (_, text) in corpora.items()}
        rows.append((name, *(f"{share:.2f}" for share in tokens.values())))
    show(("learnt from", "tokens per English character", "tokens per Chinese character"), rows)
    print(f"\nmerges equal to the library's: {same:.2%} of {len(theirs)}\n")
    costs = {name: dict(zip(corpora, map(float, shares), strict=True)) for name, *shares in rows}
    ratios = {"train_vs_tokenizers": ratio(raw, "danlu", "tokenizers")}
    write(read.json, WORK, ratios, raw, same_merges=same, tokens_per_character=costs)


if __name__ == "__main__":
    main()
