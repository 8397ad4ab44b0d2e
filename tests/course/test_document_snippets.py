"""Snippets of the roadmap documents that do not work: they still fail in the way the lessons say, danlu's own do not."""

import copy
import re
import warnings
from collections import Counter

import pytest
import torch
from torch import nn

from danlu.core.errors import ConfigError
from danlu.data.batches import PackedBatches
from danlu.data.pack import Document
from danlu.data.step import make_step, step_config
from danlu.generate.params import SamplingParams
from danlu.models.quantised import Int8Linear, is_quantisable
from danlu.models.surgery import replace
from danlu.tokenizer import Tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import Hook, fit
from danlu.train.objective import cross_entropy
from tests.conftest import tiny_decoder


def test_a_loop_with_an_undefined_step_fails_after_the_weights_have_changed():
    model = nn.Linear(3, 1)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(NameError, match="step"):
        for batch in torch.randn(4, 2, 3):
            optimizer.zero_grad()
            loss = model(batch).pow(2).mean()
            loss.backward()
            optimizer.step()
            if step % 100 == 0:  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
                print(loss.item())
    assert not torch.equal(before["weight"], model.weight)


def test_the_loop_counts_its_own_steps():
    class Seen(Hook):
        def on_start(self, loop):
            self.steps = []

        def on_step(self, loop, metrics):
            self.steps.append(loop.state.step)

    seen = Seen()
    batches = PackedBatches([Document([i % 9 for i in range(8)]) for _ in range(8)], 8, 2)
    config = TrainConfig(steps=3, batch_size=2, seq_len=8, precision="fp32", warmup=0)
    end = fit(tiny_decoder(9), batches, cross_entropy, config, hooks=[seen])
    assert (seen.steps, end.step) == ([1, 2, 3], 3)


@pytest.fixture(scope="module")
def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


def test_dynamic_quantisation_leaves_the_blocks_of_gpt2_as_they_are(gpt2: nn.Module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after = torch.ao.quantization.quantize_dynamic(gpt2, {nn.Linear}, dtype=torch.qint8)
    kinds = {name: type(module).__name__ for name, module in gpt2.named_modules() if name.count(".") == 4}
    assert set(kinds.values()) >= {"Conv1D"}
    assert kinds == {name: type(after.get_submodule(name)).__name__ for name in kinds}
    assert type(after.lm_head) is not nn.Linear  # the one matrix that it finds was shared with the embedding


def test_danlu_refuses_to_quantise_nothing(gpt2: nn.Module):
    with pytest.raises(ConfigError) as fault:
        replace(gpt2, is_quantisable, lambda _, layer: Int8Linear.from_linear(layer))
    assert "Conv1D" in fault.value.do


def test_a_prompt_cut_off_by_characters_takes_the_answer_with_it(tokenizer: Tokenizer):
    chat = [{"role": "user", "content": "春山来。"}]
    prompt, answer = tokenizer.render(chat, add_generation_prompt=True).ids, "秋水去，夏花落。"
    ids = prompt + tokenizer.encode(answer)
    text = tokenizer.chat_text(chat, add_generation_prompt=True)
    assert tokenizer.decode(ids)[len(text) :] == ""
    assert tokenizer.decode(ids[len(prompt) :]) == answer
    assert len(text) - len(tokenizer.decode(prompt)) == 34  # the letters of three marks


def test_a_temperature_without_do_sample_is_not_used(gpt2: nn.Module):
    def different(**more: bool) -> int:
        torch.manual_seed(0)
        wish = {"max_length": 12, "num_return_sequences": 1, "temperature": 0.7, "pad_token_id": 0, **more}
        return len({tuple(gpt2.generate(torch.tensor([[5, 6]]), **wish)[0].tolist()) for _ in range(8)})

    assert (different(), different(do_sample=True)) == (1, 8)


def test_danlu_refuses_several_answers_without_a_temperature():
    with pytest.raises(ConfigError, match="all the same"):
        SamplingParams.parse({"temperature": 0, "n": 8}, "here")
    assert SamplingParams(temperature=0.7, n=8).n == 8


@pytest.mark.parametrize(
    "text",
    ["if a < b and c > d: swap(a, b)", "由 1<2 且 3>2，可知 C++ 不是 C#。", "Mail li.bai@example.com, it's 3.14!"],
)
def test_cleaning_by_regular_expressions_takes_content_and_the_steps_do_not(text: str):
    without_tags = re.sub(r"<[^>]+>", "", text)
    without_symbols = re.sub(r"[^\w\s]", "", without_tags)
    assert without_symbols != text
    assert len(without_symbols) < len(text)
    row = {"id": "", "source": "", "text": text}
    for name in ("html", "repair", "clean", "language", "normalise", "chinese", "boilerplate"):
        row = make_step(name, step_config(name, {})).apply(row, Counter())
    assert row["text"] == text


def test_control_characters_removed_before_mojibake_is_repaired_cannot_be_read_back():
    clean, repair = (make_step(name, step_config(name, {})) for name in ("clean", "repair"))
    row = {"id": "", "source": "", "text": "中国的诗".encode().decode("latin-1")}
    assert clean.apply(repair.apply(row, Counter()), Counter())["text"] == "中国的诗"
    assert "中" not in repair.apply(clean.apply(row, Counter()), Counter())["text"]
