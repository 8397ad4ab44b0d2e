import enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import ConfigError, DataError
from danlu.tokenizer.chat import ChatTemplate
from tests.tokenizer import templates
from tests.tokenizer.corpus import ATTACKS, CHAT

COMPILED = {
    name: ChatTemplate(source, templates.SPECIALS, templates.VARIABLES) for name, source in templates.ALL.items()
}
TURNS = CHAT[1:]  # without the system message, which one template refuses
named = pytest.mark.parametrize("name", COMPILED)


def said(template: ChatTemplate, messages: list[dict], **variables: object) -> list[str]:
    """What the assistant has to produce, answer by answer."""
    answers, before = [], False
    for piece in template.pieces(messages, **variables):
        if piece.assistant and not before:
            answers.append("")
        if piece.assistant:
            answers[-1] += piece.text
        before = piece.assistant
    return answers


def specials(template: ChatTemplate, messages: list[dict], prompt: bool = False) -> list[str]:
    return [piece.text for piece in template.pieces(messages, prompt) if piece.special]


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("chatml", ["春眠不觉晓，\n处处闻啼鸟。<|im_end|>", "It's  late.<|im_end|>"]),
        ("default-system", ["春眠不觉晓，\n处处闻啼鸟。<|im_end|>", "It's  late.<|im_end|>"]),
        ("thinking", ["春眠不觉晓，\n处处闻啼鸟。<|im_end|>", "<think>\n\n</think>\n\nIt's  late.<|im_end|>"]),
        ("variable", ["春眠不觉晓，\n处处闻啼鸟。<|im_end|>", "It's  late.<|im_end|>"]),
        ("parts", ["春眠不觉晓，\n处处闻啼鸟。<|im_end|>", "It's  late.<|im_end|>"]),
        ("alternating", [" 春眠不觉晓，\n处处闻啼鸟。<|endoftext|>", " It's  late.<|endoftext|>"]),
        ("plain", ["春眠不觉晓，\n处处闻啼鸟。\n\n", "It's  late.\n\n"]),
    ],
)
def test_what_the_assistant_says(name: str, answers: list[str]):
    assert said(COMPILED[name], TURNS) == answers


@named
def test_pieces_are_the_text(name: str):
    for prompt in (False, True):
        pieces = COMPILED[name].pieces(TURNS, prompt)
        assert "".join(piece.text for piece in pieces) == COMPILED[name].text(TURNS, prompt)
        assert all(piece.text in templates.SPECIALS for piece in pieces if piece.special)


@named
def test_a_prompt_is_the_beginning_of_the_chat_with_its_answer(name: str):
    prompt = COMPILED[name].pieces(TURNS[:3], add_generation_prompt=True)
    whole = COMPILED[name].pieces(TURNS)
    assert [piece._replace(assistant=False) for piece in whole[: len(prompt)]][-1] == prompt[-1]
    assert not whole[len(prompt) - 1].assistant
    assert whole[len(prompt)].assistant


@named
@pytest.mark.parametrize("attack", ATTACKS)
def test_messages_cannot_write_special_tokens(name: str, attack: str):
    for place in range(len(TURNS)):
        messages = [dict(message) for message in TURNS]
        messages[place]["content"] = attack
        assert specials(COMPILED[name], messages) == specials(COMPILED[name], TURNS)
        assert len(said(COMPILED[name], messages)) == 2


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(COMPILED)),
    st.lists(
        st.lists(st.sampled_from([*"<|>_ \n", "im", "end", "start", *templates.SPECIALS]), min_size=1).map("".join),
        min_size=2,
        max_size=4,
    ),
)
def test_no_combination_writes_special_tokens(name: str, contents: list[str]):
    roles = ["user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    harmless = [message | {"content": "x"} for message in messages]
    assert specials(COMPILED[name], messages) == specials(COMPILED[name], harmless)


@pytest.mark.parametrize("name", templates.WITH_SYSTEM)
@pytest.mark.parametrize("role", ["user<|im_end|>", "<|user|>", "im_end", "|>", "endoftext"])
def test_roles_cannot_write_special_tokens(name: str, role: str):
    found = specials(COMPILED[name], [{"role": role, "content": "x"}])
    harmless = specials(COMPILED[name], [{"role": "stranger", "content": "x"}])
    assert found == harmless


def test_turn_end():
    ends = {name: template.turn_end for name, template in COMPILED.items()}
    assert ends.pop("alternating") == "<|endoftext|>"
    assert ends.pop("plain") is None
    assert set(ends.values()) == {"<|im_end|>"}


def test_thoughts_are_kept_apart():
    messages = [*TURNS[:1], {"role": "assistant", "content": "<think>\nfirst\n</think>\n\nthen"}]
    assert said(COMPILED["thinking"], messages) == ["<think>\nfirst\n</think>\n\nthen<|im_end|>"]


def test_variables_reach_the_template():
    text = COMPILED["thinking"].text(TURNS[:1], tools=[{"name": "看<|im_end|>"}])
    assert text.startswith('<|im_start|>system\nTools: [{"name": "看<|im_end|>"}]<|im_end|>\n')
    pieces = COMPILED["thinking"].pieces(TURNS[:1], tools=[{"name": "看<|im_end|>"}])
    assert [piece.text for piece in pieces if piece.special] == ["<|im_start|>", "<|im_end|>"] * 2


def test_earlier_turns_that_change_are_refused():
    source = "{% for m in messages %}{% if loop.last or m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    template = ChatTemplate(source, templates.SPECIALS, {})
    with pytest.raises(ConfigError, match=r"messages\[1\]") as fault:
        template.pieces(TURNS)
    assert "generation" in fault.value.do


def test_an_answer_that_is_also_written_elsewhere_is_refused():
    source = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    source += "{% if not add_generation_prompt %}last: {{ messages[-1].content }}{% endif %}"
    template = ChatTemplate(source, templates.SPECIALS, {})
    assert said(template, TURNS[:1]) == []
    for length in range(1, 30):
        with pytest.raises(ConfigError, match=r"messages\[1\]"):
            template.pieces([TURNS[0], {"role": "assistant", "content": "x" * length}])


def test_an_answer_without_a_question():
    answer = [{"role": "assistant", "content": "hi"}]
    assert said(COMPILED["chatml"], answer) == ["hi<|im_end|>"]
    with pytest.raises(ConfigError):
        COMPILED["default-system"].pieces(answer)


def test_template_that_builds_tokens_of_letters():
    source = "{% for m in messages %}{{ ['<', '|im_end|', '>'] | join }}{{ m.content }}{% endfor %}"
    with pytest.raises(ConfigError, match="parts"):
        ChatTemplate(source, ["<|im_end|>"], {})


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{{ messages", "line 1"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages[0].content }}", "leaves the assistant"),
        ("{{ messages.nothing.at.all }}", "fails on these messages"),
    ],
)
def test_unusable_template(source: str, fault: str):
    with pytest.raises(ConfigError, match=fault):
        ChatTemplate(source, templates.SPECIALS, {})


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "no messages"),
        ("hello", "no messages"),
        ({"role": "user", "content": "x"}, "no messages"),
        (["hello"], r"messages\[0\] has no role"),
        ([{"content": "x"}], r"messages\[0\] has no role"),
        ([CHAT[0], {"role": 1}], r"messages\[1\] has no role"),
        ([{"role": "user", "content": b"x"}], r"messages\[0\]\.content"),
        ([{"role": "user", "content": "\ud83d"}], "surrogate"),
        ([{"role": "\udc80", "content": "x"}], "surrogate"),
    ],
)
def test_what_is_no_chat(messages: object, fault: str):
    with pytest.raises(DataError, match=fault):
        COMPILED["chatml"].pieces(messages)


def test_missing_content_says_what_to_do():
    with pytest.raises(ConfigError) as fault:
        COMPILED["chatml"].pieces([{"role": "user"}])
    assert "content" in fault.value.do


def test_text_that_is_more_than_text_is_plain_to_the_template():
    class Role(enum.StrEnum):
        USER = "user"

    assert COMPILED["chatml"].text([{"role": Role.USER, "content": "x"}]) == "<|im_start|>user\nx<|im_end|>\n"
