import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, FolderError, MissingExtraError, ServeError
from danlu.serve import serve
from danlu.serve.serve import Config, example, run, start_in_background
from danlu.serve.served import Served
from danlu.serve.server import listen
from tests.commands import Result

from .calls import call
from .conftest import POEM

ENVIRONMENT = {**os.environ, "DANLU_LANG": "en", "OMP_NUM_THREADS": "1", "DANLU_API_KEY": "", "PYTHONUNBUFFERED": "1"}


@contextmanager
def living(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "danlu", *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_until(process: subprocess.Popen[str], last: str) -> str:
    told = ""
    assert process.stdout is not None
    while last not in told:
        line = process.stdout.readline()
        assert line, (told, process.stderr and process.stderr.read())
        told += line
    return told


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_serves_says_where_and_ends_calmly(poet: Path, base: Path, stop: signal.Signals):
    with living("serve", str(poet), "--also", str(base), "--port", "0", DANLU_API_KEY="secret") as process:
        told = lines_until(process, "Ctrl-C")
        assert re.search(r"models: +sft, base", told)
        assert re.search(r"page: +http://127\.0\.0\.1:\d+/", told)
        assert "secret" not in told
        (command,) = (line for line in told.splitlines() if line.startswith("  curl"))
        # the example as it stands, pasted into a shell
        pasted = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            check=True,
            env={**ENVIRONMENT, "DANLU_API_KEY": "secret"},
            timeout=60,
        )
        assert b'"finish_reason":' in pasted.stdout
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert "POST /v1/chat/completions 200" in errors


def test_a_taken_port_is_one_clear_message(danlu: Callable[..., Result], poet: Path):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        ended = danlu("serve", poet, "--port", port)
    assert (ended.code, ended.out) == (1, "")
    assert f"port {port}" in ended.err
    assert f"--port {port + 1}" in ended.err
    assert "Traceback" not in ended.err


def test_bad_settings(poet: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="port"):
        Config.parse({"folder": poet, "port": 70000})
    with pytest.raises(FolderError):
        run(Config(folder=tmp_path, port=0))
    with pytest.raises(FolderError):
        start_in_background(tmp_path)
    with pytest.raises(ConfigError):
        run(Config(folder=poet, also=[poet], port=0))
    with pytest.raises(ServeError):
        start_in_background(poet, host="192.0.2.1")


def test_without_the_extra_it_says_which(poet: Path, monkeypatch: pytest.MonkeyPatch):
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "uvicorn" else found(name, *more))
    with pytest.raises(MissingExtraError) as missing:
        run(Config(folder=poet, port=0))
    assert "uvicorn" in missing.value.what
    assert "danlu[serve]" in missing.value.do


def test_in_background(poet: Path):
    with start_in_background(poet) as server:
        body = {
            "model": "sft",
            "temperature": 0,
            "messages": [{"role": "user", "content": "写一首五言绝句，题为《炉边》。"}],
        }
        assert call(server, "/v1/chat/completions", body).json()["choices"][0]["message"]["content"] == POEM
        assert call(server, "/", headers={"Host": "evil.example"}).status_code == 403


def test_examples_fit_the_model(poet: Path, base: Path):
    for folder, path in ((poet, "/v1/chat/completions"), (base, "/v1/completions")):
        words = shlex.split(example("http://h:1", Served.open(folder), key=False))
        assert words[:2] == ["curl", "http://h:1" + path]
    with_quote = example("http://h:1", Served.open(base, name="it's"), key=True)
    assert '"it\'s"' in shlex.split(with_quote)[-1]
    assert "$DANLU_API_KEY" in with_quote


def test_the_verbs_module_needs_no_web_framework():
    tree = ast.parse(Path(serve.__file__).read_text(encoding="utf-8"))
    at_once = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert at_once == {
        "pathlib",
        "typing",
        "danlu.core.config",
        "danlu.core.errors",
        "danlu.core.i18n",
        "danlu.generate.engine",
    }
