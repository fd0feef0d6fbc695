"""Proves of each image what docs/images.md says: by looking into it, and by running all three together."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
import yaml

from flink_control.rest import FlinkRest
from tools import demo
from tools.images import probe
from tools.images.containers import open_to_all, output_of, started, wait_for
from tools.images.engine import Engine, EngineError
from tools.images.names import FOLDERS, tag
from tools.images.servers import running_servers
from tools.stack.layout import ROOT, Stack

LISTED: Final = "image_block-detector.jar"
"""The id under which flink_jobs/image/entrypoint.sh lists the launcher jar in the web UI."""
_USERS: Final = {"login-api": "10001:10001", "blocked-api": "10001:10001", "flink": "9999:9999"}
_HEALTHY_WITHIN_S: Final = 90.0
_MB: Final = 1_000_000
_CONFIG: Final = ROOT / "deploy" / "flink"
_UPLOAD: Final = "/opt/flink/upload"
_WRITABLE: Final = ["/tmp", _UPLOAD, "/opt/flink/log"]  # noqa: S108 — the container's own


@dataclass(slots=True)
class Report:
    """What was found, printed as it comes."""

    failed: int = 0
    sizes: list[tuple[str, float, int]] = field(default_factory=list)

    def say(self, image: str, what: str, *, well: bool, found: object = "") -> None:
        """One line; `found` tells what was seen."""
        self.failed += not well
        print(f"{'✓' if well else '✗'} {image:12} {what}{f': {found}' if found else ''}", flush=True)


def verify(engine: Engine) -> bool:
    """Looks at every image, then runs them; whether all was as it should be."""
    report = Report()
    _lint(report)
    for image in FOLDERS:
        _look_at(engine, image, report)
        _look_inside(engine, image, report)
    with tempfile.TemporaryDirectory(prefix="login-blocking-images-") as folder:
        try:
            with running_servers(Path(folder)) as stack:
                _run_all(engine, stack, report)
        except EngineError as error:
            report.say("all", "run together", well=False, found=error)
    _print_table(report)
    print("All as it should be." if not report.failed else f"{report.failed} not as it should be.")
    return not report.failed


def _lint(report: Report) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    for image, folder in FOLDERS.items():
        done = subprocess.run(
            [str(hadolint), "--no-color", str(ROOT / folder / "Dockerfile")],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        report.say(image, "hadolint has nothing to say", well=not done.returncode, found=done.stdout)


def _look_at(engine: Engine, image: str, report: Report) -> None:
    known = engine.inspect(engine.local(tag(image)))
    config = known["Config"]
    user = config["User"]
    report.say(image, "its user is not root", well=user == _USERS[image], found=user)
    labels = {name.rpartition(".")[2]: value for name, value in (config["Labels"] or {}).items()}
    named = {"title": image, "version": tag(image).rpartition(":")[2]}
    told = {name: labels.get(name) for name in (*named, "revision")}
    report.say(image, "labels", well=named.items() <= told.items() and bool(told["revision"]), found=told)
    check = config.get("Healthcheck") or known.get("HealthCheck") or known.get("Healthcheck")
    report.say(image, "has a health check", well=bool(check))
    size, layers = known["Size"] / _MB, len(known["RootFS"]["Layers"])
    report.sizes.append((image, size, layers))


def _look_inside(engine: Engine, image: str, report: Report) -> None:
    text = Path(probe.__file__).read_text(encoding="utf-8")
    name = engine.local(tag(image))
    found = _findings(output_of(engine, name, "python", "-c", text))
    as_root = _findings(output_of(engine, name, "python", "-c", text, user="0:0", hard=False))
    runs_as = f"{found['uid']}:{found['gid']}"
    report.say(image, "runs as that user", well=runs_as == _USERS[image], found=runs_as)
    report.say(
        image, "read-only but for /tmp", well=found["writable"] == ["/tmp"],  # noqa: S108
        found=", ".join(found["writable"]),
    )  # fmt: skip
    for what, key in (
        ("no build tool", "tools"),
        ("no file with the rights of another user (setuid, setgid)", "other_rights"),
        ("nothing of the build left", "left"),
    ):
        report.say(image, what, well=not as_root[key], found=", ".join(as_root[key]))
    report.say(image, "no pip", well=not as_root["pip"])


def _findings(answer: tuple[int, str]) -> dict[str, Any]:
    status, output = answer
    if status:
        raise EngineError(f"the probe failed: {output}")
    found: dict[str, Any] = json.loads(output)
    return found


def _run_all(engine: Engine, stack: Stack, report: Report) -> None:
    folder = stack.state_dir
    policy = folder / "policy"
    policy.mkdir()
    shutil.copy(stack.policy_file, policy / "policy.yaml")
    volumes = [f"{open_to_all(policy)}:/etc/login-blocking/policy:ro"]
    for image, settings in (
        ("login-api", "LOGIN_API_DATABASE_URL"),
        ("blocked-api", "BLOCKED_API_REDIS_URL"),
    ):
        status, output = output_of(engine, engine.local(tag(image)), "python", "-m", FOLDERS[image])
        well = status == 2 and settings in output  # noqa: PLR2004 — wrong usage
        report.say(image, "without settings it ends with 2 and names them", well=well)
    login = {
        "LOGIN_API_HOST": "127.0.0.1",  # here the network is this machine's own
        "LOGIN_API_PORT": str(stack.ports.login_api),
        "LOGIN_API_DATABASE_URL": stack.database_url,
        "LOGIN_API_REDIS_URL": stack.redis_url("login_api"),
        "LOGIN_API_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "LOGIN_API_POLICY_FILE": "/etc/login-blocking/policy/policy.yaml",
        "LOGIN_API_PLACES_KEY": stack.secrets.places,
    }
    blocked = {
        "BLOCKED_API_HOST": "127.0.0.1",
        "BLOCKED_API_PORT": str(stack.ports.blocked_api),
        "BLOCKED_API_REDIS_URL": stack.redis_url("blocked_api"),
    }
    detector = {
        "DETECTOR_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "DETECTOR_REDIS_URL": stack.redis_url("detector"),
        "DETECTOR_POLICY_FILE": "/etc/login-blocking/policy/policy.yaml",
    }
    flink = engine.local(tag("flink"))
    checkpoints = "images-verify-checkpoints"
    conf = [_flink_conf(stack, role) for role in ("jobmanager", "taskmanager")]
    with contextlib.ExitStack() as until_done:
        until_done.callback(_remove_volume, engine, checkpoints)
        enter = until_done.enter_context
        apis = {
            image: enter(
                started(
                    engine, engine.local(tag(image)), f"images-verify-{image}",
                    environment=environment, volumes=volumes,
                )
            )
            for image, environment in (("login-api", login), ("blocked-api", blocked))
        }  # fmt: skip
        kept = f"{checkpoints}:/opt/flink/checkpoints"
        flinks = {
            role: enter(
                started(
                    engine, flink, f"images-verify-{role}", role,
                    environment=detector if role == "jobmanager" else {},
                    volumes=[*volumes, f"{own}:/opt/flink/conf:ro", kept], writable=_WRITABLE,
                )
            )
            for role, own in zip(("jobmanager", "taskmanager"), conf, strict=True)
        }  # fmt: skip
        for image, container in (*apis.items(), *flinks.items()):
            seconds = container.wait_until_healthy(_HEALTHY_WITHIN_S)
            report.say(
                image, "started read-only without rights, healthy by its image's own check",
                well=True, found=f"{seconds:.0f} s later",
            )  # fmt: skip
        rest = FlinkRest(stack.flink_url)
        listed = requests.get(f"{stack.flink_url}/jars", timeout=5).json()["files"]
        seen = [entry["name"] for entry in listed if entry["id"] == LISTED]
        report.say("flink", "its web UI lists the jar", well=bool(seen), found=", ".join(seen))
        wait_for("a free slot", lambda: rest.slots_available() > 0, _HEALTHY_WITHIN_S)
        run = requests.post(f"{stack.flink_url}/jars/{LISTED}/run", json={}, timeout=120)
        job_id = str(run.json().get("jobid", run.text))
        report.say("flink", "that jar, run without arguments, becomes a job", well=run.ok, found=job_id)
        wait_for("the job runs", lambda: _all_tasks_run(rest, job_id), _HEALTHY_WITHIN_S)
        try:
            delay_ms = demo.show(stack.login_url, stack.blocked_url)
        except (demo.DemoError, requests.RequestException) as error:
            raise EngineError(f"{error}\n{flinks['taskmanager'].log_tail()}") from error
        report.say(
            "all", "the demo passes, decided by Python in the TaskManager (thread mode)", well=True,
            found=f"blocked {delay_ms:.0f} ms after the fifth answer",
        )  # fmt: skip
        loaded = flinks["taskmanager"].run("sh", "-c", "grep -o '/[^ ]*libpython[^ ]*' /proc/1/maps | sort -u")
        report.say("flink", "the TaskManager's JVM holds one libpython", well=loaded.count("\n") == 1, found=loaded.strip())
        savepoint = rest.stop_with_savepoint(job_id)
        report.say("flink", "the job stops with a savepoint on the volume", well=True, found=savepoint)
        for image, container in (*apis.items(), *reversed(flinks.items())):
            status, seconds = container.stop()
            report.say(
                image, "ends when it is told to", well=status in (0, 143),
                found=f"status {status} after {seconds:.1f} s",
            )  # fmt: skip


def _all_tasks_run(rest: FlinkRest, job_id: str) -> bool:
    job = rest.job(job_id)
    return all(vertex["status"] == "RUNNING" for vertex in job["vertices"])


def _flink_conf(stack: Stack, role: str) -> Path:
    """Compose's settings of Flink with the addresses and ports of this stack."""
    settings: dict[str, Any] = yaml.safe_load((_CONFIG / "config.yaml").read_text(encoding="utf-8"))
    local = dict.fromkeys(
        (
            "rest.address", "rest.bind-address", "jobmanager.rpc.address", "jobmanager.bind-host",
            "taskmanager.host", "taskmanager.bind-host",
        ),
        "127.0.0.1",
    )  # fmt: skip
    ports: Mapping[str, int] = {
        "rest.port": stack.ports.flink,
        "jobmanager.rpc.port": stack.ports.flink_rpc,
        "blob.server.port": 0,
        "metrics.reporter.prom.port": _free_port(),
    }
    folder = stack.state_dir / f"conf-{role}"
    folder.mkdir()
    shutil.copy(_CONFIG / "log4j-console.properties", folder)
    text = yaml.safe_dump({**settings, **local, **ports}, width=10_000)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return open_to_all(folder)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


def _remove_volume(engine: Engine, name: str) -> None:
    subprocess.run([engine.name, "volume", "rm", "--force", name], check=False, capture_output=True)


def _print_table(report: Report) -> None:
    print("\n| image | MB | layers |\n|---|---:|---:|")
    for image, size, layers in report.sizes:
        print(f"| `{tag(image)}` | {size:,.0f} | {layers} |")
    print()
