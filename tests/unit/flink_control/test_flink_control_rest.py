from typing import Any

import pytest
import requests

from flink_control import live_job
from flink_control.rest import FlinkError, FlinkRest, root_cause

REFUSED = """\
org.apache.flink.runtime.rest.handler.RestHandlerException: Could not execute application.
\tat org.apache.flink.runtime.webmonitor.handlers.JarRunHandler.handle(JarRunHandler.java:114)
Caused by: org.apache.flink.client.program.ProgramInvocationException: The main method caused an \
error: \n\nthe job was refused: PolicyError: rules.0: wrong
rules.1: wrong too

\tat org.apache.flink.client.program.PackagedProgram.callMainMethod(PackagedProgram.java:360)
Caused by: java.lang.IllegalStateException: \n\nthe job was refused: PolicyError: rules.0: wrong
rules.1: wrong too

"""


@pytest.mark.parametrize(
    ("trace", "cause"),
    [
        (REFUSED, "PolicyError: rules.0: wrong\nrules.1: wrong too"),
        (
            "a.B: outer\n\tat a.B.c\nCaused by: java.io.FileNotFoundException: no '/x: y'\n\tat d",
            "FileNotFoundException: no '/x: y'",
        ),
        ("<Exception on server side:\na.b.Error: why\n\tat x\nEnd of exception>", "Error: why"),
        ("java.lang.NullPointerException\n\tat x", "NullPointerException"),
        ("Job 12 not found", "Job 12 not found"),
        ("", ""),
    ],
)
def test_root_cause_is_the_innermost_or_the_jobs_own_words(trace: str, cause: str) -> None:
    assert root_cause(trace) == cause


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b'{"status": "ok"}', r"at http://elsewhere/jobs/overview is not Flink's .*jobs is"),
        (200, b"[1]", "is not Flink's REST"),
        (200, b"<html>", "is not Flink's REST"),
        (404, b"[]", "Flink answered 404"),
        (404, b'{"errors": 7}', "Flink answered 404"),
        (404, b'{"errors": ["gone"]}', "gone"),
    ],
)
def test_another_service_is_told_from_flink(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, told: str
) -> None:
    def answer(*_: object, **__: object) -> requests.Response:
        response = requests.Response()
        response.status_code = status
        response._content = body
        return response

    monkeypatch.setattr(requests, "request", answer)
    flink: Any = FlinkRest("http://elsewhere")
    with pytest.raises(FlinkError, match=told):
        live_job.only(flink)
