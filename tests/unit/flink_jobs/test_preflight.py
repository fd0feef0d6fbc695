import pytest

from flink_jobs.preflight import rest_url

ANY = "0.0.0.0"  # noqa: S104 — told, not bound


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8081"),
        ({"rest.address": "flink-jobmanager", "rest.port": "81"}, "http://flink-jobmanager:81"),
        # Its own pod, past any service: no network policy need let it reach itself.
        ({"rest.address": "jm", "rest.bind-address": ANY}, "http://127.0.0.1:8081"),
        ({"rest.bind-address": "localhost", "rest.bind-port": "99"}, "http://127.0.0.1:99"),
        ({"rest.bind-address": "10.1.2.3", "rest.bind-port": "90-99"}, "http://10.1.2.3:8081"),
        ({"security.ssl.rest.enabled": "true"}, "https://127.0.0.1:8081"),
    ],
)
def test_jobmanager_is_asked_where_it_listens(settings: dict[str, str], url: str) -> None:
    assert rest_url(settings) == url
