"""GPT, BERT and T5 of equal size learn the same poems, each by its own objective; then all three get the same questions.

同样大小的 GPT、BERT 与 T5 各按自己的目标学习同一批诗，再回答同样的问题。

Each learns 32 quatrains by heart, by its own objective: the next character, hidden words, blanks. Then characters are
asked for, with text on both sides, only before, or only behind them: how many nats the right one costs, how often the
first guess is right. Also: how many tokens are learnt from, and what becomes of an encoder, which sees both sides, that
is taught to guess the next character.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from _common import Raw, arguments, show, write
from _poet import verses
from torch import Tensor

from danlu.data.batches import PackedBatches, tokenise_texts
from danlu.data.denoise import DenoiseBatches, SpanConfig, add_sentinels, sentinel_ids
from danlu.data.masking import MaskedBatches, Masker, MaskingConfig, fixed_masking, mark_words, with_mask
from danlu.data.pack import Document
from danlu.models.base import Batch, LanguageModel
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.models.encoder import Encoder, EncoderConfig
from danlu.models.t5 import T5, T5Config
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import Objective, aligned_cross_entropy, cross_entropy

WORK = "three objectives on the same poems, then the same questions / 三种目标学同一批诗，再答同样的题"
POEMS, ROWS, LENGTH, WIDTH, HEADS = 32, 8, 64, 128, 4
SPANS, MASKING = SpanConfig(sentinels=16), MaskingConfig()
FIRST, PLACES = 8, 4  # the least number of characters before one that is asked for; how many are, of each poem
STEPS, PEEKED = 500, 600
FIRST_KIND, KINDS = 20, 64  # ids of characters
BEFORE, BOTH, BEHIND = "text before it only", "text on both sides", "text behind it only"


class Poems(NamedTuple):
    """What is learnt by heart, and the characters that it is made of."""

    texts: list[str]
    tokenizer: Tokenizer


class Learner(NamedTuple):
    """A model, what it learns from and by, and how it reads a question."""

    model: LanguageModel
    tokenizer: Tokenizer
    rate: float  # the peak learning rate that its verb takes unless told: danlu pretrain, mlm, denoise
    batches: Iterator[Batch]
    asked: list[Batch]  # every poem once, with the same blanks for good
    objective: Objective


class Question(NamedTuple):
    """A character that is asked for, and what is told of the text around it."""

    left: str
    wanted: str
    right: str


def by_heart() -> Poems:
    """The poems; every character of them is a token."""
    texts = verses().learnt[:POEMS]
    settings = TokenizerConfig(kind="char", vocab_size=4000, min_frequency=1, chat_template="none")
    return Poems(texts, train_tokenizer(texts, settings))


def learners(read: Poems) -> dict[str, Learner]:
    """The three, of nearly the same number of parameters; what is learnt from is packed alike."""
    seed = torch.Generator().manual_seed(0)
    plain, masking, blanks = read.tokenizer, with_mask(read.tokenizer), add_sentinels(read.tokenizer, SPANS.sentinels)
    gpt = Decoder(DecoderConfig(vocab_size=plain.vocab_size, hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=HEADS, intermediate_size=384, max_position_embeddings=LENGTH))  # fmt: skip
    bert = Encoder(EncoderConfig(vocab_size=masking.vocab_size, hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=HEADS, max_position_embeddings=LENGTH, pad_token_id=masking.pad_id))  # fmt: skip
    t5 = T5(T5Config(vocab_size=blanks.vocab_size, d_model=WIDTH, d_kv=WIDTH // HEADS, num_heads=HEADS, d_ff=256, num_layers=2, n_positions=LENGTH, pad_token_id=blanks.pad_id, eos_token_id=blanks.eos_id))  # fmt: skip
    for model in (gpt, bert, t5):
        model.initialise(seed)
    return {
        "GPT": Learner(gpt, plain, 1e-2, *_whole(read, plain), cross_entropy),
        "BERT": Learner(bert, masking, 3e-3, *_masked(read, masking), aligned_cross_entropy),
        "T5": Learner(t5, blanks, 1e-2, *_blanked(read, blanks, t5.start_id), aligned_cross_entropy),
    }


def _packed(documents: list[Document], tokenizer: Tokenizer, *, once: bool = False) -> PackedBatches:
    still = {"shuffle": False, "epochs": 1, "drop_last": False} if once else {}
    return PackedBatches(documents, LENGTH, ROWS, pad_id=tokenizer.pad_id, **still)


def _whole(read: Poems, tokenizer: Tokenizer) -> tuple[Iterator[Batch], list[Batch]]:
    documents = tokenise_texts(read.texts, tokenizer)
    return _packed(documents, tokenizer), list(_packed(documents, tokenizer, once=True))


def _masked(read: Poems, tokenizer: Tokenizer) -> tuple[Iterator[Batch], list[Batch]]:
    documents = mark_words(read.texts, tokenizer)
    batches = MaskedBatches(_packed(documents, tokenizer), Masker(tokenizer, MASKING))
    return batches, fixed_masking(documents, LENGTH, ROWS, tokenizer, MASKING)


def _blanked(read: Poems, tokenizer: Tokenizer, start: int) -> tuple[Iterator[Batch], list[Batch]]:
    documents = tokenise_texts(read.texts, tokenizer, add_eos=False)
    learnt, asked = (
        DenoiseBatches(
            _packed(documents, tokenizer, once=once),
            sentinel_ids(tokenizer),
            SPANS,
            start_id=start,
            eos_id=tokenizer.eos_id,
        )
        for once in (False, True)
    )
    return learnt, list(asked)


def learn(one: Learner, steps: int) -> float:
    """Train; return processor seconds."""
    began = time.process_time()
    settings = {
        "steps": steps,
        "batch_size": ROWS,
        "seq_len": LENGTH,
        "precision": "fp32",
        "device": "cpu",
        "lr": one.rate,
    }
    fit(one.model, one.batches, one.objective, TrainConfig.parse(settings, "bench"))
    one.model.eval()
    return time.process_time() - began


@torch.no_grad()
def own_loss(one: Learner, objective: Objective) -> float:
    """Nats a label, over all poems."""
    found = [objective(one.model, batch) for batch in one.asked]
    return float(sum(float(loss.total) for loss in found) / sum(int(loss.count) for loss in found))


def learnt_share(one: Learner) -> float:
    """Labelled tokens, as a share of the poems' own tokens that the model (of T5, both ends) reads."""
    labels = sum(int((batch["labels"] != -100).sum()) for batch in one.asked)
    return labels / sum(int((batch["segment_ids"] != 0).sum()) for batch in one.asked)


# Questions


def questions(texts: Sequence[str], seed: int = 0) -> dict[str, list[Question]]:
    """PLACES characters of each poem's body, asked for twice, with FIRST or more before them; the first of its title."""
    draw = random.Random(seed)
    inside, first = [], []
    for text in texts:
        start = max(FIRST, text.index("\n") + 1)
        places = [at for at in range(start, len(text) - 2) if text[at].isalpha()]
        inside += [Question(text[:at], text[at], text[at + 1 :]) for at in draw.sample(places, PLACES)]
        first.append(Question(text[:1], text[1], text[2:]))  # of "《春晓》..." the bracket is always there
    before = [Question(left, wanted, "") for left, wanted, _ in inside]
    return {BEFORE: before, BOTH: inside, BEHIND: first}


@torch.inference_mode()
def answers(name: str, one: Learner, asked: Sequence[Question]) -> Tensor:
    """Log-probabilities of every token in each question's place, [N, V]."""
    tell = {"GPT": _gpt, "BERT": _bert, "T5": _t5}[name]
    return torch.cat([tell(one, left, right) for left, _, right in asked])


def _gpt(one: Learner, left: str, right: str) -> Tensor:
    """GPT has no way to look at what stands behind: `right` changes nothing."""
    del right
    hidden = one.model.hidden({"input_ids": torch.tensor([one.tokenizer.encode(left)])})
    return one.model.logits(hidden[:, -1]).log_softmax(-1)


def _bert(one: Learner, left: str, right: str) -> Tensor:
    tokenizer = one.tokenizer
    assert tokenizer.mask_id is not None
    (frame,) = tokenizer.encode_framed([""])
    ids = [frame.ids[0], *tokenizer.encode(left), tokenizer.mask_id, *tokenizer.encode(right)]
    ids += frame.ids[-1:] if right else []  # a text that is cut off has no end
    hidden = one.model.hidden({"input_ids": torch.tensor([ids])})
    return one.model.logits(hidden[:, ids.index(tokenizer.mask_id)]).log_softmax(-1)


def _t5(one: Learner, left: str, right: str) -> Tensor:
    assert isinstance(one.model, T5)
    blank, tokenizer = sentinel_ids(one.tokenizer)[0], one.tokenizer
    source = [*tokenizer.encode(left), blank, *tokenizer.encode(right), tokenizer.eos_id]
    batch = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([[one.model.start_id, blank]])}
    return one.model.logits(one.model.hidden(batch)[:, -1]).log_softmax(-1)


class Score(NamedTuple):
    """What the right characters cost on average, and how often the first guess is right."""

    nats: float
    right: float


def score(told: Tensor, characters: Sequence[str], tokenizer: Tokenizer) -> Score:
    """told: log-probabilities [N, V]."""
    wanted = torch.tensor([tokenizer.encode(character)[0] for character in characters])
    cost = -told.gather(1, wanted[:, None]).mean()
    return Score(float(cost), float((told.argmax(-1) == wanted).float().mean()))


@torch.no_grad()
def peeker(read: Poems) -> dict[str, float]:
    """The trap: an encoder, which sees both sides, taught to guess the next of characters that were drawn at random.

    Nobody can predict those. What its loss reports on fresh ones; what it costs where the text really ends; the least
    that anybody can pay, ln KINDS.
    """
    one = learners(read)["BERT"]
    draw = random.Random(0)
    drawn = [
        [draw.randrange(FIRST_KIND, FIRST_KIND + KINDS) for _ in range(LENGTH)] for _ in range(PEEKED * ROWS + 200)
    ]
    batches = _packed([Document(ids) for ids in drawn[200:]], one.tokenizer)
    with torch.enable_grad():
        learn(one._replace(batches=batches, objective=cross_entropy), PEEKED)
    fresh = torch.tensor(drawn[:200])
    loss = cross_entropy(one.model, {"input_ids": fresh, "labels": fresh})
    cut, wanted = fresh[:, : LENGTH // 2], fresh[:, LENGTH // 2]
    last = one.model.logits(one.model.hidden({"input_ids": cut})[:, -1]).log_softmax(-1)
    return {
        "reported": float(loss.total) / int(loss.count),
        "at the end of a text": -float(last.gather(1, wanted[:, None]).mean()),
        "possible": math.log(KINDS),
    }


def compare(made: dict[str, Learner], texts: Sequence[str], steps: int) -> dict[str, dict[str, Any]]:
    """Train each; what it learnt from, what it reached, and what it answers."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in made.items():
        seconds = learn(one, steps)
        found[name] = {
            "parameters": sum(parameter.numel() for parameter in one.model.parameters()),
            "labels": learnt_share(one),
            "seconds": seconds,
            "loss": own_loss(one, one.objective),
        }
        for side, asked in questions(texts).items():
            told = score(answers(name, one, asked), [question.wanted for question in asked], one.tokenizer)
            found[name][side] = told._asdict()
    return found


def told(found: dict[str, dict[str, Any]]) -> None:
    rows = [
        ("parameters", *(f"{one['parameters']:,}" for one in found.values())),
        ("labels a token", *(f"{one['labels']:.2f}" for one in found.values())),
        ("loss of its own objective, nats", *(f"{one['loss']:.2f}" for one in found.values())),
    ]
    for side in (BEFORE, BOTH, BEHIND):
        rows.append((f"{side}: nats", *(f"{one[side]['nats']:.2f}" for one in found.values())))
        rows.append((f"{side}: first guess right", *(f"{one[side]['right']:.0%}" for one in found.values())))
    show(("", *found), [*rows, ("seconds", *(f"{one['seconds']:.0f}" for one in found.values()))])


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training (default: %(default)s) / 训练步数")
    read = parser.parse_args()
    poems = by_heart()
    made = learners(poems)
    found = compare(made, poems.texts, read.steps)
    print()
    told(found)
    trap = peeker(poems)
    show(("an encoder guesses the next of random characters", "nats"), list(trap.items()))
    # How much less the right character costs the one that can see what stands behind it.
    gain = found["GPT"][BEHIND]["nats"] - found["BERT"][BEHIND]["nats"]
    raw: Raw = {name: [one["seconds"]] for name, one in found.items()}
    write(read.json, WORK, {}, raw, models=found, trap=trap, gain=gain)


if __name__ == "__main__":
    main()
