import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from danlu.core.errors import DataError
from danlu.data.batches import PackedBatches
from danlu.data.feed import Feed
from danlu.data.pack import Document
from danlu.data.stream import StreamBatches
from tests.data.test_stream import Numbers, rows, same, streamed, taken


def packed(**settings):
    documents = [Document([100 * n + k for k in range(2 + n % 8)]) for n in range(1, 60)]
    return PackedBatches(documents, 16, 2, **{"seed": 3, "epochs": 3} | settings)


class Broken:
    """Gives a few batches, then does what `fault` says."""

    def __init__(self, fault, good=3):
        self.fault, self.left = fault, good

    def __next__(self):
        if not self.left:
            self.fault()
        self.left -= 1
        return {"input_ids": torch.zeros(2, 2, dtype=torch.int64)}

    def state_dict(self):
        return {"left": self.left}

    def load_state_dict(self, state):
        self.left = state["left"]


def refuse():
    raise DataError("row 17 is bad", "mend it")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def slip():
    raise ValueError("a slip")


@pytest.mark.parametrize("workers", [0, 1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_same_batches_in_the_same_order(workers):
    expected = list(packed())
    with Feed(packed(), workers=workers, ahead=3) as feed:
        found = list(feed)
        assert next(feed, None) is None
        assert len(feed) == len(packed())
        assert feed.fill == packed().fill
    assert len(found) == len(expected) > 10
    assert all(map(same, found, expected))


def test_resuming_counts_what_was_handed_out_at_every_batch():
    expected = list(packed())
    plain = packed()
    for at in range(len(expected) + 1):
        with Feed(packed(), ahead=4) as feed:
            taken(feed, at)
            time.sleep(0.002)  # let it run ahead
            state = json.loads(json.dumps(feed.state_dict()))
        assert state == plain.state_dict()
        with Feed(packed(), ahead=2) as again:
            next(again)
            again.load_state_dict(state)
            assert all(map(same, taken(again, 3), expected[at : at + 3]))
        next(plain, None)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stream_resumes_through_a_feed(workers):
    if workers:  # a source that another process can be sent
        stream = lambda: StreamBatches(Rows(), Numbers(), 16, 3, window=120, epochs=1)  # noqa: E731
    else:
        stream = lambda: streamed(epochs=1)  # noqa: E731
    expected = list(stream())
    with Feed(stream(), workers=workers) as feed:
        taken(feed, 7)
        state = feed.state_dict()
        with Feed(stream()) as again:
            again.load_state_dict(state)
            rest = list(again)
        assert len(rest) == len(expected) - 7
        assert all(map(same, rest, expected[7:]))
        assert all(map(same, feed, expected[7:]))


class Rows:
    def __call__(self, start):
        return iter(rows([(7 * n) % 23 for n in range(1, 150)])[start:])


def test_closed_it_goes_on_where_it_was():
    expected = list(packed())
    feed = Feed(packed())
    assert all(map(same, taken(feed, 5), expected))
    feed.close()
    feed.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]
    assert all(map(same, feed, expected[5:]))
    feed.close()


def test_it_runs_ahead_but_not_further():
    made = 0

    class Counting(Broken):
        def __next__(self):
            nonlocal made
            made += 1
            return super().__next__()

    with Feed(Counting(refuse, good=10**9), ahead=4) as feed:
        next(feed)
        time.sleep(0.5)
        assert 5 <= made <= 6  # one handed out, four waiting, one in the hand of the thread


@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_told_after_the_good_batches(workers):
    with Feed(Broken(refuse), workers=workers) as feed:
        taken(feed, 3)
        for _ in range(2):
            with pytest.raises(DataError, match="row 17") as caught:
                next(feed)
            assert caught.value.do == "mend it"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_that_nobody_foresaw_is_told_too(workers):
    with Feed(Broken(slip), workers=workers) as feed, pytest.raises((DataError, ValueError), match="a slip"):
        list(feed)


@pytest.mark.timeout(60)
def test_a_worker_that_dies_is_an_error_not_a_hang():
    with Feed(Broken(die), workers=1) as feed:
        taken(feed, 3)
        with pytest.raises(DataError, match="-9"):
            next(feed)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_worker_that_dies_while_its_batch_is_not_yet_wanted():
    with Feed(packed(epochs=None), workers=2, ahead=1) as feed:
        next(feed)
        assert feed._line is not None
        os.kill(feed._line._workers[1]._process.pid, signal.SIGKILL)
        with pytest.raises(DataError, match="died"):
            for _ in itertools.repeat(None, 10_000):
                next(feed)


_LOOP = """
import sys, time
sys.path.insert(0, sys.argv[1])
from tests.data.test_feed import packed
from danlu.data.feed import Feed

if __name__ == "__main__":
    with Feed(packed(epochs=None), workers=int(sys.argv[2])) as feed:
        for number, batch in enumerate(feed):
            if number == 20:
                import psutil
                print(*[child.pid for child in psutil.Process().children(recursive=True)], "ready", flush=True)
            time.sleep(0.001)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("workers", "blow"),
    [(0, signal.SIGINT), (2, signal.SIGINT), pytest.param(2, signal.SIGKILL, marks=pytest.mark.slow)],
)
def test_ctrl_c_and_a_killed_parent_leave_no_process_behind(tmp_path, workers, blow):
    script = tmp_path / "loop.py"
    script.write_text(_LOOP)
    words = [sys.executable, script, Path(__file__).parents[2], str(workers)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    children = [int(word) for word in process.stdout.readline().split() if word != "ready"]
    assert len(children) >= workers
    if blow == signal.SIGINT:
        os.killpg(process.pid, blow)  # as a terminal does: to all of them
    else:
        process.send_signal(blow)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if blow == signal.SIGKILL else -signal.SIGINT)
    assert err.count("Traceback") == (blow == signal.SIGINT)
    until = time.monotonic() + 10
    while any(map(running, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(running, children))


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_cannot_be_fed_is_told():
    with pytest.raises(DataError):
        Feed(packed(), ahead=0)
    with pytest.raises(DataError, match="StreamBatches"):
        Feed(streamed(), workers=2)
    with pytest.raises(TypeError):
        len(Feed(streamed()))
