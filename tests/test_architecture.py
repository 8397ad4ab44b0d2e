"""The house has floors: this reads the source and fails where it leans the wrong way.

Imports go down only; siblings do not import each other except where drawn. Public modules say what they
export. Files and functions stay readable. Log-probabilities, the masked mean and sampling exist once.
"""

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "danlu"

FLOORS = {
    **dict.fromkeys(("cli", "pipeline", "run", "quickstart", "learn", "studio"), 8),
    **dict.fromkeys(("serve", "monitor", "apps"), 7),
    **dict.fromkeys(("stages", "tune", "align", "compress", "evaluate", "export", "safety"), 6),
    **dict.fromkeys(("train", "generate", "tasks"), 5),
    "data": 4,
    **dict.fromkeys(("tokenizer", "models"), 3),
    **dict.fromkeys(("ops", "foundations"), 2),
    "core": 1,
}
# The sideways imports that the house has, all within the door: recipes find verbs, two verbs run recipes.
DRAWN = {("pipeline", "cli"), ("run", "pipeline"), ("quickstart", "pipeline"), ("quickstart", "run")}

FILE_LINES, FUNCTION_LINES = 400, 60
# Raised limits: "ops/name.py" or "ops/name.py:function" -> (limit, the reason why it reads better long).
RAISED: dict[str, tuple[int, str]] = {}

SAMPLERS = {"multinomial", "Categorical", "gumbel_softmax", "Gumbel", "exponential_"}
# Helpers that everybody is tempted to write again, by name without underscores.
ONCE = {
    "log-probabilities": {"logprobs", "tokenlogprobs", "selectivelogsoftmax", "gatherlogprobs"},
    "the masked mean": {"maskedmean"},
    "sampling": {"sampletoken", "sampletokens", "samplelogits", "samplenext"},
}

# What `danlu --help` has no use for.
HEAVY = {
    *("torch", "numpy", "scipy", "transformers", "tokenizers", "safetensors", "pyarrow", "pydantic", "jinja2"),
    *("fastapi", "starlette", "uvicorn", "tensorboard", "sqlite3", "vl_convert", "opencc_purepy", "pypinyin"),
    *("huggingface_hub", "pypi_simple", "requests", "httpx"),
}


def sources() -> list[Path]:
    """Every module of a room. The course's exercises are no room: they take techniques apart by design."""
    return sorted(file for file in SOURCE.rglob("*.py") if file.relative_to(SOURCE).parts[0] != "course")


def module_of(file: Path) -> str:
    """'danlu.ops.attention' of src/danlu/ops/attention.py; a package is named by its folder."""
    parts = ["danlu", *file.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of 'danlu.room.x'; '' for danlu itself. `python -m danlu` is the command line."""
    room = [*module.split("."), ""][1]
    return "cli" if room == "__main__" else room


def imports_of(tree: ast.AST, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of danlu in the file, deferred and by name included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*above, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("import_module", "__import__"):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "danlu")


def leaning(text: str, module: str, is_package: bool = False) -> list[str]:
    """Imports that go up or sideways."""
    room, faults = room_of(module), []
    if room and room not in FLOORS:
        return [f"{module}: room '{room}' has no floor"]
    for line, name in imports_of(ast.parse(text), module, is_package):
        other = room_of(name)
        if not other or other == room or (other not in FLOORS and name.count(".") == 1):
            continue  # danlu itself, the same room, or a name out of danlu/__init__.py
        if not room:
            faults.append(f"{module}:{line}: the package itself imports {name}")
        elif other not in FLOORS:
            faults.append(f"{module}:{line}: room '{other}' has no floor")
        elif FLOORS[other] >= FLOORS[room] and (room, other) not in DRAWN:
            way = "up" if FLOORS[other] > FLOORS[room] else "sideways"
            faults.append(f"{module}:{line}: {way} from {room} to {name}")
    return faults


def unsaid(text: str, module: str) -> list[str]:
    """A public module without a docstring, or that defines something without `__all__`."""
    if module.rpartition(".")[2].startswith("_"):
        return []
    tree = ast.parse(text)
    faults = [] if ast.get_docstring(tree) else [f"{module}: no docstring"]
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    only_docstring = len(tree.body) == 1 and not faults
    return faults if "__all__" in assigned or only_docstring else [*faults, f"{module}: no __all__"]


def too_long(text: str, name: str, raised: dict[str, tuple[int, str]]) -> list[str]:
    """A file or a function beyond its limit; `name` is the path under src/danlu."""
    sizes = [(name, len(text.splitlines()), FILE_LINES)]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            sizes.append((f"{name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1, FUNCTION_LINES))
    allowed = {place: raised[place][0] if place in raised else limit for place, _, limit in sizes}
    return [f"{place}: {size} lines, at most {allowed[place]}" for place, size, _ in sizes if size > allowed[place]]


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names(node: ast.AST) -> set[str]:
    found = {_last_name(part) for part in ast.walk(node)}
    return found | {alias.name for part in ast.walk(node) if isinstance(part, ast.ImportFrom) for alias in part.names}


def _sum_of_mask(node: ast.AST) -> bool:
    """`mask.sum()`, `mask.float().sum(-1).clamp_min(1)`, `torch.sum(loss_mask)`."""
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and _last_name(part.func) == "sum"]
    return any("mask" in name.lower() for call in calls for name in _names(call))


def second_definitions(text: str, module: str) -> list[str]:
    """Log-probabilities or a masked mean outside ops, sampling outside ops/sampling.py."""
    tree, in_ops = ast.parse(text), room_of(module) == "ops"
    faults = []
    if not in_ops and "log_softmax" in _names(tree):
        faults.append(f"{module}: log_softmax; use danlu.ops.loss.logprobs")
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not in_ops:
            names = _names(node)
            normalises = "logsumexp" in names or {"softmax", "log"} <= names
            if normalises and names & {"gather", "take_along_dim", "nll_loss"}:
                faults.append(f"{module}:{node.lineno}: log-probabilities in {node.name}; use danlu.ops.loss.logprobs")
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if divides and not in_ops and _sum_of_mask(node.right) and "sum" in _names(node.left):
            faults.append(f"{module}:{node.lineno}: a masked mean; it belongs to danlu.ops")
    if module != "danlu.ops.sampling" and (used := SAMPLERS & _names(tree)):
        faults.append(f"{module}: {', '.join(sorted(used))}; use danlu.ops.sampling")
    return faults


def twice_defined(texts: dict[str, str]) -> list[str]:
    """Helpers of `ONCE` that several functions of the house define."""
    defined: Counter[str] = Counter()
    places: dict[str, list[str]] = {}
    for module, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for thing, names in ONCE.items():
                    if node.name.replace("_", "").lower() in names:
                        defined[thing] += 1
                        places.setdefault(thing, []).append(f"{module}.{node.name}")
    return [
        f"{thing} defined {count} times: {', '.join(places[thing])}" for thing, count in defined.items() if count > 1
    ]


@pytest.mark.parametrize("file", sources(), ids=module_of)
def test_module(file: Path):
    text, module, name = file.read_text(encoding="utf-8"), module_of(file), file.relative_to(SOURCE).as_posix()
    faults = leaning(text, module, file.name == "__init__.py")
    faults += unsaid(text, module) + too_long(text, name, RAISED) + second_definitions(text, module)
    assert not faults, "\n".join(faults)


def test_nothing_is_defined_twice():
    assert not twice_defined({module_of(file): file.read_text(encoding="utf-8") for file in sources()})


def test_course_files_stay_short():
    for file in (SOURCE / "course").rglob("*.py"):
        assert not too_long(file.read_text(encoding="utf-8"), file.relative_to(SOURCE).as_posix(), RAISED)


def test_raised_limits_have_a_reason_and_are_needed():
    for place, (_, reason) in RAISED.items():
        assert len(reason) > 10, place
        text = (SOURCE / place.partition(":")[0]).read_text(encoding="utf-8")
        assert any(fault.startswith(f"{place}: ") for fault in too_long(text, place.partition(":")[0], {})), place


def test_help_imports_nothing_heavy():
    """`danlu --help` stays fast because it imports no room; each verb imports its own."""
    script = """
import json, sys
sys.argv = ["danlu", "--help"]
from danlu.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
json.dump(sorted(sys.modules), sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "danlu" in ran.stdout
    loaded = {name.partition(".")[0] for name in json.loads(ran.stderr.splitlines()[-1])}
    assert not loaded & HEAVY


def test_importing_danlu_imports_nothing_heavy():
    script = "import json, sys, danlu; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not {name.partition(".")[0] for name in json.loads(ran.stdout)} & HEAVY


# The checks themselves, on planted faults.


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("danlu.models.bad", "from danlu.train.loop import fit", "up from models to danlu.train.loop"),
        ("danlu.models.bad", "def f():\n    import danlu.train.loop", "up from models"),
        ("danlu.models.bad", "from danlu import train", "up from models"),
        ("danlu.models.bad", "from ..train import loop", "up from models"),
        ("danlu.models.bad", "import importlib\nimportlib.import_module('danlu.serve.app')", "up from models"),
        ("danlu.models.bad", "from danlu.tokenizer.bpe import train", "sideways from models"),
        ("danlu.tune.lora", "from danlu.align.dpo import run", "sideways from tune"),
        ("danlu.core.bad", "from danlu.ops import attention", "up from core"),
        ("danlu.learn.bad", "import danlu.cli", "sideways from learn"),
        ("danlu.attic.bad", "import torch", "no floor"),
        ("danlu.serve.bad", "from danlu.attic.box import x", "no floor"),
        ("danlu", "from danlu.core import config", "the package itself"),
    ],
)
def test_catches_a_leaning_import(module: str, text: str, fault: str):
    (found,) = leaning(text, module)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("danlu.data.good", "from danlu.tokenizer.bpe import train\nfrom danlu.core.config import Config"),
        ("danlu.serve.app", "import danlu.generate.engine\nfrom danlu import __version__"),
        ("danlu.pipeline", "from danlu.cli import find_verb"),
        ("danlu.ops.loss", "from danlu.ops import rope\nfrom . import attention\nimport torch"),
        ("danlu.ops.loss", "from .attention import attention"),
    ],
)
def test_allows_imports_that_go_down(module: str, text: str):
    assert leaning(text, module) == []


def test_relative_import_in_a_package():
    assert leaning("from . import attention", "danlu.ops", is_package=True) == []
    assert leaning("from ..train import loop", "danlu.ops", is_package=True)


def test_catches_unsaid_exports():
    assert unsaid("x = 1", "danlu.ops.a") == ["danlu.ops.a: no docstring", "danlu.ops.a: no __all__"]
    assert unsaid('"""Said."""\n\nx = 1', "danlu.ops.a") == ["danlu.ops.a: no __all__"]
    assert unsaid('"""Said."""\n\n__all__ = ["x"]\nx = 1', "danlu.ops.a") == []
    assert unsaid('"""Only a docstring."""', "danlu.ops") == []
    assert unsaid("x = 1", "danlu.ops._private") == []


def test_catches_length_and_honours_a_raised_limit():
    function = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
    (found,) = too_long(function, "ops/a.py", {})
    assert found == f"ops/a.py:f: {FUNCTION_LINES + 1} lines, at most {FUNCTION_LINES}"
    assert too_long(function, "ops/a.py", {"ops/a.py:f": (70, "a table reads best in one piece")}) == []
    assert too_long("x = 1\n" * (FILE_LINES + 1), "ops/a.py", {})
    assert too_long("x = 1\n" * FILE_LINES, "ops/a.py", {}) == []


@pytest.mark.parametrize(
    "text",
    [
        "from torch.nn.functional import log_softmax",
        "def f(x):\n    return x.log_softmax(-1)",
        "def f(x, y):\n    return x.gather(-1, y) - x.logsumexp(-1)",
        "def f(x, y):\n    return x.softmax(-1).gather(-1, y).log()",
        "def f(x, mask):\n    return (x * mask).sum() / mask.sum()",
        "def f(x, loss_mask):\n    return torch.sum(x * loss_mask) / loss_mask.float().sum(-1).clamp_min(1)",
        "def f(p):\n    return torch.multinomial(p, 1)",
        "from torch.distributions import Categorical",
        "def f(p):\n    return (p / torch.empty_like(p).exponential_()).argmax(-1)",
    ],
)
def test_catches_a_second_definition(text: str):
    assert second_definitions(text, "danlu.align.bad")


def test_catches_sampling_in_another_file_of_ops():
    assert second_definitions("def f(p):\n    return torch.multinomial(p, 1)", "danlu.ops.loss")
    assert second_definitions("def f(p):\n    return torch.multinomial(p, 1)", "danlu.ops.sampling") == []


def test_allows_what_only_looks_like_it():
    assert second_definitions("def f(x, count):\n    return x.sum() / count.sum()", "danlu.train.good") == []
    assert second_definitions("def f(x):\n    return x.softmax(-1)", "danlu.generate.good") == []


def test_catches_helpers_defined_twice():
    one, two = "def masked_mean(x, m):\n    return 0", "def maskedMean(x, m):\n    return 0"
    assert twice_defined({"danlu.ops.a": one}) == []
    assert "danlu.ops.a.masked_mean" in twice_defined({"danlu.ops.a": one, "danlu.tune.b": two})[0]
