"""Back-translation with a translator that a test can follow, and an endpoint that is a real server on this machine."""

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.augmenters import back_translation
from danlu.data.augmenters.back_translation import BackTranslation, Config, EndpointTranslator, language_of, sentences


class Told:
    """Answers from a list; what it does not know comes back as it is. Remembers what it was asked."""

    def __init__(self, **known: str) -> None:
        self.known, self.asked = known, []

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        self.asked.append((list(texts), source, target))
        return [self.known.get(text.strip(), text) for text in texts]


def augmented(translator: Told, *texts: str) -> list[str]:
    return BackTranslation(translator).augment(texts, [Random(0)] * len(texts))


def test_there_and_back():
    translator = Told(
        **{"Good morning.": "早上好。", "早上好。": "Morning!", "我很好。": "I am well.", "I am well.": "我不错。"}
    )
    assert augmented(translator, "Good morning.", "我很好。") == ["Morning!", "我不错。"]
    assert [(source, target) for _, source, target in translator.asked] == [
        ("en", "zh"), ("zh", "en"), ("zh", "en"), ("en", "zh"),
    ]  # fmt: skip


def test_sentences_are_translated_apart_each_once_and_spaces_stay():
    translator = Told(**{"One.": "一。", "一。": "1.", "Two!": "二！", "二！": "2!"})
    assert augmented(translator, " One. Two!\n\nOne.", "Two!") == [" 1. 2!\n\n1.", "2!"]
    assert [len(texts) for texts, _, _ in translator.asked] == [2, 2]


def test_what_comes_back_broken_leaves_the_text_as_it_was():
    translator = Told(
        **{
            "Is it empty?": "空吗？",
            "空吗？": "",
            "short": "短",
            "短": "very " * 9,
            "a long enough text": "长",
            "长": "x",
        }
    )
    texts = ("Is it empty?", "short", "a long enough text", "", " ", "same")
    assert augmented(translator, *texts) == list(texts)


def test_nothing_to_do_asks_nobody():
    translator = Told()
    assert augmented(translator, "", "\n") == ["", "\n"]
    assert translator.asked == []


@given(st.text(alphabet="ab。！.? \n”3", max_size=40))
def test_sentences_join_to_the_text(text: str):
    assert "".join(sentences(text)) == text
    assert all(sentences(text))


def test_sentences_by_hand():
    assert sentences("It is 3.5 m. Really?! “真的吗？”他说。") == ["It is 3.5 m. ", "Really?! ", "“真的吗？”", "他说。"]


def test_language():
    assert [language_of(text) for text in ("I like it", "我很喜欢", "我用 Python 写代码", "the word 好", "", "123")] == [
        "en", "zh", "zh", "en", "en", "en",
    ]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers chat completions: the text in capitals; as many faults first as the server was told."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Server = self.server  # type: ignore[assignment]
        server.asked.append((self.path, self.headers["Authorization"], body))
        text = body["messages"][-1]["content"]
        status = server.faults.pop(0) if server.faults else 200
        answer = {"choices": [{"message": {"content": f" {text.upper()}\n"}}]} if server.good else {"oh": "no"}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    asked: list
    faults: list[int]
    good = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(back_translation, "_PAUSES", (0.01, 0.01))
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked, running.faults = [], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_an_endpoint_translates_in_order(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", "secret")
    translator = EndpointTranslator.of(Config(url=server.url + "/", model="m", key="MY_KEY"))
    texts = [f"text {number}" for number in range(20)]
    assert translator.translate(texts, "en", "zh") == [text.upper() for text in texts]
    path, key, body = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"]) == ("m", 0)
    assert "from English into Simplified Chinese" in body["messages"][0]["content"]
    assert translator.translate([], "en", "zh") == []


def test_an_endpoint_that_is_busy_is_asked_again(server: Server):
    server.faults = [503, 429]
    assert EndpointTranslator(server.url, "m", at_once=1).translate(["a"], "en", "zh") == ["A"]
    assert [key for _, key, _ in server.asked] == [None] * 3


@pytest.mark.parametrize(("faults", "times"), [([401], 1), ([500, 500, 500], 3)])
def test_an_endpoint_that_fails_is_named(server: Server, faults: list[int], times: int):
    server.faults = list(faults)
    with pytest.raises(DataError, match=f"{faults[0]}"):
        EndpointTranslator(server.url, "m", at_once=1).translate(["a"], "en", "zh")
    assert len(server.asked) == times


def test_an_answer_of_another_form_is_named(server: Server):
    server.good = False
    with pytest.raises(DataError, match="chat completion|聊天补全"):
        EndpointTranslator(server.url, "m").translate(["a"], "en", "zh")


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(back_translation, "_PAUSES", ())
    with pytest.raises(DataError, match="127.0.0.1:9"):
        EndpointTranslator("http://127.0.0.1:9/v1", "m", timeout=2).translate(["a"], "en", "zh")
