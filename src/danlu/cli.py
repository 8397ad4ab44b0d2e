"""The door: `danlu VERB ...`. A verb is a module with `Config` and `run`, found by its file's name.

Only the module of the verb that runs is imported; `danlu --help` reads the others' docstrings as text.
"""

import ast
import errno
import importlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu import __version__
from danlu.core.errors import DanluError
from danlu.core.i18n import language, tr

__all__ = ["Verb", "find_verb", "main", "verbs"]

# Rooms with verbs, in the order of a model's life, and the word that stands before their verbs' names.
_ROOMS = {
    "": "",
    "core": "",
    "data": "data",
    "stages": "",
    "tune": "",
    "align": "",
    "compress": "",
    "evaluate": "",
    "models": "model",
    "generate": "",
    "export": "export",
    "serve": "",
    "monitor": "monitor",
    "apps": "",
    "learn": "",
}
_IS_VERB = re.compile(r"^def run\(config: Config\)", re.MULTILINE)
# Where a file's name holds two words of a verb.
_SPACED = {
    "tokenizer-train": "tokenizer train",
    "model-attention": "model attention",
    "model-probabilities": "model probabilities",
    "engine-trace": "engine trace",
    "data-augment": "data augment",
    "data list-steps": "data steps",
    "data-ablate": "data ablate",
}


@dataclass(frozen=True)
class Verb:
    """A word or two of the command line, and the module behind it."""

    name: str
    module: str
    help: str  # one sentence in the reader's language
    example: str


def verbs() -> list[Verb]:
    """All of them, without importing any."""
    root = Path(__file__).parent
    found = []
    for room, group in _ROOMS.items():
        folder = root / room
        for file in sorted(folder.glob("*.py")) if folder.is_dir() else []:
            source = file.read_text(encoding="utf-8")
            if not _IS_VERB.search(source):
                continue
            name = f"{group} {file.stem.replace('_', '-')}".strip()
            module = ".".join(part for part in ("danlu", room, file.stem) if part)
            found.append(Verb(_SPACED.get(name, name), module, *_told(source)))
    return found


def _told(source: str) -> tuple[str, str]:
    """Summary and example out of a verb's docstring: English first, then Chinese, then 'Example: ...'."""
    paragraphs = (ast.get_docstring(ast.parse(source[: source.index('"""', 3) + 3])) or "").split("\n\n")
    english, chinese = ([*paragraphs, "", ""])[:2]
    example = re.search(r"^Example: (.*)$", "\n\n".join(paragraphs), re.MULTILINE)
    return (chinese if language() == "zh" else english), example[1] if example else ""


def find_verb(words: list[str]) -> tuple[Verb | None, list[str]]:
    """The verb that `words` begin with, and what follows it."""
    known = {verb.name: verb for verb in verbs()}
    for size in (2, 1):
        verb = known.get(" ".join(words[:size]))
        if verb and len(words) >= size:
            return verb, words[size:]
    return None, words


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit 0, 1 (fault), 2 (bad settings) or 130 (interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # a reader that has left is met here, not when Python ends
    except DanluError as error:
        if debug:
            raise
        _tell(error.what, error.do)
        code = error.exit_code
    except KeyboardInterrupt:
        _tell(tr("interrupted", "已中断"), tr("the same command goes on where it can", "再次执行同一命令即可继续"))
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if debug:
            raise
        _tell(*_explain(error))
        code = 1
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        _print_help()
        return 0
    if words[0] == "--version":
        print(f"danlu {__version__}")
        return 0
    verb, rest = find_verb(words)
    if verb is None:
        return _unknown(words)
    module = importlib.import_module(verb.module)
    from danlu.core.flags import parse

    config = parse(module.Config, rest, verb.name, verb.help, verb.example)
    if config is None:
        return 0
    result = module.run(config)
    return result if isinstance(result, int) else 0


def _unknown(words: list[str]) -> int:
    import difflib

    names = [verb.name for verb in verbs()]
    inside = [name for name in names if name.startswith(words[0] + " ")]
    if inside and (len(words) == 1 or words[1] in ("--help", "-h")):
        _print_help(words[0])
        return 0
    asked = " ".join(words[:2] if inside else words[:1])
    near = difflib.get_close_matches(asked, names, n=1)
    do = (
        tr(f"did you mean 'danlu {near[0]}'?", f"是不是想用“danlu {near[0]}”?")
        if near
        else tr("danlu --help lists all", "全部命令:danlu --help")
    )
    _tell(tr(f"no such verb: {asked}", f"没有这个命令:{asked}"), do)
    return 2


def _print_help(group: str = "") -> None:
    print(
        tr(
            "danlu: the whole life of a language model, on your own machine",
            "danlu 丹炉:在自己的机器上走完语言模型的一生",
        )
    )
    print(
        tr(
            "\nUsage: danlu VERB [SETTINGS]     danlu VERB --help     --debug shows tracebacks\n",
            "\n用法:danlu 命令 [设置]     danlu 命令 --help     --debug 显示完整报错\n",
        )
    )
    listed = [verb for verb in verbs() if verb.name.startswith(group)]
    width = max(len(verb.name) for verb in listed)
    for verb in listed:
        print(f"  {verb.name:<{width}}  {verb.help}")
    print(tr("\nBegin with: danlu quickstart", "\n从这里开始:danlu quickstart"))


def _tell(what: str, do: str) -> None:
    colour = sys.stderr.isatty()
    print(f"\033[31m{what}\033[0m" if colour else what, file=sys.stderr)
    if do:
        print(do, file=sys.stderr)


def _explain(error: Exception) -> tuple[str, str]:
    """What an error that nobody foresaw says to a person."""
    more = tr("run it again with --debug for the traceback", "加上 --debug 重跑可看到完整报错")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return tr("the disk is full", "磁盘已满"), tr(
            "make room and give the same command again", "腾出空间后重新执行同一命令"
        )
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError) and error.filename:
        return f"{error.filename}: {error.strerror}", more
    if isinstance(error, ModuleNotFoundError):
        return tr(f"the package '{error.name}' is not installed", f"没有安装 {error.name}"), tr(
            "danlu doctor says which extra brings it", "danlu doctor 会说明需要哪个扩展"
        )
    text: Any = str(error) or type(error).__name__
    return tr(f"unexpected {type(error).__name__}: {text}", f"意外错误 {type(error).__name__}:{text}"), more
