"""Every public module imports, keeps its promises of `__all__`, and has a test of its own."""

import importlib
from pathlib import Path

import pytest

from tests.test_architecture import SOURCE, module_of, sources

TESTS = Path(__file__).parents[1]
PUBLIC = [file for file in sources() if not file.name.startswith("_")]


def mirror(file: Path) -> Path:
    """src/danlu/ops/attention.py -> tests/ops/test_attention.py."""
    inside = file.relative_to(SOURCE)
    return TESTS / inside.with_name(f"test_{inside.name}")


@pytest.mark.parametrize("file", PUBLIC, ids=module_of)
def test_imports_and_exports(file: Path):
    module = importlib.import_module(module_of(file))
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing


@pytest.mark.parametrize("file", PUBLIC, ids=module_of)
def test_has_a_test(file: Path):
    test = mirror(file)
    assert test.is_file(), f"write {test.relative_to(TESTS.parent)}"
    assert "def test_" in test.read_text(encoding="utf-8")


def test_packages_of_tests_do_not_clash():
    for folder in {test.parent for test in TESTS.rglob("test_*.py")}:
        assert (folder / "__init__.py").is_file(), folder
