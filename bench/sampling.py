"""What each way to choose the next token does: to eight probabilities, and to the verses of a small poet.

选择下一个词元的各种方法：对八个概率各做了什么，又让一位小诗人写出什么样的诗。

With --picture FILE.svg the eight probabilities are drawn and nothing else is done. The poet learns five-character
quatrains (fetched once) and writes to titles that it has not met; poems of people stand beside its own.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from _common import Raw, arguments, interleave, ratio, show, write
from _poet import FIGURES, Verses, judged, train_poet, verses
from torch import Tensor

from danlu.core.folder import Lineage
from danlu.core.picture import save_picture
from danlu.generate.beam import beam_search
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.decoder import Decoder
from danlu.ops.sampling import distribution, keep_top_p

WORK = "verses of one poet, by how the next token is chosen / 同一位诗人的诗，按选择下一个词元的方法比较"
TOKENS = tuple("风花水月山雪钟酒")
GUESS = (0.40, 0.25, 0.15, 0.08, 0.06, 0.03, 0.02, 0.01)
PICTURES: dict[str, dict[str, float]] = {
    "the model's own · 原分布": {},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 2": {"temperature": 2.0},
    "top-k 4": {"top_k": 4},
    "top-p 0.75": {"top_p": 0.75},
    "min-p 0.12": {"min_p": 0.12},
    "typical 0.3": {"typical_p": 0.3},
    "temperature 2 → top-p 0.75": {"temperature": 2.0, "top_p": 0.75},
}
WRONG = "top-p 0.75 → temperature 2"  # the order that danlu does not have
WAYS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "greedy, repetition penalty 1.3": {"temperature": 0, "repetition_penalty": 1.3},
    "temperature 0.7": {"temperature": 0.7},
    "temperature 1": {"temperature": 1},
    "temperature 1.5": {"temperature": 1.5},
    "top-k 20": {"temperature": 1, "top_k": 20},
    "top-p 0.7": {"temperature": 1, "top_p": 0.7},
    "min-p 0.1": {"temperature": 1, "min_p": 0.1},
    "typical 0.7": {"temperature": 1, "typical_p": 0.7},
}
MOST, ASKED = 30, 64
END = "。"


def shaped(logits: Tensor, **wish: float) -> list[float]:
    """The probabilities that `sample` would draw from."""
    settings = {"temperature": 1.0, **wish}
    return distribution(logits[None], **{name: torch.tensor([value]) for name, value in settings.items()})[0].tolist()


def drawn(path: Path, shapes: dict[str, list[float]]) -> None:
    """A picture of the distributions, a panel each."""
    values = [
        {"way": way, "token": token, "p": p, "place": place, "label": f"{p:.2f}" if p else ""}
        for way, row in shapes.items()
        for place, (token, p) in enumerate(zip(TOKENS, row, strict=True))
    ]
    x = {"field": "token", "type": "nominal", "sort": list(TOKENS), "title": None, "axis": {"labelAngle": 0}}
    y = {"field": "p", "type": "quantitative", "title": None, "scale": {"domain": [0, 0.7]}, "axis": None}
    bars: dict[str, Any] = {"mark": {"type": "bar", "color": "#8fb8e3"}, "encoding": {"x": x, "y": y}}
    text = {"field": "label"}
    labels: dict[str, Any] = {"mark": {"type": "text", "dy": -6, "fontSize": 9}, "encoding": {"x": x, "y": y, "text": text}}  # fmt: skip
    panel = {"field": "way", "type": "nominal", "title": None, "sort": list(shapes)}
    inner = {"width": 200, "height": 90, "layer": [bars, labels]}
    save_picture({"data": {"values": values}, "facet": panel, "columns": 3, "spec": inner, "background": "white"}, path)


def pictures() -> dict[str, list[float]]:
    """What is left of the guess by every way, and by two of them in the wrong order."""
    logits = torch.tensor(GUESS).log()
    shapes = {way: shaped(logits, **wish) for way, wish in PICTURES.items()}
    kept = keep_top_p(logits[None], torch.tensor([0.75]))[0]
    return {**shapes, WRONG: shaped(kept, temperature=2.0)}


def the_documents_call(model: Decoder, read: Verses, prompt: str, times: int = 8) -> dict[str, float]:
    """Different answers among several of transformers' `generate(temperature=0.7)`, without and with do_sample."""
    from transformers import LlamaForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        auto.save(model, Path(folder) / "model", lineage=Lineage(verb="bench"), save_tokenizer=read.tokenizer.save)
        theirs = LlamaForCausalLM.from_pretrained(Path(folder) / "model")
    ids = torch.tensor([read.tokenizer.encode(prompt)])
    found = {}
    for name, own in {"temperature=0.7": {}, "temperature=0.7, do_sample=True": {"do_sample": True}}.items():
        answers = {
            tuple(theirs.generate(ids, max_new_tokens=20, temperature=0.7, pad_token_id=0, **own)[0].tolist())
            for _ in range(times)
        }
        found[name] = len(answers)
    return found


def written(model: Decoder, read: Verses, prompts: list[str]) -> dict[str, list[str]]:
    """The answers of every way, and people's own."""
    engine, tokenizer = Engine(model, read.tokenizer), read.tokenizer
    found = {}
    for way, wish in WAYS.items():
        params = SamplingParams.parse({"max_tokens": MOST, "seed": 0, **wish}, "bench")
        found[way] = [answer.text for answer in engine.generate(prompts, params)]
        if way == "greedy":
            ids = [tokenizer.encode(prompt) for prompt in prompts]
            settings = {"num_beams": 4, "max_tokens": MOST, "stop_ids": tokenizer.stop_ids}
            found["beam search, 4 beams"] = [
                tokenizer.decode(beam_search(model, own, **settings)[0].ids) for own in ids
            ]
    found["people"] = [text.partition("\n")[2] for text in read.held[: len(prompts)]]
    return found


def timed(engine: Engine, prompt: str, number: int = 8) -> Raw:
    """Seconds of so many answers to one prompt, computed together and one by one."""

    def together() -> None:
        engine.generate([prompt], SamplingParams(max_tokens=MOST, n=number, seed=0))

    def one_by_one() -> None:
        for seed in range(number):
            engine.generate([prompt], SamplingParams(max_tokens=MOST, seed=seed))

    return interleave({"together": together, "one by one": one_by_one}, 3)


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the distributions only / 只画分布图")
    parser.add_argument("--steps", type=int, default=300, help="steps of training / 训练步数")
    read = parser.parse_args()
    shapes = pictures()
    if read.picture:
        drawn(read.picture, shapes)
        return
    show(("way", *TOKENS), [(way, *(f"{p:.3f}" for p in row)) for way, row in shapes.items()])
    print()
    poems = verses()
    poet = train_poet(poems, read.steps)
    prompts = [f"{text.partition(chr(10))[0]}\n" for text in poems.held[:ASKED]]
    texts = written(poet, poems, prompts)
    told = {way: judged(poet, poems.tokenizer, prompts, answers) for way, answers in texts.items()}
    percents = ("repeated", "form", "distinct")
    show(
        ("way", *FIGURES, prompts[0].strip()),
        [(way, f"{one['surprise']:.2f}", *(f"{one[name]:.0%}" for name in percents), texts[way][0].replace("\n", "")) for way, one in told.items()],
    )  # fmt: skip
    differ = the_documents_call(poet, poems, prompts[0])
    print(f"\ndifferent answers of 8, transformers: {differ}\n")
    raw = timed(Engine(poet, poems.tokenizer), prompts[0])
    ratios = {"eight_together_vs_one_by_one": ratio(raw, "together", "one by one")}
    write(read.json, WORK, ratios, raw, shapes=shapes, figures=told, document=differ, texts=texts)


if __name__ == "__main__":
    main()
