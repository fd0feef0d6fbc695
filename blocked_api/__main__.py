"""Serves the Blocked API: `python -m blocked_api`."""

import sys

from granian import Granian
from granian.constants import Interfaces
from pydantic import ValidationError

from blocked_api.settings import Settings


def main() -> int:
    """Serves until SIGTERM or Ctrl-C; 2 if a setting is missing or wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        for detail in error.errors(include_input=False):
            name = "_".join(["BLOCKED_API", *map(str, detail["loc"])]).upper()
            sys.stderr.write(f"{name}: {detail['msg']}\n")
        return 2
    Granian(
        "blocked_api.wsgi:app",
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
