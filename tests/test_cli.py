import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import danlu
from danlu import cli
from danlu.core.i18n import language

ENVIRONMENT = {**os.environ, "DANLU_LANG": "en"}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DANLU_LANG", "en")
    language.cache_clear()
    yield
    monkeypatch.undo()
    language.cache_clear()


def ask(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    assert end.value.code == code


def seconds_of_help() -> float:
    began = time.perf_counter()
    ran = subprocess.run([sys.executable, "-m", "danlu", "--help"], capture_output=True, env=ENVIRONMENT, check=True)
    assert b"pretrain" in ran.stdout
    return time.perf_counter() - began


def test_help_is_fast():
    """At most 0.4 s, as long as Python itself starts in 0.05 s; the best of several, others may use the machine."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    allowed = max(0.4, 8 * (time.perf_counter() - began))
    assert any(seconds_of_help() <= allowed for _ in range(10))


def test_verbs_are_found_by_their_files():
    found = {verb.name: verb for verb in cli.verbs()}
    for name in (
        "pretrain",
        "sft",
        "int8",
        "evaluate",
        "generate",
        "run",
        "quickstart",
        "runs",
        "data prepare",
        "tokenizer train",
    ):
        assert name in found
    assert found["pretrain"].module == "danlu.stages.pretrain"
    assert "danlu.stages.stage" not in {verb.module for verb in found.values()}


@pytest.mark.parametrize("verb", cli.verbs(), ids=lambda verb: verb.name)
def test_every_verb_says_what_it_does_in_both_languages(verb: cli.Verb, monkeypatch: pytest.MonkeyPatch):
    assert re.match(r"[A-Z].*\.$", verb.help), "one English sentence"
    assert verb.example.startswith(f"danlu {verb.name}"), "an example of this verb"
    monkeypatch.setenv("DANLU_LANG", "zh")
    language.cache_clear()
    (chinese,) = (other.help for other in cli.verbs() if other.name == verb.name)
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert chinese.endswith("。")


@pytest.mark.parametrize("verb", cli.verbs(), ids=lambda verb: verb.name)
def test_every_example_names_settings_that_exist(verb: cli.Verb):
    """The example in a verb's help parses, up to paths that need not be there."""
    import importlib
    import shlex

    from danlu.core.flags import parse

    words = shlex.split(verb.example)
    found, rest = cli.find_verb(words[1:])
    assert found == verb
    parse(importlib.import_module(verb.module).Config, rest, verb.name, verb.help, verb.example)


def test_find_verb():
    verb, rest = cli.find_verb(["data", "prepare", "--out", "x"])
    assert verb is not None
    assert (verb.name, rest) == ("data prepare", ["--out", "x"])
    assert cli.find_verb(["data"]) == (None, ["data"])
    assert cli.find_verb([]) == (None, [])


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]):
    ask(*words)
    out = capsys.readouterr().out
    for verb in cli.verbs():
        assert f"  {verb.name} " in out
        assert verb.help.splitlines()[0] in out


def test_help_of_a_group_and_of_a_verb(capsys: pytest.CaptureFixture[str]):
    for words in (["data"], ["data", "--help"]):
        ask(*words)
        out = capsys.readouterr().out
        assert "data prepare" in out
        assert "pretrain" not in out
    ask("runs", "--help")
    assert "--folder" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]):
    ask("--version")
    assert capsys.readouterr().out == f"danlu {danlu.__version__}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pretrian"], "did you mean 'danlu pretrain'?"),
        (["data", "perpare"], "did you mean 'danlu data prepare'?"),
        (["zzzzzz"], "danlu --help"),
    ],
)
def test_an_unknown_verb(words: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    ask(*words, code=2)
    err = capsys.readouterr().err
    assert f"no such verb: {' '.join(words)}" in err
    assert told in err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("strange"), 1, "unexpected RuntimeError: strange"),
        (RuntimeError(), 1, "unexpected RuntimeError: RuntimeError"),
        (OSError(28, "No space left on device"), 1, "the disk is full"),
        (PermissionError(13, "Permission denied", "secret.txt"), 1, "secret.txt: Permission denied"),
        (ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"), 1, "'pyarrow' is not installed"),
    ],
)
def test_what_nobody_foresaw_is_told_without_a_traceback(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from danlu.core import runs

    def fail(config: runs.Config) -> None:
        raise error

    monkeypatch.setattr(runs, "run", fail)
    ask("runs", code=code)
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 2
    with pytest.raises((type(error), SystemExit)) as caught:
        cli.main(["runs", "--debug"])
    assert isinstance(caught.value, type(error)) or isinstance(error, KeyboardInterrupt)


def test_a_verbs_number_is_the_exit_code(monkeypatch: pytest.MonkeyPatch):
    from danlu.core import runs

    monkeypatch.setattr(runs, "run", lambda config: 3)
    ask("runs", code=3)


def test_as_a_module_in_both_languages(tmp_path: Path):
    for lang, told in (("en", "no runs under"), ("zh", "还没有运行")):
        ran = subprocess.run(
            [sys.executable, "-m", "danlu", "runs"],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "DANLU_LANG": lang},
            cwd=tmp_path,
            check=True,
        )
        assert told in ran.stdout
    ran = subprocess.run(
        [sys.executable, "-m", "danlu", "runs", "--help"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "DANLU_LANG": "zh"},
        check=True,
    )
    assert "列出各次运行" in ran.stdout


def test_a_reader_that_leaves_early_is_no_fault():
    """danlu --help | head -1"""
    ran = subprocess.run(
        f"{sys.executable} -m danlu --help | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        env={name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"},
        check=True,
    )
    assert ran.stdout.strip() == "0"
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
