from prometheus_client.parser import text_string_to_metric_families

from danlu.serve.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (s.name, ",".join(v for _, v in sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


def test_what_is_counted_is_told():
    metrics = Metrics()
    metrics.requests.labels("GET", "/v1/models", 200).inc()
    metrics.latency.labels("/v1/models").observe(0.03)
    queue = [1, 2, 3]
    metrics.watch("m", lambda: 4, lambda: len(queue), lambda: 0)
    found = samples(metrics)
    assert found["danlu_http_requests_total", "GET,/v1/models,200"] == 1
    assert found["danlu_http_request_seconds_bucket", "0.05,/v1/models"] == 1
    assert found["danlu_http_request_seconds_bucket", "0.025,/v1/models"] == 0
    assert found["danlu_requests_waiting", "m"] == 3
    queue.pop()
    assert samples(metrics)["danlu_requests_waiting", "m"] == 2


def test_apps_do_not_share_counters():
    one, two = Metrics(), Metrics()
    one.answers.labels("m", "stop").inc()
    assert ("danlu_answers_total", "stop,m") in samples(one)
    assert ("danlu_answers_total", "stop,m") not in samples(two)
