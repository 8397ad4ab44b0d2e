import pytest

from danlu.core.errors import ServeError
from danlu.serve.probe import probe
from danlu.serve.server import Background, listen, url_of

from .conftest import POEMS


def test_asks_for_real_and_measures(served: Background):
    found = probe(served.url, list(POEMS) * 4, concurrency=4, temperature=0)
    assert found["texts"] == list(POEMS.values()) * 4
    assert found["requests"] == 8
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["seconds"] * 1000
    assert found["tokens_per_second"] > 0


def test_a_base_model_continues(served: Background):
    found = probe(served.url, ["山"], model="base", max_tokens=3)
    assert len(found["texts"]) == 1


def test_messages_are_taken_as_they_are(served: Background):
    ask, poem = next(iter(POEMS.items()))
    assert probe(served.url, [[{"role": "user", "content": ask}]], temperature=0)["texts"] == [poem]


def test_what_goes_wrong_is_told(served: Background):
    with pytest.raises(ServeError, match=r"404.*nobody"):
        probe(served.url, ["x"], model="nobody")
    with pytest.raises(ServeError, match="temperature"):
        probe(served.url, ["x"], temperature=9)
    with pytest.raises(ServeError):
        probe(served.url, [])
    with listen("127.0.0.1", 0) as closed:
        nobody = url_of(closed)
    with pytest.raises(ServeError, match=r"no answer|没有应答"):
        probe(nobody, ["x"])
