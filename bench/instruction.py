"""What instruction tuning loses by loss on the question, by a forgotten end of turn, and by another template.

指令微调中三种疏忽的代价：在提问上也计算损失、忘了学轮次结束符、推理时换了模板。

Chats without a download: the question is the head of a function of Python's standard library, the answer the first
line of its docstring. One base model is pre-trained on the library's source and tuned in three ways, on the same
chats in the same order; all are asked about functions that none of them was tuned on.
"""

import ast
import copy
import random
import sysconfig
from collections.abc import Callable
from pathlib import Path

import torch
from _common import arguments, interleave, ratio, show, write
from _small import decoder

from danlu.data.batches import PackedBatches, tokenise_texts, valid_batches
from danlu.data.pack import Document
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models.decoder import Decoder
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.hooks import mean_loss
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

VOCABULARY, LENGTH, ROWS, HELD_OUT, ASKED = 1024, 128, 16, 300, 40
END = "<|im_end|>"
WORK = (
    "answer loss after instruction tuning on the standard library's functions, by what the loss falls on and how the "
    "question is put / 在标准库函数上做指令微调：损失落在哪里、提问用什么格式，对回答损失的影响"
)
Chat = list[dict[str, str]]
Render = Callable[[Tokenizer, Chat], Document]


def functions() -> list[Chat]:
    """A chat for every documented function of the standard library, in a fixed random order."""
    chats: dict[str, Chat] = {}
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef) and (said := ast.get_docstring(node)):
                head = f"def {node.name}({ast.unparse(node.args)})"
                answer = said.split("\n")[0].strip()
                if len(head) <= 100 and 10 <= len(answer) <= 100:
                    chats[head] = [{"role": "user", "content": head}, {"role": "assistant", "content": answer}]
    ordered = [chats[head] for head in sorted(chats)]
    random.Random(0).shuffle(ordered)
    return ordered


def source() -> list[str]:
    """The library's source, in texts of twenty lines, in a fixed random order."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    lines = [file.read_text(encoding="utf-8").splitlines() for file in files]
    texts = ["\n".join(one[at : at + 20]) for one in lines for at in range(0, len(one), 20)]
    random.Random(0).shuffle(texts)
    return [text for text in texts if text.strip()]


def on_the_answer(tokenizer: Tokenizer, chat: Chat) -> Document:
    """danlu's way: loss on the answer and its end of turn."""
    return Document(*tokenizer.render(chat))


def on_everything(tokenizer: Tokenizer, chat: Chat) -> Document:
    """The same tokens, loss on all of them."""
    return Document(tokenizer.render(chat).ids)


def without_the_end(tokenizer: Tokenizer, chat: Chat) -> Document:
    """The same tokens, loss on the answer but not on the token that ends it."""
    ids, mask = tokenizer.render(chat)
    end = tokenizer.backend.token_to_id(END)
    return Document(ids, [int(counts and token != end) for token, counts in zip(ids, mask, strict=True)])


def asked_as(layout: str) -> Render:
    """The question put into another layout; the loss falls on the answer's own text and its end, as always."""

    def render(tokenizer: Tokenizer, chat: Chat) -> Document:
        question = tokenizer.encode(layout.format(chat[0]["content"]))
        answer = [*tokenizer.encode(chat[1]["content"]), tokenizer.backend.token_to_id(END)]
        return Document(question + answer, [0] * len(question) + [1] * len(answer))

    return render


def config(steps: int, **settings: float) -> TrainConfig:
    """The loop's settings."""
    still = {"precision": "fp32", "device": "cpu", "seq_len": LENGTH, "warmup": 20, "lr": 3e-3, "matrix_lr": 0.02}
    return TrainConfig.parse({**still, "steps": steps, **settings}, "bench")


def tuned(base: Decoder, tokenizer: Tokenizer, chats: list[Chat], render: Render, steps: int, seed: int) -> Decoder:
    """A copy of the base model, tuned on the chats."""
    model = copy.deepcopy(base)
    documents = [render(tokenizer, chat) for chat in chats]
    batches = PackedBatches(documents, LENGTH, ROWS, seed=seed, long="truncate", pad_id=tokenizer.pad_id)
    fit(model, batches, cross_entropy, config(steps, lr=1e-3, matrix_lr=8e-3))
    return model


def answer_loss(model: Decoder, tokenizer: Tokenizer, chats: list[Chat], render: Render = on_the_answer) -> float:
    """Nats per token of the answers, the end of turn included."""
    batches = valid_batches([render(tokenizer, chat) for chat in chats], 2 * LENGTH, ROWS, pad_id=tokenizer.pad_id)
    return mean_loss(model, batches, cross_entropy, torch.device("cpu"), "fp32")


def stops(model: Decoder, tokenizer: Tokenizer, chats: list[Chat]) -> float:
    """The share of answers that end by themselves within 80 tokens."""
    told = Engine(model, tokenizer).generate(
        [chat[:1] for chat in chats[:ASKED]], SamplingParams(max_tokens=80, seed=0)
    )
    return sum(answer.finish_reason == "stop" for answer in told) / len(told)


def main() -> None:
    parser = arguments(__doc__, repeats=2)
    parser.add_argument("--base-steps", type=int, default=300, help="steps of pre-training / 预训练步数")
    parser.add_argument("--steps", type=int, default=100, help="steps of tuning / 微调步数")
    read = parser.parse_args()
    chats, texts = functions(), source()
    held, seen = chats[:HELD_OUT], chats[HELD_OUT:]
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=VOCABULARY))
    base = decoder(tokenizer.vocab_size, hidden_size=96, num_hidden_layers=3)
    batches = PackedBatches(tokenise_texts(texts, tokenizer), LENGTH, ROWS, pad_id=tokenizer.pad_id)
    fit(base, batches, cross_entropy, config(read.base_steps))

    ways = {"answer": on_the_answer, "everything": on_everything, "no_end": without_the_end}
    models: dict[str, Decoder] = {"base": base}
    seeds = {name: iter(range(read.repeats + 1)) for name in ways}

    def tune(name: str) -> float:
        models[name] = tuned(base, tokenizer, seen, ways[name], read.steps, next(seeds[name]))
        return answer_loss(models[name], tokenizer, held)

    raw = interleave({name: lambda name=name: tune(name) for name in ways}, read.repeats)
    ending = {name: stops(model, tokenizer, held) for name, model in models.items()}
    rows = [("base", answer_loss(base, tokenizer, held), ending["base"])]
    rows += [(name, sum(losses) / len(losses), ending[name]) for name, losses in raw.items()]
    show(("tuned with loss on", "answer loss, nats a token", "answers that end"), rows)
    print()
    layouts = {
        "as trained": on_the_answer,
        "no newline after 'assistant'": asked_as("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant"),
        "### Instruction": asked_as("### Instruction:\n{}\n### Response:\n"),
        "bare": asked_as("{}\n"),
    }
    asked = {name: answer_loss(models["answer"], tokenizer, held, render) for name, render in layouts.items()}
    show(("the model tuned on the answers, asked", "answer loss, nats a token"), list(asked.items()))
    print(f"\n{len(seen)} chats to tune on, {len(held)} held out\n")
    ratios = {f"answer_loss_vs_{name}": ratio(raw, "answer", name) for name in ("everything", "no_end")}
    write(read.json, WORK, ratios, raw, ending=ending, asked=asked)


if __name__ == "__main__":
    main()
