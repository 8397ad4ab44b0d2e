"""kill -9 at any moment, then the same command: the final weights are those of an uninterrupted run, bit for bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import couplets


def test_killed_at_many_moments_ends_with_the_same_weights(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(couplets(400)), encoding="utf-8")
    script = Path(__file__).with_name("killing.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(corpus)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout)
    assert len(told["killed"]) >= 20
    for moment, result in told["killed"].items():
        assert result["died"] == -signal.SIGKILL, f"{moment}: the run ended before this moment; choose an earlier one"
        assert result["ended"] == 0, moment
        assert result["weights"] == told["whole"], f"{moment}: other weights"
        assert result["steps"] == list(range(1, 19)), f"{moment}: metrics lost or doubled"
        assert result["left"] == [], f"{moment}: rubbish left behind"
