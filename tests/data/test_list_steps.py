import pytest

from danlu.core.errors import ConfigError
from danlu.data.list_steps import Config, run
from danlu.data.step import step_names


def test_all_steps_with_their_settings(capsys):
    found = run(Config())
    assert set(found) == set(step_names())
    assert found["clean"]["unicode"] == "NFC"
    told = capsys.readouterr().out
    assert "threshold = 0.75" in told
    for name in step_names():
        assert name in told


def test_one_step_and_one_that_is_none(capsys):
    assert set(run(Config(step="near"))) == {"near"}
    assert "unicode" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match="nearly"):
        run(Config(step="nearly"))
