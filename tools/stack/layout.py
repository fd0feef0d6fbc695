"""Where one stack keeps its files, which ports it takes, and its secrets."""

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCAL: Final = ROOT / ".local"
DEFAULT_STATE_DIR: Final = LOCAL / "stack"
_BELOW_EPHEMERAL: Final = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody holds now; no other call in this process gets it again.

    It may be bound much later: it is out of the range from which Linux takes ports for outgoing
    connections and for servers that ask for any port.
    """
    while True:
        port = _BELOW_EPHEMERAL.start + secrets.randbelow(len(_BELOW_EPHEMERAL))
        if port in _given:
            continue
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            return port


class WrongPortError(Exception):
    """A port that cannot be; the message names its variable."""


def _port(variable: str, text: str) -> int:
    port = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= port < 1 << 16 or (port == 0 and not variable.endswith("_METRICS")):
        raise WrongPortError(f"{variable}={text}: no port, which is a number from 1 to 65535")
    return port


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on 127.0.0.1. Those people use are the contract's; inner ones keep off the usual."""

    login_api: int = 3000
    blocked_api: int = 5000
    flink: int = 8081
    kafka: int = 19092
    kafka_controller: int = 19093
    redis: int = 16379
    postgres: int = 15432
    flink_rpc: int = 16123
    # Flink's reporter listens on every address of the machine, so by default it does not: 0.
    flink_metrics: int = 0
    flink_taskmanager_metrics: int = 0

    @classmethod
    def chosen(cls, before: "Ports | None" = None) -> "Ports":
        """Those of before, else the defaults, each overridden by `STACK_PORT_<NAME>`.

        Raises WrongPortError for what is no port, and where two are the same.
        """
        given = {
            name: _port(variable, os.environ[variable])
            for name in cls.__slots__
            if (variable := cls.variable(name)) in os.environ
        }
        ports = replace(before or cls(), **given)
        taken: dict[int, str] = {}
        for name, port in asdict(ports).items():
            if port and port in taken:
                raise WrongPortError(
                    f"{cls.variable(taken[port])} and {cls.variable(name)} are both {port}"
                )
            taken[port] = name
        return ports

    @staticmethod
    def variable(name: str) -> str:
        """What a port is set by."""
        return f"STACK_PORT_{name.upper()}"

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody holds now, by `free_port`."""
        return cls(**{name: free_port() for name in cls.__slots__})


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Passwords of this stack, generated once. No repr: they must not reach a log."""

    redis_admin: str
    redis_detector: str
    redis_login_api: str
    redis_blocked_api: str
    postgres: str
    places: str
    admin_token: str

    @classmethod
    def generate(cls) -> "Secrets":
        """New ones."""
        return cls(**{name: secrets.token_urlsafe(24) for name in cls.__slots__})


MAX_PARALLELISM: Final = 720
"""Key groups of a new stack; state keeps the number that it was made with, for ever
(docs/decisions/0011-max-parallelism.md)."""

_MAX_PARALLELISM_BEFORE: Final = 128
"""Flink's own choice at parallelism 1, in stacks of before this was written down."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack: its folder, ports and secrets."""

    state_dir: Path
    ports: Ports
    secrets: Secrets
    max_parallelism: int = MAX_PARALLELISM

    @property
    def policy_file(self) -> Path:
        """The policy in force, a copy: the job judges by it, the Login API's guard limits by it."""
        return self.state_dir / "policy.yaml"

    @property
    def logs(self) -> Path:
        """One log file a part."""
        return self.state_dir / "log"

    @property
    def data(self) -> Path:
        """What the parts keep."""
        return self.state_dir / "data"

    @property
    def state_file(self) -> Path:
        """What the supervisor says of itself and its parts."""
        return self.state_dir / "state.json"

    @property
    def login_url(self) -> str:
        """Where the Login API answers."""
        return f"http://127.0.0.1:{self.ports.login_api}"

    @property
    def blocked_url(self) -> str:
        """Where the Blocked API answers."""
        return f"http://127.0.0.1:{self.ports.blocked_api}"

    @property
    def flink_url(self) -> str:
        """Flink's web UI and REST."""
        return f"http://127.0.0.1:{self.ports.flink}"

    @property
    def kafka_bootstrap(self) -> str:
        """The broker."""
        return f"127.0.0.1:{self.ports.kafka}"

    def redis_url(self, user: str) -> str:
        """Redis as one of its users: admin, detector, login_api, blocked_api."""
        password = getattr(self.secrets, f"redis_{user}")
        return f"redis://{user}:{password}@127.0.0.1:{self.ports.redis}/0"

    @property
    def database_url(self) -> str:
        """The accounts' database."""
        return (
            f"postgresql://login_api:{self.secrets.postgres}"
            f"@127.0.0.1:{self.ports.postgres}/login_api"
        )

    @property
    def checkpoints(self) -> Path:
        """Checkpoints and savepoints of the jobs."""
        return self.data / "flink" / "checkpoints"


class NoStackError(Exception):
    """There is no stack in that folder."""


def create(state_dir: Path, ports: Ports, policy_file: Path) -> Stack:
    """The stack of that folder with these ports; its secrets are made at the first time."""
    state_dir = state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True)
    secrets_file = state_dir / "secrets.json"
    if not secrets_file.exists():
        secrets_file.touch(mode=0o600)
    kept = json.loads(secrets_file.read_text() or "{}")
    # A stack of an earlier version gets the secrets that it lacks.
    secrets_file.write_text(json.dumps(asdict(Secrets.generate()) | kept))
    stack_file = state_dir / "stack.json"
    max_parallelism = MAX_PARALLELISM
    if stack_file.exists():
        before = json.loads(stack_file.read_text())
        max_parallelism = before.get("max_parallelism", _MAX_PARALLELISM_BEFORE)
    stack_file.write_text(json.dumps({"ports": asdict(ports), "max_parallelism": max_parallelism}))
    stack = load(state_dir)
    choose_policy(stack, policy_file.read_text(encoding="utf-8"))
    return stack


def choose_policy(stack: Stack, policy_text: str) -> None:
    """Another policy in force, from the job's next start on."""
    written = stack.policy_file.with_suffix(".new")
    written.write_text(policy_text, encoding="utf-8")
    written.replace(stack.policy_file)  # whoever reads finds one of the two whole


def make(target: str, state_dir: Path) -> str:
    """The command that does that with the stack of that folder."""
    is_default = state_dir.resolve() == DEFAULT_STATE_DIR.resolve()
    return f"make {target}" + ("" if is_default else f" STATE={state_dir}")


def load(state_dir: Path = DEFAULT_STATE_DIR) -> Stack:
    """The stack of that folder; raises NoStackError."""
    state_dir = state_dir.resolve()
    try:
        stack = json.loads((state_dir / "stack.json").read_text())
        known = Secrets(**json.loads((state_dir / "secrets.json").read_text()))
    except FileNotFoundError as error:
        raise NoStackError(
            f"there is no stack in {state_dir}; start one: {make('up', state_dir)}"
        ) from error
    max_parallelism = stack.get("max_parallelism", _MAX_PARALLELISM_BEFORE)
    return Stack(state_dir, Ports(**stack["ports"]), known, max_parallelism)
