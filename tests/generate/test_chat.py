from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from danlu.core.errors import ConfigError
from danlu.core.folder import Lineage
from danlu.generate import chat
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.tokenizer import Tokenizer

SAMPLING = SamplingParams(max_tokens=4, seed=3)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """The messages of each turn, as the engine gets them."""
    seen: list[list[dict[str, str]]] = []
    stream = Engine.stream

    def watch(engine: Engine, prompt: Any, params: SamplingParams | None = None) -> Iterator[str]:
        seen.append(list(prompt))
        return stream(engine, prompt, params)

    monkeypatch.setattr(Engine, "stream", watch)
    return seen


def talk(folder: Path, *lines: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    said = iter(lines)

    def read(prompt: str) -> str:
        assert prompt == "> "
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    chat.run(chat.Config(model=folder, sampling=SAMPLING, **settings))


def test_it_answers_and_remembers(folder, asked, monkeypatch, capsys):
    talk(folder, "春", "秋", monkeypatch=monkeypatch)
    first, second = asked
    assert first == [{"role": "user", "content": "春"}]
    (answer,) = Engine.open(folder).generate([first], SAMPLING)
    assert second == [*first, {"role": "assistant", "content": answer.text}, {"role": "user", "content": "秋"}]
    assert answer.text in capsys.readouterr().out


def test_it_forgets_when_told_to_and_always_begins_with_the_system_prompt(folder, asked, monkeypatch):
    talk(folder, "春", "秋", monkeypatch=monkeypatch, remember=False, system="诗")
    system = {"role": "system", "content": "诗"}
    assert asked == [[system, {"role": "user", "content": "春"}], [system, {"role": "user", "content": "秋"}]]


@pytest.mark.parametrize("end", ["", "  "])
def test_an_empty_line_ends_it(folder, asked, monkeypatch, end):
    talk(folder, "春", end, "秋", monkeypatch=monkeypatch)
    assert len(asked) == 1


def test_a_talk_longer_than_the_context_starts_afresh(folder, asked, monkeypatch, capsys):
    talk(folder, "春", "秋" * 70, "冬", monkeypatch=monkeypatch)
    assert "context 64" in capsys.readouterr().out
    assert asked[2] == [{"role": "user", "content": "冬"}]


def test_a_model_that_was_never_taught_to_answer(tmp_path, model, tokenizer, monkeypatch):
    plain = Tokenizer(tokenizer.backend, {key: v for key, v in tokenizer.config.items() if key != "chat_template"})
    auto.save(model, tmp_path / "base", lineage=Lineage(verb="test"), save_tokenizer=plain.save)
    with pytest.raises(ConfigError, match=r"no chat template[\s\S]*danlu sft"):
        talk(tmp_path / "base", "春", monkeypatch=monkeypatch)
