"""The whole system against a Kafka that asks who one is, each part as its own user."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.secured_kafka import SecuredKafka, running_secured_kafka
from tests.support.services import running_server, wait_until
from tools.stack import job, layout, prepare
from tools.stack.layout import ROOT, Ports, Stack
from tools.stack.parts import Part, parts

_TOGETHER = ("redis", "postgres", "flink-jobmanager", "flink-taskmanager")
_READY_WITHIN_S = 150.0


@dataclass(frozen=True, slots=True)
class SecuredStack:
    """Redis, Postgres, a Flink session cluster with the live job, and the Login API."""

    stack: Stack
    kafka: SecuredKafka
    logs: Path


@contextmanager
def running_secured_stack(
    folder: Path, make_topics: Callable[[SecuredKafka], None]
) -> Iterator[SecuredStack]:
    """Started in the order in which its parts need each other."""
    kafka_folder, logs = folder / "kafka", folder / "logs"
    kafka_folder.mkdir()
    stack = layout.create(folder / "stack", Ports.free(), ROOT / "policies" / "default.yaml")
    prepare.prepare(stack)
    with ExitStack() as running:
        kafka = running.enter_context(running_secured_kafka(kafka_folder))
        make_topics(kafka)
        described = {part.name: part for part in parts(stack)}
        for names in (_TOGETHER, ("login-api",)):
            started = [_start(running, described[name], kafka, logs / name) for name in names]
            for wait_until_ready in started:
                wait_until_ready()
        job.ensure(stack)
        yield SecuredStack(stack, kafka, logs)


def _start(running: ExitStack, part: Part, kafka: SecuredKafka, output: Path) -> Callable[[], None]:
    """What waits until it is ready."""
    if part.before is not None:
        part.before()
    output.mkdir(parents=True)
    environment = _environment(part, kafka)
    server = running_server(part.command, output, part.stop_signal, environment, part.folder)
    process = running.enter_context(server)

    def ready() -> None:
        if not part.ready():
            raise RuntimeError(f"{part.name} is not ready")

    return lambda: wait_until(ready, Exception, process, output, _READY_WITHIN_S)


def _environment(part: Part, kafka: SecuredKafka) -> dict[str, str] | None:
    """The part's own, with Kafka's in place of those of a stack without users."""
    if part.environment is None:
        return None
    kept = {
        name: value
        for name, value in part.environment.items()
        if not name.startswith(("DETECTOR_KAFKA", "LOGIN_API_KAFKA"))
    }
    match part.name:
        case "flink-jobmanager":
            return kept | kafka.environment("DETECTOR_", "detector")
        case "login-api":
            return kept | kafka.environment("LOGIN_API_", "login-api")
    # A TaskManager gets what it needs with the job.
    return {name: value for name, value in kept.items() if not name.startswith("DETECTOR_")}
