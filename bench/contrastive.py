"""A poet held against a worse one, and against its own past: contrastive decoding and contrastive search.

把诗人与更差的诗人对比，或与自己写过的内容对比：对比解码与对比搜索。

Both learn the same five-character quatrains (fetched once), the worse one with a fraction of the weights and
of the steps. All ways write to the same titles, which neither has met; poems of people stand beside theirs.
"""

from collections.abc import Callable

from _common import Raw, arguments, ratio, show, write
from _poet import FIGURES, Verses, judged, train_poet, verses

from danlu.generate.contrastive import contrastive_decoding, contrastive_search
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models.decoder import Decoder

WORK = "verses by contrast: repetition, variety, and likelihood by the expert / 对比方法写的诗：重复、多样性与专家给出的似然"
MOST, ASKED = 30, 48
AMATEUR = {"hidden_size": 32, "num_hidden_layers": 1}


def ways(expert: Decoder, amateur: Decoder, read: Verses) -> dict[str, Callable[[list[str]], list[str]]]:
    """Each way as a function from prompts to answers."""
    engine, tokenizer = Engine(expert, read.tokenizer), read.tokenizer
    greedy = SamplingParams(temperature=0, max_tokens=MOST)
    drawn = SamplingParams(temperature=1, max_tokens=MOST, seed=0)

    def by_engine(params: SamplingParams) -> Callable[[list[str]], list[str]]:
        return lambda prompts: [answer.text for answer in engine.generate(prompts, params)]

    def decoded(params: SamplingParams, alpha: float) -> Callable[[list[str]], list[str]]:
        def write_all(prompts: list[str]) -> list[str]:
            ids = [tokenizer.encode(prompt) for prompt in prompts]
            return [contrastive_decoding(expert, amateur, tokenizer, own, params, alpha=alpha)[0].text for own in ids]

        return write_all

    def searched(penalty_alpha: float) -> Callable[[list[str]], list[str]]:
        limits = SamplingParams(max_tokens=MOST)

        def write_all(prompts: list[str]) -> list[str]:
            ids = [tokenizer.encode(prompt) for prompt in prompts]
            return [contrastive_search(expert, tokenizer, own, limits, penalty_alpha=penalty_alpha).text for own in ids]

        return write_all

    return {
        "greedy": by_engine(greedy),
        "temperature 1": by_engine(drawn),
        "contrastive decoding, alpha 0.1": decoded(greedy, 0.1),
        "contrastive decoding, alpha 0.5": decoded(greedy, 0.5),
        "contrastive decoding, no alpha": decoded(greedy, 1e-12),
        "contrastive search, 0.3": searched(0.3),
        "contrastive search, 0.6": searched(0.6),
    }


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=300, help="steps of the expert's training / 专家的训练步数")
    read = parser.parse_args()
    poems = verses()
    expert = train_poet(poems, read.steps)
    amateur = train_poet(poems, read.steps // 5, **AMATEUR)
    prompts = [f"{text.partition(chr(10))[0]}\n" for text in poems.held[:ASKED]]
    texts = {way: write_all(prompts) for way, write_all in ways(expert, amateur, poems).items()}
    texts["people"] = [text.partition("\n")[2] for text in poems.held[:ASKED]]
    told = {way: judged(expert, poems.tokenizer, prompts, answers) for way, answers in texts.items()}
    percents = ("repeated", "form", "distinct")
    rows = [
        (way, f"{one['surprise']:.2f}", *(f"{one[name]:.0%}" for name in percents), texts[way][0].replace("\n", ""))
        for way, one in told.items()
    ]
    show(("way", *FIGURES, prompts[0].strip()), rows)
    people = judged(amateur, poems.tokenizer, prompts, texts["people"])["surprise"]
    sizes = {
        name: sum(p.numel() for p in model.parameters()) for name, model in (("expert", expert), ("amateur", amateur))
    }
    print(f"\nparameters: {sizes}")
    print(f"surprise of people's poems: the expert's {told['people']['surprise']:.2f}, the amateur's {people:.2f}\n")
    raw: Raw = {way: [told[way]["repeated"]] for way in ("greedy", "contrastive decoding, alpha 0.1", "contrastive search, 0.6")}  # fmt: skip
    ratios = {
        "repetition_decoding_vs_greedy": ratio(raw, "contrastive decoding, alpha 0.1", "greedy"),
        "repetition_search_vs_greedy": ratio(raw, "contrastive search, 0.6", "greedy"),
    }
    write(read.json, WORK, ratios, raw, figures=told, parameters=sizes, amateur_on_people=people, texts=texts)


if __name__ == "__main__":
    main()
