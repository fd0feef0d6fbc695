"""Blocks and unblocks by command: of the API itself, and of operators."""

import contextlib
import uuid
from collections.abc import Callable
from typing import Final

from login_api.errors import PartUnavailableError
from login_api.guard import Guard
from login_api.records import RecordPublisher, command_record
from login_blocking.commands import Action, Command
from login_blocking.subjects import Subject

_BY_ITSELF: Final = "login-api"
"""Who gives the commands that no operator gave."""


class BlockCommands:
    """Publishes commands; the detector carries them out milliseconds later.

    Methods return when the command is safe, and raise PartUnavailableError("kafka").
    """

    def __init__(self, publisher: RecordPublisher, guard: Guard, clock: Callable[[], int]) -> None:
        self._publisher = publisher
        self._guard = guard
        self._clock = clock

    def clock(self) -> int:
        """The moment at which commands begin, in ms since the epoch.

        By the guard's clock, as attempts are: by a host's that is behind, an unblock would miss the
        failures that it is to forgive. By this host's only while there is no guard.
        """
        try:
            return self._guard.clock()
        except PartUnavailableError:
            return self._clock()

    def give(self, command: Command) -> None:
        """Publishes it; after an unblock the subject's failures no longer fill the guard."""
        self._publisher.publish(command_record(command))
        if command.action is Action.UNBLOCK:
            # If Redis is away: the guard forgets by itself, within minutes.
            with contextlib.suppress(PartUnavailableError):
                self._guard.forget(command.subject)

    def unblock_surely(self, user: str, reason: str) -> None:
        """Ends all blocks of a user, since its owner has just shown who they are.

        Raises nothing: what the owner did stands already. A command that is not safe now is
        published as soon as it can be.
        """
        subject = Subject("user", user)
        command = Command(
            str(uuid.uuid4()), self.clock(), Action.UNBLOCK, subject, _BY_ITSELF, reason
        )
        try:
            self.give(command)
        except PartUnavailableError:
            with contextlib.suppress(PartUnavailableError):
                self._publisher.publish_soon(command_record(command))
            with contextlib.suppress(PartUnavailableError):
                self._guard.forget(subject)
