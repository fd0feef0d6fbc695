"""What the application leans on; wsgi.py wires the real ones, tests their own."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import SecretStr

from login_api.accounts import Accounts
from login_api.attempt_history import AttemptHistory
from login_api.guard import Guard
from login_api.metrics import Metrics
from login_api.passwords import Argon2Hasher
from login_api.places import Places
from login_api.records import RecordPublisher
from login_blocking.client_address import ClientAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All of them, by what they are for."""

    accounts: Accounts
    guard: Guard
    places: Places
    publisher: RecordPublisher
    history: AttemptHistory
    metrics: Metrics
    hasher: Argon2Hasher
    clock: Callable[[], int]
    """The wall clock in ms since the epoch."""
    open_without_guard: bool
    admin_token: SecretStr | None
    """None: nobody may make an operator's calls."""
    client_address: ClientAddress
    """From the socket's peer and the request's headers to an address that `ip_key` takes."""
    dashboard_origins: tuple[str, ...] = ()
    """Pages that may make operators' calls from a browser."""
