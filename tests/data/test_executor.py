import os
import time

import pytest

from danlu.core.errors import DataError
from danlu.data.executor import Executor


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> int:
    time.sleep(0.5 if number == 0 else 0)
    return number


def process_of(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def refuse(number: int) -> int:
    if number == 3:
        raise DataError("three", "no threes")
    return number


def die(number: int) -> int:
    if number == 1:
        os._exit(9)
    return number


def run_tasks(function, tasks, **settings):
    with Executor(**settings) as executor:
        yield from executor.run(function, tasks)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(run_tasks(slow_first, range(8), workers=workers)) == list(range(8))


def test_tasks_are_taken_only_as_fast_as_they_are_done():
    taken = 0

    def tasks():
        nonlocal taken
        for number in range(100):
            taken = number
            yield number

    results = run_tasks(square, tasks(), workers=2)
    assert next(results) == 0
    assert taken < 10
    assert list(results) == [number * number for number in range(1, 100)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_goes_on(workers):
    with pytest.raises(DataError, match="no threes"):
        list(run_tasks(refuse, range(8), workers=workers))


def test_a_worker_that_dies_is_an_error_and_no_hang():
    with pytest.raises(DataError, match="worker|进程"):
        list(run_tasks(die, range(8), workers=2))


def test_ray_gives_the_same():
    pytest.importorskip("ray")
    assert list(run_tasks(slow_first, range(6), workers=2, engine="ray")) == list(range(6))
    with pytest.raises(DataError, match="no threes"):
        list(run_tasks(refuse, range(8), workers=2, engine="ray"))


def test_one_process_serves_several_runs_and_ends(tmp_path):
    with Executor(2) as executor:
        first, second = (set(executor.run(process_of, range(8))) for _ in range(2))
        assert os.getpid() not in first
        assert len(first | second) <= 2
        assert list(executor.run(process_of, [0])) == [os.getpid()]
    assert not any(os.path.exists(f"/proc/{number}") for number in first | second) or not os.path.exists("/proc/self")
