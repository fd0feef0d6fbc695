"""Serves the Blocked API: `python -m blocked_api`."""

import os
import sys
import tempfile
from contextlib import ExitStack, suppress
from typing import Final

from granian import Granian
from granian.constants import Interfaces
from pydantic import ValidationError

from blocked_api.settings import LET_GO, METRICS_FOLDER_VARIABLE, Settings
from login_blocking.complaints import complaints

_STOP_WITHIN_S: Final = 5


class _Server(Granian):  # type: ignore[misc,valid-type]  # a class that depends on the platform
    """Granian, which lets streams go before it waits for them."""

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """At SIGTERM and SIGINT."""
        for worker in self.wrks:
            with suppress(ProcessLookupError, TypeError):
                os.kill(worker.inner.pid, LET_GO)
        super().signal_handler_interrupt(*args, **kwargs)


def main() -> int:
    """Serves until SIGTERM or Ctrl-C; 2 if a setting is missing or wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.writelines(f"{line}\n" for line in complaints(error, "BLOCKED_API_"))
        return 2
    with ExitStack() as until_stopped:
        if settings.workers > 1:
            folder = tempfile.TemporaryDirectory(prefix="blocked-api-metrics-")
            os.environ[METRICS_FOLDER_VARIABLE] = until_stopped.enter_context(folder)
        _Server(
            "blocked_api.asgi:app",
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            workers_kill_timeout=_STOP_WITHIN_S,
            websockets=False,
        ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
