from collections import Counter

import orjson

from danlu.data.parts import Parts
from danlu.data.work import DECISION, Named, Task, work_on

CLEAN = Named("clean", orjson.dumps({"min_characters": 3}).decode())
EXACT = Named("exact", "{}")


def texts(parts: Parts, number: int = 0) -> list[str]:
    return [row["text"] for row in parts.read(number)]


def test_a_part_goes_through_row_steps_and_gets_keys_then_the_decision_is_settled(tmp_path):
    first, second, third = (Parts(tmp_path / name) for name in "abc")
    rows = [{"id": str(n), "source": "s", "text": text} for n, text in enumerate(["one  \r\n", "x", "one", "two"])]
    first.write(0, rows, {}, {})
    ledger = work_on(Task(0, first.folder, second.folder, None, (CLEAN,), EXACT))
    assert texts(second) == ["one", "one", "two"]
    report, keys = ledger["reports"]
    assert (report["step"], report["rows"], report["characters"], report["characters_in"]) == ("clean", 3, 9, 14)
    assert sum(report["dropped"].values()) == 1
    assert next(one for one in report["examples"] if "before" in one)["after"] == "one"
    assert keys["step"] == "exact:keys"
    assert [lost[:2] for lost in ledger["lost"]] == [["1", "clean"]]
    assert set(second.keys(0)) == {"hash"}

    import numpy as np

    second.write_array(0, DECISION, np.array([-1, 0, -1]))
    ledger = work_on(Task(0, second.folder, third.folder, EXACT, (), None))
    assert texts(third) == ["one", "two"]
    assert Counter(ledger["reports"][0]["dropped"]) == {"duplicate": 1}


def test_a_part_that_is_done_is_not_done_again(tmp_path):
    first, second = Parts(tmp_path / "a"), Parts(tmp_path / "b")
    first.write(0, [{"id": "0", "source": "s", "text": "one"}], {}, {})
    task = Task(0, first.folder, second.folder, None, (CLEAN,), None)
    ledger = work_on(task)
    first.drop(0)
    assert work_on(task) == ledger
