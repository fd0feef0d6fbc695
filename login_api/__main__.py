"""Brings the schema up to date and serves the Login API: `python -m login_api`."""

import os
import sys
import tempfile
from contextlib import ExitStack
from typing import Final

from granian import Granian
from granian.constants import Interfaces
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, OperationalError

from login_api.migrations import migrate
from login_api.policy_in_force import PolicyInForce
from login_api.settings import METRICS_FOLDER_VARIABLE, Settings
from login_blocking.complaints import complaints
from login_blocking.policy_file import PolicyError

_STOP_WITHIN_S: Final = 5


def main() -> int:
    """Serves until SIGTERM or Ctrl-C; 2 for a wrong setting, 1 if Postgres does not answer."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.writelines(f"{line}\n" for line in complaints(error, "LOGIN_API_"))
        return 2
    try:
        PolicyInForce(settings.policy_file)
    except (PolicyError, OSError) as error:
        sys.stderr.write(f"LOGIN_API_POLICY_FILE: {settings.policy_file}: {error}\n")
        return 2
    try:
        migrate(settings.database_url.get_secret_value())
    except ArgumentError:
        sys.stderr.write("LOGIN_API_DATABASE_URL: not of the form postgresql://user:pass@host/db\n")
        return 2
    except OperationalError as error:
        # The type alone: the message could hold the address with its password.
        sys.stderr.write(f"Postgres does not answer ({type(error.orig).__name__}); is it up?\n")
        return 1
    with ExitStack() as until_stopped:
        if settings.workers > 1:
            folder = tempfile.TemporaryDirectory(prefix="login-api-metrics-")
            os.environ[METRICS_FOLDER_VARIABLE] = until_stopped.enter_context(folder)
        Granian(
            "login_api.wsgi:app",
            address=settings.host,
            port=settings.port,
            interface=Interfaces.WSGI,
            workers=settings.workers,
            blocking_threads=settings.threads,
            workers_kill_timeout=_STOP_WITHIN_S,
            websockets=False,
        ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
