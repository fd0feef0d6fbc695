"""Who is blocked now, as the routes ask for it."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from blocked_api.block_feed import ListState, now_ms
from blocked_api.block_list import BlockList
from blocked_api.blocks import BlocksUnavailableError, ListMissingError
from blocked_api.follower import Follower

T = TypeVar("T")


class Questions(Protocol):
    """What answers are checked against: `RedisQuestions`. All raise BlocksUnavailableError."""

    def state(self) -> ListState | None:
        """The list as a whole; None if there is none."""

    def begun(self, minutes: list[int]) -> list[dict[str, int]]:
        """For each minute since the epoch: rule → blocks that began in it."""


class Reading(Protocol):
    """What the routes need: `Present`. All raise BlocksUnavailableError."""

    def now(self) -> int:
        """The wall clock in ms since the epoch."""

    def state(self) -> ListState:
        """The list as a whole; raises ListMissingError if there is none."""

    def read(self, question: Callable[[BlockList], T]) -> tuple[ListState, T]:
        """Asks the whole list; the question must be quick."""

    def begun(self, minutes: list[int]) -> list[dict[str, int]]:
        """For each minute since the epoch: rule → blocks that began in it."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What Redis told of the list after a call had come, or why it did not."""

    state: ListState | None
    failure: BlocksUnavailableError | None = None

    def told(self) -> ListState:
        """The state; raises BlocksUnavailableError."""
        if self.failure is not None:
            raise self.failure
        return there(self.state)


FRESH: Final[ContextVar[Fresh | None]] = ContextVar("FRESH", default=None)
"""Set for a call whose question was asked together with others'."""


def there(state: ListState | None) -> ListState:
    """A state that there is; raises ListMissingError."""
    if state is None:
        raise ListMissingError("Redis is empty and no detector has reported")
    return state


class Present:
    """Who is blocked now, as the routes ask for it: exact at the moment of the question."""

    def __init__(
        self, questions: Questions, follower: Follower, clock: Callable[[], int] = now_ms
    ) -> None:
        self._questions = questions
        self._follower = follower
        self._clock = clock

    def now(self) -> int:
        """The wall clock in ms since the epoch."""
        return self._clock()

    def state(self) -> ListState:
        """The list as a whole; raises ListMissingError if there is none."""
        fresh = FRESH.get()
        return there(self._questions.state()) if fresh is None else fresh.told()

    def read(self, question: Callable[[BlockList], T]) -> tuple[ListState, T]:
        """Asks the list in memory, which is as new as Redis' own at this moment."""
        state = self.state()
        return state, self._follower.read(state, question)

    def begun(self, minutes: list[int]) -> list[dict[str, int]]:
        """For each minute since the epoch: rule → blocks that began in it."""
        return self._questions.begun(minutes)
