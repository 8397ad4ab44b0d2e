import pickle

import pytest

from danlu.core import errors
from danlu.core.errors import ConfigError, DanluError, Interrupted, MissingExtraError


def test_what_and_do_are_both_told():
    error = DanluError("no such file: a.txt", "check the path")
    assert (error.what, error.do) == ("no such file: a.txt", "check the path")
    assert str(error) == "no such file: a.txt\ncheck the path"
    assert str(DanluError("only what")) == "only what"


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "DanluError"])
def test_one_root_and_an_exit_code_that_is_not_success(name: str):
    kind = getattr(errors, name)
    assert issubclass(kind, DanluError)
    assert kind.exit_code != 0


def test_exit_codes_tell_settings_and_interruption_apart():
    assert (DanluError.exit_code, ConfigError.exit_code, Interrupted.exit_code) == (1, 2, 130)


def test_a_missing_extra_is_named():
    error = MissingExtraError("pyarrow", "data")
    assert "pyarrow" in error.what
    assert "danlu[data]" in error.do


@pytest.mark.parametrize(
    "error", [errors.DataError("what", "do"), errors.MissingExtraError("ray", "cluster"), errors.Interrupted("now")]
)
def test_an_error_is_the_same_in_another_process(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.what, again.do, str(again)) == (type(error), error.what, error.do, str(error))
