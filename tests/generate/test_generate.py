from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, ContextError, DataError
from danlu.generate import generate
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams

SAMPLING = SamplingParams(max_tokens=8, seed=3)


def ask(folder: Path, prompt: str, **settings) -> None:
    generate.run(generate.Config(model=folder, prompt=prompt, sampling=SAMPLING, **settings))


def test_what_is_printed_is_the_answer(folder: Path, capsys: pytest.CaptureFixture[str]):
    ask(folder, "春山")
    (answer,) = Engine.open(folder).generate(["春山"], SAMPLING)
    assert capsys.readouterr().out == answer.text + "\n"


def test_several_answers_differ_and_are_numbered(folder: Path, capsys: pytest.CaptureFixture[str]):
    ask(folder, "春山", n=3)
    out = capsys.readouterr().out
    answers = Engine.open(folder).generate(["春山"], SAMPLING.model_copy(update={"n": 3}))
    assert len({answer.text for answer in answers}) > 1
    assert out == "".join(f"[{number}]\n{answer.text}\n\n" for number, answer in enumerate(answers, 1))


def test_chat_renders_the_prompt_as_a_question(folder: Path, capsys: pytest.CaptureFixture[str]):
    ask(folder, "春山", chat=True)
    (answer,) = Engine.open(folder).generate([[{"role": "user", "content": "春山"}]], SAMPLING)
    assert capsys.readouterr().out == answer.text + "\n"


class Stdin:
    """Standard input of these bytes."""

    def __init__(self, content: bytes) -> None:
        import io

        self.buffer = io.BytesIO(content)


def test_a_dash_reads_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", Stdin("春山".encode()))
    ask(folder, "-")
    from_stdin = capsys.readouterr().out
    ask(folder, "春山")
    assert capsys.readouterr().out == from_stdin
    monkeypatch.setattr("sys.stdin", Stdin("春山".encode("gb18030")))
    with pytest.raises(DataError, match="UTF-8"):
        ask(folder, "-")


def test_what_cannot_be_asked_is_told(folder: Path):
    with pytest.raises(ContextError, match="empty"):
        ask(folder, "")
    with pytest.raises(ContextError, match="context 64"):
        ask(folder, "春" * 64)
    with pytest.raises(ConfigError, match="dtype"):
        ask(folder, "春", engine={"dtype": "fp7"})
