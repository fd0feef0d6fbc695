"""What is proved of the running services; NotProvedError says what did not hold."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from flink_control.live_job import JOB_NAME
from flink_control.rest import FlinkError, FlinkRest
from tools import demo
from tools.verify_compose.containers import Addresses, Podman, can_reach
from tools.verify_compose.rendered import Project, Service

_SCRAPED: Final = {"login-api", "blocked-api", "flink-jobmanager", "prometheus"}
_ASKED_AT_ONCE: Final = 16
_KILLED: Final = 128 + signal.SIGKILL
_ASKED_EVERY_S: Final = 1.0
# Far more than it takes: a busy machine must not decide.
_STARTED_WITHIN_S: Final = 1_800.0
_DONE_WITHIN_S: Final = 300.0
_HEALED_WITHIN_S: Final = 300.0
_LISTED_WITHIN_S: Final = 120.0
_LISTENING: Final = {
    "redis": 6379, "postgres": 5432, "kafka": 9092, "flink-jobmanager": 8081,
    "flink-taskmanager": 9249, "login-api": 3000, "blocked-api": 5000, "prometheus": 9090,
}  # fmt: skip


class NotProvedError(Exception):
    """What should hold does not."""


@dataclass(frozen=True, slots=True)
class Running:
    """The project, its containers, and what was given to it."""

    project: Project
    podman: Podman
    addresses: Addresses
    images: dict[str, str]
    """Service → the image that it runs as; those that cannot be had are missing."""
    variables: Mapping[str, str]

    def services(self) -> list[Service]:
        """Those that have an image, in the order in which they start."""
        return [it for it in self.project.in_order() if it.name in self.images]

    def lasting(self) -> list[Service]:
        """Those that do not end by themselves."""
        return [it for it in self.services() if not it.once]

    def url(self, service: str) -> str:
        """Where a service answers on this machine."""
        (port,) = self.project.services[service].ports
        return f"http://{port.host_ip}:{port.published}"

    def flink(self) -> FlinkRest:
        """The JobManager's REST calls."""
        return FlinkRest(self.url("flink-jobmanager"))


def start_in_order(running: Running) -> str:
    """Each service as soon as all that it waits for is as `depends_on` wants it."""
    return _bring_up(
        running, lambda it: running.podman.start(it, running.images[it.name], running.addresses)
    )


def start_again(running: Running) -> str:
    """As `docker compose up` does with containers that are there: in order, steps once more."""
    return _bring_up(running, running.podman.again)


def _bring_up(running: Running, start: Callable[[Service], None]) -> str:
    began = time.monotonic()

    def say(service: Service, what: str) -> None:
        print(f"  {time.monotonic() - began:6.1f} s  {service.name} {what}", flush=True)

    waiting, started = running.services(), list[Service]()
    done: set[str] = set()
    while waiting or started:
        for service in [it for it in waiting if _needs(running, it) <= done]:
            start(service)
            say(service, "started")
            waiting.remove(service)
            started.append(service)
        for service in [it for it in started if _is_as_wanted(running, it)]:
            say(service, "done" if service.once else "healthy")
            started.remove(service)
            done.add(service.name)
        if time.monotonic() - began > _STARTED_WITHIN_S:
            told = "\n".join(f"{it.name}:\n{running.podman.logs(it)}" for it in started)
            raise NotProvedError(f"not all are up after {_STARTED_WITHIN_S:.0f} s\n{told}")
        time.sleep(_ASKED_EVERY_S)
    return f"all healthy after {time.monotonic() - began:.0f} s"


def _needs(running: Running, service: Service) -> set[str]:
    return {other for other in service.waits_for if other in running.images}


def _is_as_wanted(running: Running, service: Service) -> bool:
    """A step has ended well, a service is healthy: each condition of the file is one of these."""
    if not service.once:
        return running.podman.healthy(service)
    state = running.podman.state(service)
    if state["Status"] not in ("exited", "stopped"):
        return False
    if state["ExitCode"] != 0:
        told = running.podman.logs(service)
        raise NotProvedError(f"{service.name} ended with {state['ExitCode']}:\n{told}")
    return True


def steps_again(running: Running) -> str:
    """A second `up` of a system that runs changes nothing."""
    before = running.flink().alive(JOB_NAME)
    told = []
    for service in running.services():
        if service.once:
            running.podman.again(service)
            _await(running, service)
            told.append(service.name)
    _must(running.flink().alive(JOB_NAME) == before, "another job runs after the second submission")
    return f"{', '.join(told)} ended well once more; the job is the same"


def confined(running: Running) -> str:
    """What the kernel says of each container's first process: user, rights, root file system."""
    for service in running.lasting():
        process = Path(f"/proc/{running.podman.state(service)['Pid']}")
        status = dict(
            line.split(":\t", 1) for line in (process / "status").read_text().splitlines()
        )
        user = status["Uid"].split("\t")[0]
        rights = {status[name].strip("0\n") for name in ("CapEff", "CapPrm", "CapBnd")}
        root = next(
            line.split()[5]
            for line in (process / "mountinfo").read_text().splitlines()
            if line.split()[4] == "/"
        )
        _must(user == service.user.split(":")[0], f"{service.name} runs as user {user}")
        _must(user != "0", f"{service.name} runs as root")
        _must(rights == {""}, f"{service.name} has capabilities")
        _must(status["NoNewPrivs"].strip() == "1", f"{service.name} may gain privileges")
        _must(root.split(",")[0] == "ro", f"{service.name} can write its root file system")
    count = len(running.lasting())
    return f"{count} services: not root, no capability, none to gain, root file system read-only"


def reachable(running: Running) -> str:
    """Every service's every way to every other, by the kernel: none beyond shared networks."""
    ways = [
        (service.name, int(running.podman.state(service)["Pid"]), other, port, network)
        for service in running.lasting()
        for other, port in _LISTENING.items()
        if other != service.name and other in running.images
        for network in running.project.services[other].networks
    ]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as askers:
        reached = list(
            askers.map(
                lambda way: can_reach(way[1], running.addresses.of(way[2], way[4]), way[3]), ways
            )
        )
    for (name, _, other, port, network), there in zip(ways, reached, strict=True):
        meant = network in running.project.services[name].networks
        does = "reaches" if there else "does not reach"
        _must(there == meant, f"{name} {does} {other}:{port} on {network}")
    from_blocked = sorted(
        {
            way[2]
            for way, there in zip(ways, reached, strict=True)
            if there and way[0] == "blocked-api"
        }
    )
    told = f"{sum(reached)} ways open as meant, {len(ways) - sum(reached)} closed"
    return f"{told}; blocked-api reaches {', '.join(from_blocked)}"


def the_demo(running: Running) -> tuple[str, str]:
    """tools/demo.py's scene through the published ports; what was measured, and who is blocked."""
    login_url = running.url("login-api")
    _until(
        lambda: _safely(lambda: requests.get(f"{login_url}/readyz", timeout=5).ok),
        _HEALED_WITHIN_S, "the Login API is not ready",
    )  # fmt: skip
    before = set(_blocked(running))
    delay_ms = demo.show(login_url, running.url("blocked-api"))
    (attacked,) = set(_blocked(running)) - before
    return f"blocked {delay_ms:.0f} ms after the fifth answer", attacked


def told_apart(running: Running) -> str:
    """The address that a call from this machine has, which the policy exempts."""
    user = "somebody-from-here"
    url, token = running.url("login-api"), running.variables["LOGIN_API_ADMIN_TOKEN"]
    answer = requests.post(f"{url}/login", json={"user": user, "pass": "wrong"}, timeout=5)
    _must(answer.status_code == requests.codes.unauthorized, f"a wrong login: {answer.text}")

    def attempts() -> list[dict[str, object]]:
        listed = requests.get(
            f"{url}/admin/attempts/{user}", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )
        found: list[dict[str, object]] = listed.json()["attempts"]
        return found

    _until(lambda: bool(attempts()), _LISTED_WITHIN_S, "the attempt is not in Kafka")
    gateway = str(running.addresses.subnets["login-front"][1])
    seen = str(attempts()[0]["ip"])
    _must(seen == gateway, f"a call from this machine comes from {seen}, not from {gateway}")
    return f"calls from this machine come from {gateway}, exempt in deploy/policy/policy.yaml"


def redis_keeps(running: Running, attacked: str) -> str:
    """A restart of Redis costs no block."""
    redis = running.project.services["redis"]
    took_s = running.podman.stop(redis)
    running.podman.again(redis)
    _await(running, redis)
    _until(lambda: attacked in _blocked(running), _LISTED_WITHIN_S, f"{attacked} is not listed")
    return f"stopped in {took_s:.1f} s; the block is listed again by Redis' own file"


def keeper_heals(running: Running) -> str:
    """A JobManager that is killed: the container restarts, the keeper submits, once."""
    manager = running.project.services["flink-jobmanager"]
    (before,) = running.flink().alive(JOB_NAME)
    pid = int(running.podman.state(manager)["Pid"])
    _kill(pid)
    began = time.monotonic()
    _until(lambda: _one_job_runs(running, other_than=before), _HEALED_WITHIN_S, "no job runs again")
    took_s = time.monotonic() - began
    keeper, words = running.project.services["detector-keeper"], "started from file:///opt/flink"
    _until(
        lambda: words in running.podman.logs(keeper, 5), _LISTED_WITHIN_S, "not from a checkpoint"
    )
    return f"{took_s:.0f} s from the kill to the job running again, from its newest checkpoint"


def taskmanager_heals(running: Running) -> str:
    """A TaskManager that is killed: the same job goes on."""
    (job,) = running.flink().alive(JOB_NAME)
    _kill(int(running.podman.state(running.project.services["flink-taskmanager"])["Pid"]))
    began = time.monotonic()
    _until(lambda: not _one_job_runs(running), _HEALED_WITHIN_S, "the loss was not noticed")
    _until(lambda: _one_job_runs(running), _HEALED_WITHIN_S, "the job does not run again")
    _must(running.flink().alive(JOB_NAME) == [job], "another job took its place")
    return f"{time.monotonic() - began:.0f} s until all tasks of the same job run again"


def silent(running: Running) -> str:
    """No secret stands in anybody's log."""
    secrets = {
        name: value
        for name, value in running.variables.items()
        if re.search("PASSWORD|KEY|TOKEN", name)
    }
    lines = 0
    for service in running.services():
        told = running.podman.logs(service, lines=-1)
        lines += len(told.splitlines())
        for name, value in secrets.items():
            _must(value not in told, f"{name} stands in the log of {service.name}")
    return f"{len(secrets)} secrets looked for in {lines} lines of all logs"


def memory(running: Running) -> str:
    """What each has taken by now, of its limit."""
    used = {
        name: megabytes
        for name, megabytes in running.podman.memory().items()
        if name in {it.name for it in running.lasting()}
    }
    told = ", ".join(f"{name} {used[name]}" for name in sorted(used))
    return f"{sum(used.values())} MB: {told}"


def stops(running: Running) -> str:
    """Each ends within its grace period by the signal alone."""
    told = []
    for service in reversed(running.lasting()):
        took_s = running.podman.stop(service)
        code = running.podman.state(service)["ExitCode"]
        _must(code != _KILLED, f"{service.name} had to be killed after {took_s:.1f} s")
        told.append(f"{service.name} {took_s:.1f} s")
    return ", ".join(told)


def kept(running: Running, attacked: str) -> str:
    """After all were stopped and started: the block, and the job from its checkpoint."""
    _until(lambda: attacked in _blocked(running), _LISTED_WITHIN_S, f"{attacked} is not listed")
    answer = requests.post(
        f"{running.url('login-api')}/login", json={"user": attacked, "pass": "any"}, timeout=5
    )
    _must(answer.status_code == requests.codes.forbidden, f"{answer.status_code} {answer.text}")
    told = running.podman.logs(running.project.services["block-detector"], 3)
    _must("from file:///opt/flink/checkpoints/" in told, f"not from a checkpoint: {told}")
    return f"the block is in force; {told.splitlines()[-1].strip()}"


def scraped(running: Running) -> str:
    """Prometheus finds its targets up, but for those that it looks up in a name server."""

    def targets() -> dict[str, str]:
        answer = requests.get(f"{running.url('prometheus')}/api/v1/targets", timeout=5).json()
        return {t["labels"]["job"]: t["health"] for t in answer["data"]["activeTargets"]}

    _until(
        lambda: _safely(lambda: _up(targets()) >= _SCRAPED),
        _LISTED_WITHIN_S,
        "not all targets are up",
    )
    return ", ".join(sorted(_up(targets())))


def _up(targets: Mapping[str, str]) -> set[str]:
    return {job for job, health in targets.items() if health == "up"}


def _await(running: Running, service: Service) -> None:
    _until(lambda: _is_as_wanted(running, service), _DONE_WITHIN_S, f"{service.name} is not ready")


def _one_job_runs(running: Running, other_than: str = "") -> bool:
    try:
        alive = running.flink().alive(JOB_NAME)
        if len(alive) > 1:
            raise NotProvedError(f"{len(alive)} jobs run at once")
        if not alive or alive[0] == other_than:
            return False
        vertices = running.flink().job(alive[0])["vertices"]
        return all(vertex["status"] == "RUNNING" for vertex in vertices)
    except FlinkError:
        return False


def _blocked(running: Running) -> list[str]:
    try:
        answer = requests.get(f"{running.url('blocked-api')}/blocked", timeout=5)
        answer.raise_for_status()
    except requests.RequestException:
        return []
    users: list[str] = answer.json()["users-blocked"]
    return users


def _kill(pid: int) -> None:
    """The whole container dies with its first process."""
    os.kill(pid, signal.SIGKILL)


def _safely(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except (requests.RequestException, KeyError):
        return False


def _until(holds: Callable[[], bool], within_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise NotProvedError(f"{otherwise} within {within_s:.0f} s")
        time.sleep(0.3)


def _must(holds: object, otherwise: str) -> None:
    if not holds:
        raise NotProvedError(otherwise)
