"""Blocks and unblocks by command: of the API itself, and of operators."""

import contextlib
import uuid
from collections.abc import Callable

from login_api.errors import PartUnavailableError
from login_api.guard import Guard
from login_api.records import RecordPublisher, command_record
from login_blocking.commands import Action, Command
from login_blocking.subjects import Subject

BY_ITSELF = "login-api"
"""Who gives the commands that no operator gave."""


class BlockCommands:
    """Publishes commands; the detector carries them out milliseconds later.

    Methods return the command's id when it is safe, and raise PartUnavailableError("kafka").
    """

    def __init__(
        self, publisher: RecordPublisher, guard: Guard | None, clock: Callable[[], int]
    ) -> None:
        self._publisher = publisher
        self._guard = guard
        self._clock = clock

    def block(self, subject: Subject, by: str, reason: str, until: int | None) -> str:
        """Until a moment in ms since the epoch, None for ever."""
        return self._publish(
            Command(str(uuid.uuid4()), self._clock(), Action.BLOCK, subject, by, reason, until)
        )

    def unblock(self, subject: Subject, by: str, reason: str, *, reset_levels: bool = False) -> str:
        """Ends all blocks of the subject, and its failures no longer fill the guard."""
        identity = self._publish(
            Command(
                str(uuid.uuid4()),
                self._clock(),
                Action.UNBLOCK,
                subject,
                by,
                reason,
                reset_levels=reset_levels,
            )
        )
        if self._guard is not None:
            # If Redis is away: the guard forgets by itself, within minutes.
            with contextlib.suppress(PartUnavailableError):
                self._guard.forget(subject)
        return identity

    def now(self) -> int:
        """The moment that commands begin at, in ms since the epoch."""
        return self._clock()

    def _publish(self, command: Command) -> str:
        self._publisher.publish(command_record(command))
        return command.id
