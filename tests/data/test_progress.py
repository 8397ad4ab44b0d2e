import time

from danlu.data import progress


def test_short_work_shows_nothing_and_passes_items_through(capsys):
    assert list(progress.track(range(5), 5, "counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_long_work_shows_a_bar_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    for item in progress.track(range(3), 3, "counting"):
        time.sleep(0.02 if item == 0 else 0)
    out, error = capsys.readouterr()
    assert out == ""
    assert "counting" in error
