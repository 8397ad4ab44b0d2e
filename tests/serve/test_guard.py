import logging
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from danlu.serve.app import create_app
from danlu.serve.server import Background, listen

from .calls import call, figures

KEY = "a key with ünicode"


@pytest.fixture(scope="module")
def locked(poet: Path) -> Iterator[Background]:
    with Background(create_app(poet, api_key=KEY), listen("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x"])
def test_without_the_key_nobody_comes_in(locked: Background, header: str | None):
    headers = {} if header is None else {"Authorization": header.encode()}
    for answer in (call(locked, "/v1/models", headers=headers), call(locked, "/v1/completions", {}, headers=headers)):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert KEY not in answer.text


def test_with_the_key(locked: Background):
    headers = {"Authorization": f"bearer {KEY}".encode()}
    assert call(locked, "/v1/models", headers=headers).status_code == 200


def test_page_and_health_need_none(locked: Background):
    for path in ("/", "/healthz", "/readyz", "/metrics"):
        assert call(locked, path).status_code == 200


def test_openais_client_is_told(locked: Background):
    with (
        openai.OpenAI(base_url=locked.url + "/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:9"])
def test_this_machine_by_its_names(served: Background, host: str):
    assert call(served, "/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::2]", ""])
def test_another_name_that_points_here_is_refused(served: Background, host: str):
    answer = call(served, "/", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"


def test_every_answer_has_a_number_that_the_log_has_too(served: Background, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "danlu.serve"):
        answers = [call(served, path) for path in ("/v1/models", "/nowhere", "/healthz")]
    numbers = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(numbers)) == 3
    assert f"GET /nowhere 404" in caplog.text  # noqa: F541
    assert numbers[0] in caplog.text
    assert "/healthz" not in caplog.text  # asked by machines every few seconds


def test_strangers_cannot_make_series_grow(served: Background):
    for number in range(3):
        call(served, f"/no/such/{number}")
    found = figures(served)
    assert found['danlu_http_requests_total{method="GET",route="other",status="404"}'] >= 3
    assert not any("such" in name for name in found)
