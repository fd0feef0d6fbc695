"""Brings the schema up to date and serves the Login API: `python -m login_api`."""

import sys

from granian import Granian
from granian.constants import Interfaces
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from login_api.migrations import migrate
from login_api.settings import Settings


def main() -> int:
    """Serves until SIGTERM or Ctrl-C; 2 for a wrong setting, 1 if Postgres does not answer."""
    try:
        settings = Settings()
    except ValidationError as error:
        for detail in error.errors(include_input=False):
            name = "_".join(["LOGIN_API", *map(str, detail["loc"])]).upper()
            sys.stderr.write(f"{name}: {detail['msg']}\n")
        return 2
    try:
        migrate(settings.database_url.get_secret_value())
    except OperationalError as error:
        # The type alone: the message could hold the address with its password.
        sys.stderr.write(f"Postgres does not answer ({type(error.orig).__name__}); is it up?\n")
        return 1
    Granian(
        "login_api.wsgi:app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        blocking_threads=settings.threads,
        websockets=False,
    ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
