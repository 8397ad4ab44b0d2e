"""Jinja programs whose output tells what they wrote themselves from what they were given.

The parsed program is changed, never the messages: literals that spell a special token, and what stands in
`{% generation %}`, are put between marks. The marks are lone surrogates, code points which no valid text contains;
`check_text` keeps them out of what a program is given, so nobody can forge one.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr

__all__ = [
    "ASSISTANT_CLOSE",
    "ASSISTANT_OPEN",
    "MARKS",
    "Piece",
    "check_text",
    "compile_template",
    "cut_at_marks",
    "find_specials",
    "is_tagged",
    "join_with_marks",
    "mark_literals",
    "mark_specials",
    "render_template",
]

SPECIAL_OPEN, SPECIAL_CLOSE, ASSISTANT_OPEN, ASSISTANT_CLOSE = "\ud800", "\ud801", "\ud802", "\ud803"
MARKS = re.compile("([\ud800-\ud803])")

# Words that a template may put between '<|' and '|>' to build a special token; never free text.
_ROLES = {"system", "developer", "user", "assistant", "model", "tool", "function", "ipython", "observation"}

# What these are given is looked for in the text, not written into it.
_SEARCHING_METHODS = {
    *("split", "rsplit", "partition", "rpartition", "startswith", "endswith", "find", "rfind", "index", "count", "get"),
    *("strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "replace"),
}
_WRITING_FILTERS = {"default", "d", "join", "format"}


class Piece(NamedTuple):
    """A stretch of a rendered chat."""

    text: str
    special: bool  # one special token, written by the template itself
    assistant: bool  # the assistant has to produce it


def check_text(text: str) -> str:
    """Return `text`; raise DataError when it holds lone surrogates, which no file and no tokenizer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = ascii(text[max(0, error.start - 10) : error.start + 10])
        raise DataError(
            tr(f"half a character (a lone surrogate) in {near}", f"文本中有半个字符（孤立的代理码位）：{near}"),
            tr("clean the text: it was cut or decoded wrongly", "请清洗文本：它曾被错误地截断或解码"),
        ) from None
    return text


# Compiling and running


class _Refusal(jinja2.TemplateError):
    """The template called raise_exception."""


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant produces, put between marks."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        opened, closed = (nodes.Output([nodes.TemplateData(mark)]) for mark in (ASSISTANT_OPEN, ASSISTANT_CLOSE))
        return nodes.Scope([opened, *body, closed]).set_lineno(line)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """The dialect that chat templates are written in, without access to anything outside."""

    def refuse(message: str) -> None:
        raise _Refusal(message)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    def now(form: str) -> str:
        return datetime.now().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=refuse, strftime_now=now)
    return environment


def compile_template(source: str, change: Callable[[nodes.Template], None] | None = None) -> jinja2.Template:
    """Compile a chat template, its parsed program changed first; raise ConfigError naming the line at fault."""
    try:
        program = _environment().parse(source)
        if change:
            change(program)
        return _environment().from_string(program)
    except jinja2.TemplateSyntaxError as error:
        line = error.lineno
        raise ConfigError(
            tr(f"chat template, line {line}: {error.message}", f"聊天模板第 {line} 行有误：{error.message}"),
            tr("it is a Jinja template: mend that line", "它是 Jinja 模板，请改正该行"),
        ) from None


def render_template(template: jinja2.Template, chat: list[dict[str, Any]], given: Mapping[str, Any]) -> str:
    """Run a compiled template. Raises DataError when it refuses the chat, ConfigError when it fails."""
    try:
        return template.render({"tools": None, "documents": None, **given}, messages=chat)
    except _Refusal as error:
        raise DataError(
            tr(f"the chat template refuses this conversation: {error}", f"聊天模板拒绝这段对话：{error}"),
            tr("reorder or rename the roles of the messages", "请调整消息的次序或角色"),
        ) from None
    except Exception as error:  # a template is a foreign program: it may raise anything
        raise ConfigError(
            tr(f"the chat template fails on these messages: {error}", f"聊天模板在处理这些消息时出错：{error}"),
            tr("does each message have what it reads, as 'content'?", "每条消息是否都有模板所需的字段，如 content？"),
        ) from error


# Putting marks in


def find_specials(specials: Collection[str], parts: bool = False) -> re.Pattern[str]:
    """Finds special tokens in a literal, the longest first.

    With `parts` also the tail of one at the beginning of the literal and the head of one at its end: a
    template that writes '<|' + role + '|>' has nothing else.
    """

    def any_of(texts: Collection[str]) -> str:
        return "|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text))) or "(?!)"

    if not parts:
        return re.compile(any_of(specials))
    tails = {text[cut:] for text in specials for cut in range(1, len(text))}
    heads = {text[:cut] for text in specials for cut in range(1, len(text))}
    return re.compile(rf"{any_of(specials)}|\A(?:{any_of(tails)})|(?:{any_of(heads)})\Z")


def mark_specials(text: str, pattern: re.Pattern[str]) -> str:
    """Put what `pattern` finds between marks."""
    return pattern.sub(lambda found: SPECIAL_OPEN + found[0] + SPECIAL_CLOSE, text)


def mark_literals(program: nodes.Template, pattern: re.Pattern[str]) -> None:
    """`mark_specials` in every literal of the program that can end up in its output."""
    for node in _written(program):
        if isinstance(node, nodes.TemplateData):
            node.data = mark_specials(node.data, pattern)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            node.value = mark_specials(node.value, pattern)


def is_tagged(source: str) -> bool:
    """Whether the template says by `{% generation %}` what the assistant produces."""
    return any(node.data == ASSISTANT_OPEN for node in _environment().parse(source).find_all(nodes.TemplateData))


def _written(node: nodes.Node) -> Iterator[nodes.Node]:
    """`node` and those below it whose literals can end up in the text, not those that text is compared with."""
    yield node
    match node:
        case nodes.Compare() | nodes.Test():
            below = []
        case nodes.Getitem():
            below = [node.node]
        case nodes.Filter():
            below = [node.node, *(node.args if node.name in _WRITING_FILTERS else ())]
        case nodes.Call(node=nodes.Getattr() as method) if method.attr in _SEARCHING_METHODS:
            below = [method.node]
        case _:
            below = list(node.iter_child_nodes())
    for child in below:
        if child is not None:
            yield from _written(child)


# Reading them


def cut_at_marks(marked: str, specials: Collection[str]) -> list[Piece]:
    """The pieces of what a marked template wrote; joined they are its text without the marks.

    Raises ConfigError when the template took its own marks apart.
    """
    pieces: list[Piece] = []
    special = assistant = False
    for number, part in enumerate(MARKS.split(marked)):
        if number % 2 == 0:
            pieces += [Piece(part, special, assistant)] if part else []
            continue
        before = (special, assistant)
        special = {SPECIAL_OPEN: True, SPECIAL_CLOSE: False}.get(part, special)
        assistant = {ASSISTANT_OPEN: True, ASSISTANT_CLOSE: False}.get(part, assistant)
        if before == (special, assistant):
            raise ConfigError(
                tr("the chat template cuts its own special tokens in parts", "聊天模板把自己的特殊词元切断了"),
                tr("no slices of them, no {% generation %} in another", "请勿切分特殊词元，也勿嵌套 generation"),
            )
    return _merge_text(_join_parts(pieces, specials))


def join_with_marks(pieces: Iterable[Piece]) -> str:
    """One text again, special tokens between marks; the assistant's marks are not written."""
    return "".join(SPECIAL_OPEN + piece.text + SPECIAL_CLOSE if piece.special else piece.text for piece in pieces)


def _join_parts(pieces: list[Piece], specials: Collection[str]) -> list[Piece]:
    """Join '<|', a role and '|>' that the template wrote one after the other; other parts are text."""
    joined: list[Piece] = []
    at = 0
    while at < len(pieces):
        piece, size = pieces[at], 1
        if piece.special and piece.text not in specials:
            spelt = {wide: "".join(part.text for part in pieces[at : at + wide]) for wide in (2, 3)}
            if spelt[3] in specials and pieces[at + 1].text in _ROLES and pieces[at + 2].special:
                size = 3
            elif spelt[2] in specials and pieces[at + 1].special:
                size = 2
            piece = piece._replace(text=spelt[size]) if size > 1 else piece._replace(special=False)
        joined.append(piece)
        at += size
    return joined


def _merge_text(pieces: list[Piece]) -> list[Piece]:
    """Neighbouring texts of one speaker as one piece: a tokenizer sees them together."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged and not piece.special and not merged[-1].special and merged[-1].assistant == piece.assistant:
            merged[-1] = piece._replace(text=merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged
