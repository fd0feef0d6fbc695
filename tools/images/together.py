"""Runs the three images together against real Redis, Postgres and Kafka, and plays the demo."""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import requests
import yaml

from flink_control.rest import FlinkRest
from tools import demo
from tools.images.containers import Container, open_to_all, output_of, started, wait_for
from tools.images.engine import Engine, EngineError
from tools.images.names import FOLDERS, tag
from tools.images.report import Report
from tools.stack.layout import ROOT, Stack, free_port

LISTED: Final = "image_block-detector.jar"
"""The id under which flink_jobs/image/entrypoint.sh lists the launcher jar in the web UI."""
_HEALTHY_WITHIN_S: Final = 300.0  # a busy machine is no fault of the image
_WRONG_USAGE: Final = 2
_ENDED: Final = (0, 143)  # 143: a JVM that SIGTERM ended
_CONFIG: Final = ROOT / "deploy" / "flink"
_CHECKPOINTS: Final = "images-verify-checkpoints"
_POLICY: Final = "/etc/login-blocking/policy"
_FLINK_WRITABLE: Final = ("/tmp", "/opt/flink/upload", "/opt/flink/log")  # noqa: S108 — inside


def run_together(engine: Engine, stack: Stack, report: Report) -> None:
    """Starts, asks, plays, stops; EngineError if a part never gets there."""
    _ends_without_settings(engine, report)
    policy = stack.state_dir / "policy"
    policy.mkdir()
    shutil.copy(stack.policy_file, policy / "policy.yaml")
    policies = f"{open_to_all(policy)}:{_POLICY}:ro"
    with ExitStack() as until_done:
        until_done.callback(_remove_volume, engine)
        apis, flinks = _apis(stack), _flinks(stack)
        containers = {
            name: until_done.enter_context(
                started(
                    engine, engine.local(tag(image)), f"images-verify-{name}", *arguments,
                    environment=environment, volumes=[policies, *volumes], writable=writable,
                )
            )
            for name, (image, arguments, environment, volumes, writable) in (apis | flinks).items()
        }  # fmt: skip
        for name, container in containers.items():
            seconds = container.wait_until_healthy(_HEALTHY_WITHIN_S)
            found = f"{seconds:.0f} s later"
            report.say(name, "runs hardened, healthy by its own check", well=True, found=found)
        _prove_job(stack, containers["taskmanager"], report)
        for name, container in reversed(containers.items()):
            status, seconds = container.stop()
            found = f"status {status} after {seconds:.1f} s"
            report.say(name, "ends when it is told to", well=status in _ENDED, found=found)


def _ends_without_settings(engine: Engine, report: Report) -> None:
    for image, missing in (
        ("login-api", "LOGIN_API_DATABASE_URL"),
        ("blocked-api", "BLOCKED_API_REDIS_URL"),
    ):
        status, output = output_of(engine, engine.local(tag(image)), "python", "-m", FOLDERS[image])
        well = status == _WRONG_USAGE and missing in output
        report.say(image, "without settings it ends with 2 and names them", well=well)


# Name → image, arguments, environment, volumes, writable folders.
_Wanted = dict[str, tuple[str, tuple[str, ...], dict[str, str], list[str], tuple[str, ...]]]


def _apis(stack: Stack) -> _Wanted:
    # Loopback: here a container's network is this machine's own.
    login = {
        "LOGIN_API_HOST": "127.0.0.1",
        "LOGIN_API_PORT": str(stack.ports.login_api),
        "LOGIN_API_DATABASE_URL": stack.database_url,
        "LOGIN_API_REDIS_URL": stack.redis_url("login_api"),
        "LOGIN_API_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "LOGIN_API_POLICY_FILE": f"{_POLICY}/policy.yaml",
        "LOGIN_API_PLACES_KEY": stack.secrets.places,
    }
    blocked = {
        "BLOCKED_API_HOST": "127.0.0.1",
        "BLOCKED_API_PORT": str(stack.ports.blocked_api),
        "BLOCKED_API_REDIS_URL": stack.redis_url("blocked_api"),
    }
    return {
        "login-api": ("login-api", (), login, [], ("/tmp",)),  # noqa: S108
        "blocked-api": ("blocked-api", (), blocked, [], ("/tmp",)),  # noqa: S108
    }


def _flinks(stack: Stack) -> _Wanted:
    detector = {
        "DETECTOR_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "DETECTOR_REDIS_URL": stack.redis_url("detector"),
        "DETECTOR_POLICY_FILE": f"{_POLICY}/policy.yaml",
    }
    return {
        role: (
            "flink",
            (role,),
            detector if role == "jobmanager" else {},
            [
                f"{_flink_conf(stack, role)}:/opt/flink/conf:ro",
                f"{_CHECKPOINTS}:/opt/flink/checkpoints",
            ],
            _FLINK_WRITABLE,
        )
        for role in ("jobmanager", "taskmanager")
    }


def _prove_job(stack: Stack, taskmanager: Container, report: Report) -> None:
    url, rest = stack.flink_url, FlinkRest(stack.flink_url)
    listed = requests.get(f"{url}/jars", timeout=10).json()["files"]
    seen = [entry["name"] for entry in listed if entry["id"] == LISTED]
    report.say("flink", "its web UI lists the jar", well=bool(seen), found=", ".join(seen))
    wait_for("a free slot", lambda: rest.slots_available() > 0, _HEALTHY_WITHIN_S)
    answer = requests.post(f"{url}/jars/{LISTED}/run", json={}, timeout=_HEALTHY_WITHIN_S)
    if not answer.ok:
        raise EngineError(f"Flink refused the listed jar: {answer.text}")
    job_id = str(answer.json()["jobid"])
    wait_for("the job runs", lambda: _all_tasks_run(rest, job_id), _HEALTHY_WITHIN_S)
    report.say("flink", "run without arguments it becomes the job", well=True, found=job_id)
    try:
        delay_ms = demo.show(stack.login_url, stack.blocked_url)
    except (demo.DemoError, requests.RequestException) as error:
        raise EngineError(f"{error}\n{taskmanager.log_tail()}") from error
    found = f"blocked {delay_ms:.0f} ms after the fifth answer"
    report.say("all", "the demo passes", well=True, found=found)
    # In thread mode Python runs inside the JVM, and nowhere else.
    mapped = "grep -o '/[^ ]*libpython[^ ]*' /proc/1/maps | sort -u"
    library = taskmanager.run("sh", "-c", mapped).split()
    report.say("flink", "Python in the JVM (thread mode)", well=len(library) == 1, found=library)
    savepoint = rest.stop_with_savepoint(job_id, _HEALTHY_WITHIN_S)
    report.say("flink", "a savepoint on the volume", well=True, found=savepoint)


def _all_tasks_run(rest: FlinkRest, job_id: str) -> bool:
    return all(vertex["status"] == "RUNNING" for vertex in rest.job(job_id)["vertices"])


def _flink_conf(stack: Stack, role: str) -> Path:
    """Compose's settings of Flink with the addresses and ports of this stack."""
    settings: dict[str, Any] = yaml.safe_load((_CONFIG / "config.yaml").read_text(encoding="utf-8"))
    settings |= dict.fromkeys(
        (
            "rest.address", "rest.bind-address", "jobmanager.rpc.address", "jobmanager.bind-host",
            "taskmanager.host", "taskmanager.bind-host",
        ),
        "127.0.0.1",
    )  # fmt: skip
    settings |= {
        "rest.port": stack.ports.flink,
        "jobmanager.rpc.port": stack.ports.flink_rpc,
        "blob.server.port": 0,
        "metrics.reporter.prom.port": free_port(),  # both roles share one network here
    }
    folder = stack.state_dir / f"conf-{role}"
    folder.mkdir()
    shutil.copy(_CONFIG / "log4j-console.properties", folder)
    text = yaml.safe_dump(settings, width=10_000)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return open_to_all(folder)


def _remove_volume(engine: Engine) -> None:
    remove = [engine.name, "volume", "rm", "--force", _CHECKPOINTS]
    subprocess.run(remove, check=False, capture_output=True)
