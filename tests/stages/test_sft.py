import json

import pytest

from danlu.core.errors import DataError, FolderError
from danlu.core.folder import ModelFolder
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.stages import sft
from danlu.tokenizer import Tokenizer
from tests.stages.small import training

QUESTIONS = ("春", "夏", "秋", "冬")


@pytest.fixture
def chats(tmp_path):
    """Each season asked for is answered by its own character, many times."""
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"{q}{n}"}, {"role": "assistant", "content": q * 3}]}
        for n in range(60)
        for q in QUESTIONS
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(base, data, out, **train) -> sft.Config:
    return sft.Config(base=base, data=data, out=out, prompts=("春7",), train=training(**train))


def test_it_learns_to_answer_and_to_stop(folder, chats, tmp_path):
    path = sft.run(settings(folder, chats, tmp_path / "run", steps=120, lr=2e-2, matrix_lr=2e-2))
    engine = Engine.open(path)
    asked = [[{"role": "user", "content": f"{question}7"}] for question in QUESTIONS]
    answers = engine.generate(asked, SamplingParams(temperature=0, max_tokens=10))
    assert [answer.text for answer in answers] == [question * 3 for question in QUESTIONS]
    assert {answer.finish_reason for answer in answers} == {"stop"}
    lineage = ModelFolder.open(path).lineage
    assert lineage.parent == ModelFolder.open(folder).hash
    assert lineage.verb == "sft"


def test_a_base_model_without_chat_gets_a_template(folder, chats, tmp_path, model, tokenizer):
    from danlu.core.folder import Lineage
    from danlu.models import auto

    plain = Tokenizer(
        tokenizer.backend, {key: value for key, value in tokenizer.config.items() if key != "chat_template"}
    )
    assert not plain.has_chat
    auto.save(model, tmp_path / "base", lineage=Lineage(verb="test"), save_tokenizer=plain.save)
    path = sft.run(settings(tmp_path / "base", chats, tmp_path / "run"))
    assert Tokenizer.load(path).has_chat
    assert Tokenizer.load(path).eos_id in ModelFolder.open(path).generation["eos_token_id"]


def test_another_base_is_another_run(folder, chats, tmp_path):
    sft.run(settings(folder, chats, tmp_path / "run"))
    assert sft.run(settings(folder, chats, tmp_path / "run")) == tmp_path / "run" / "model"


def test_wrong_inputs_are_told(folder, chats, tmp_path):
    with pytest.raises(FolderError):
        sft.run(settings(tmp_path / "nowhere", chats, tmp_path / "a"))
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"text": "春"}\n' * 50, encoding="utf-8")
    with pytest.raises(DataError, match="messages"):
        sft.run(settings(folder, plain, tmp_path / "b"))
