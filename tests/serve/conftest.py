"""Two tiny models: a poet that knows its two poems by heart, and one that has learnt nothing and cannot chat."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from danlu.core.folder import Lineage
from danlu.generate.engine import Engine, EngineConfig
from danlu.models import auto
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.serve.app import create_app
from danlu.serve.served import Served
from danlu.serve.server import Background, listen
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

POEMS = {
    "写一首五言绝句，题为《炉边》。": "小炉添夜火，新雪落山门。\n客去茶犹热，孤灯照远村。",
    "写一首七言绝句，题为《试笔》。": "晓窗磨墨对清溪，一纸春风入眼低。\n莫道新诗无好句，隔花时有小莺啼。",
}
ASK, POEM = next(iter(POEMS.items()))
CHATS = [[{"role": "user", "content": ask}, {"role": "assistant", "content": poem}] for ask, poem in POEMS.items()]


def decoder(tokenizer: Tokenizer, context: int = 128) -> Decoder:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": context}
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape))
    model.initialise(torch.Generator().manual_seed(0))
    return model


def learn_by_heart(model: Decoder, tokenizer: Tokenizer, steps: int = 120) -> None:
    """Train on both chats, packed into one row, until nothing else comes to its mind."""
    rendered = [tokenizer.render(chat) for chat in CHATS]
    ids = [i for chat in rendered for i in chat.ids]
    batch = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.cat([torch.arange(len(chat.ids)) for chat in rendered])[None],
        "segment_ids": torch.cat([torch.full((len(chat.ids),), number) for number, chat in enumerate(rendered, 1)])[
            None
        ],
    }
    answer = torch.tensor([[bool(m) for chat in rendered for m in chat.mask]])
    targets = batch["input_ids"].masked_fill(~answer, -100)[0, 1:]
    optimiser = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        loss = torch.nn.functional.cross_entropy(model(batch)[0, :-1], targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def save(model: Decoder, tokenizer: Tokenizer, folder: Path, verb: str) -> Path:
    auto.save(model, folder, lineage=Lineage(verb=verb), save_tokenizer=tokenizer.save)
    return folder


@pytest.fixture(scope="session")
def poet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that answers the questions of POEMS with the poems."""
    settings = TokenizerConfig(kind="char", vocab_size=512, min_frequency=1)
    tokenizer = train_tokenizer([*POEMS, *POEMS.values()], settings)
    model = decoder(tokenizer)
    learn_by_heart(model, tokenizer)
    return save(model, tokenizer, tmp_path_factory.mktemp("poet") / "sft" / "model", "sft")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights without a chat template: it writes until its limit."""
    settings = TokenizerConfig(kind="char", vocab_size=512, min_frequency=1, chat_template="none")
    tokenizer = train_tokenizer([*POEMS, *POEMS.values()], settings)
    return save(
        decoder(tokenizer, context=512), tokenizer, tmp_path_factory.mktemp("base") / "base" / "model", "pretrain"
    )


@pytest.fixture
def slow(base: Path) -> Engine:
    """The random model, one request at a time, that never ends by itself before 500 tokens."""
    engine = Engine.open(base, EngineConfig(max_rows=1, device="cpu"))
    engine.tokenizer.stop_ids = ()
    return engine


@pytest.fixture(scope="session")
def served(poet: Path, base: Path) -> Iterator[Background]:
    """A real server on the loopback interface with both models."""
    models = [Served.open(poet), Served.open(base)]
    with Background(create_app(models, local_only=True), listen("127.0.0.1", 0)) as server:
        yield server
