"""Chat templates: from messages to text in which markup, people's words and the assistant's turn stay apart.

A chat template is a Jinja program that comes with a model; it turns messages into one text such as
`<|im_start|>user\\n...<|im_end|>\\n`. A plain text has lost two things: whether `<|im_end|>` was written by the
template or by a person, who could so forge a turn, and which part the assistant has to produce. Here a
rendered chat is a list of pieces that still know both (`danlu.tokenizer.markup` says how).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jinja2

from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.tokenizer.markup import (
    ASSISTANT_CLOSE,
    ASSISTANT_OPEN,
    MARKS,
    Piece,
    check_text,
    compile_template,
    cut_at_marks,
    find_specials,
    is_tagged,
    join_with_marks,
    mark_literals,
    mark_specials,
    render_template,
)

__all__ = ["CHATML", "ChatTemplate", "Messages"]

Messages = Sequence[Mapping[str, Any]]

# lesson: chatml
# The layout known as ChatML. A turn ends with <|im_end|>; the assistant's own is part of what it learns to say.
CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' -%}
{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ message['content'] + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""
# end lesson

_ANSWER = "answer-9d1f"  # a word that no template writes by itself
_PROBE = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _ANSWER}]


class ChatTemplate:
    """A compiled chat template that knows which special tokens it writes and where the assistant speaks.

    `specials` are the texts of the tokenizer's special tokens, `variables` what the template may refer to
    (`bos_token` and the like). `turn_end` is the special token after an answer, None when there is none.
    Raises ConfigError when the template does not compile, cannot render one question and its answer, or
    builds special tokens in a way that cannot be told from text.
    """

    def __init__(self, source: str, specials: Collection[str], variables: Mapping[str, str]) -> None:
        self.source = source
        self._specials = frozenset(specials)
        unmarked = compile_template(source)
        self._tagged = is_tagged(source)
        try:
            for parts in (False, True):
                pattern = find_specials(specials, parts)
                self._variables = {name: mark_specials(text, pattern) for name, text in variables.items()}
                self._template = compile_template(source, lambda program, found=pattern: mark_literals(program, found))
                if self._tells_apart(unmarked, variables):
                    break
            else:
                raise ConfigError(
                    tr(
                        "the chat template builds special tokens out of parts, which cannot be told from text",
                        "聊天模板用零散的字符串拼出特殊词元，无法与普通文本区分",
                    ),
                    tr("write each special token as one literal", "请把每个特殊词元写成一个完整的字符串"),
                )
            self.turn_end = self._find_turn_end()
            self._end_mark = join_with_marks([Piece(self.turn_end, True, False)]) if self.turn_end else ""
        except DataError as error:
            raise ConfigError(
                error.what, tr("it must take one question and one answer", "它应能处理一问一答")
            ) from None

    def text(self, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> str:
        """The chat as one plain text."""
        return MARKS.sub("", self._render(_plain_messages(messages), add_generation_prompt, variables))

    def pieces(self, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> list[Piece]:
        """The chat cut at special tokens and where the assistant begins or ends; the texts joined are `text()`.

        Raises DataError for what is no chat or when the template refuses it, ConfigError when the template fails
        or, without `{% generation %}`, changes earlier turns so that an answer cannot be located.
        """
        chat = _plain_messages(messages)
        marked = self._render(chat, add_generation_prompt, variables)
        if not self._tagged:
            marked = self._mark_answers(marked, chat, add_generation_prompt, variables)
        return cut_at_marks(marked, self._specials)

    def _render(self, chat: list[dict[str, Any]], prompt: bool, variables: Mapping[str, Any]) -> str:
        given = {**self._variables, **_plain(variables, "variables"), "add_generation_prompt": prompt}
        return render_template(self._template, chat, given)

    def _tells_apart(self, unmarked: jinja2.Template, variables: Mapping[str, str]) -> bool:
        """Whether, on harmless messages, marks stand exactly where a plain search finds special tokens."""
        for chat, prompt in ((_PROBE, False), (_PROBE[:1], True)):
            given = {**variables, "add_generation_prompt": prompt}
            plain = MARKS.sub("", render_template(unmarked, chat, given))
            found = [match.span() for match in find_specials(self._specials).finditer(plain)]
            marked, at = [], 0
            for piece in cut_at_marks(self._render(chat, prompt, {}), self._specials):
                if piece.special:
                    marked.append((at, at + len(piece.text)))
                at += len(piece.text)
            if found != marked or at != len(plain):
                return False
        return True

    def _find_turn_end(self) -> str | None:
        """The special token that the template writes after the assistant's content."""
        pieces = cut_at_marks(self._render(_PROBE, False, {}), self._specials)
        for number, piece in enumerate(pieces):
            if _ANSWER in piece.text:
                return next((later.text for later in pieces[number:] if later.special), None)
        raise ConfigError(
            tr("the chat template leaves the assistant's content out", "聊天模板没有写出 assistant 的内容"),
            tr("it must write message['content'] of every message", "它应写出每条消息的 message['content']"),
        )

    def _mark_answers(
        self, marked: str, chat: list[dict[str, Any]], prompted: bool, variables: Mapping[str, Any]
    ) -> str:
        """Mark what the assistant produces in a template that does not say so.

        An answer begins where the prompt made of the messages before it ends, and ends with `turn_end`; without
        one, where the chat that stops there ends. To be sure, another answer in its place must change that
        stretch and nothing else.
        """

        def rendered(messages: list[dict[str, Any]], prompt: bool) -> str:
            return join_with_marks(cut_at_marks(self._render(messages, prompt, variables), self._specials))

        marked = join_with_marks(cut_at_marks(marked, self._specials))
        result, done = [], 0
        for number, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            prompt = rendered(chat[:number], True)
            end = len(prompt)
            if self.turn_end is None:
                end = len(rendered(chat[: number + 1], False))
            elif self._end_mark in marked[end:]:
                end = marked.index(self._end_mark, end) + len(self._end_mark)
            other = rendered([*chat[:number], message | {"content": _ANSWER}, *chat[number + 1 :]], prompted)
            rest = marked[end:]
            there = other[len(prompt) : len(other) - len(rest)]
            whole = all(text.startswith(prompt) and text.endswith(rest) for text in (marked, other))
            if not whole or _ANSWER not in there or not done <= len(prompt) < end:
                raise _not_located(number)
            result += [marked[done : len(prompt)], ASSISTANT_OPEN, marked[len(prompt) : end], ASSISTANT_CLOSE]
            done = end
        return "".join([*result, marked[done:]])


def _not_located(number: int) -> ConfigError:
    return ConfigError(
        tr(
            f"messages[{number}]: the chat template writes the turns before or after this answer differently with and "
            "without it, so what the assistant has to learn cannot be located",
            f"messages[{number}]：聊天模板在有无这条回答时写法不同，无法确定 assistant 应学习的部分",
        ),
        tr(
            "put {% generation %} ... {% endgeneration %} around the assistant's part of the template",
            "请在模板中用 {% generation %} … {% endgeneration %} 包住 assistant 的部分",
        ),
    )


def _plain_messages(messages: Messages) -> list[dict[str, Any]]:
    shape = tr("expected a list of {'role': ..., 'content': ...}", "应为由 {'role': ..., 'content': ...} 组成的列表")
    if isinstance(messages, str | Mapping) or not messages:
        raise DataError(tr(f"no messages: {messages!r}", f"没有消息：{messages!r}"), shape)
    result = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise DataError(tr(f"{place} has no role: {message!r}", f"{place} 缺少 role：{message!r}"), shape)
        result.append({key: _plain(item, f"{place}.{key}") for key, item in message.items() if item is not None})
    return result


def _plain(value: Any, place: str) -> Any:
    """A copy in JSON's types, which is all that a template gets to see."""
    if isinstance(value, str):
        return check_text(str.__str__(value))  # what an enum is worth, not its name
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, place) for item in value]
    kind = type(value).__name__
    raise DataError(tr(f"{place}: a chat holds text, not {kind}", f"{place}：对话中只能有文本，不能有 {kind}"))
