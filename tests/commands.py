"""The real command line, in processes of their own, without the seconds that importing torch takes each time.

One process imports everything once and forks for every command: the fork gets its own arguments, folder,
environment, standard streams and exit code, and runs `danlu.cli.main`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

SECONDS = 240  # after which a command that hangs is killed
_STREAMS = ("stdin", "stdout", "stderr")


class Result(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class CommandLine:
    """`danlu WORDS` as a call."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DANLU_", "LC_"))},
            **{
                "OMP_NUM_THREADS": "1",
                "LANG": "en_US.UTF-8",
                "COLUMNS": "200",
                "PYTHONPATH": str(Path(__file__).parents[1]),
            },
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, *words: object, cwd: Path, stdin: bytes = b"", **environment: str) -> Result:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder) / name for name in _STREAMS}
            files["stdin"].write_bytes(stdin)
            order = {"words": list(map(str, words)), "cwd": str(cwd), "environment": environment}
            order["files"] = {name: str(file) for name, file in files.items()}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return Result(code, *(files[name].read_text(encoding="utf-8") for name in ("stdout", "stderr")))

    def close(self) -> None:
        self._process.communicate()


def _serve(modules: list[str]) -> None:
    for module in modules:
        import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(order: dict) -> None:
    """Run the command in this process, and end it."""
    from danlu.cli import main
    from danlu.core.i18n import language

    signal.alarm(SECONDS)
    for number, name in enumerate(_STREAMS):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(order["files"][name], flags), number)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    os.chdir(order["cwd"])
    os.environ.update(order["environment"])
    language.cache_clear()
    code = 1
    try:
        main(order["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1:])
