"""One question to Redis for all calls that wait for it: they need an answer, not one each."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from blocked_api.block_feed import ListState
from blocked_api.blocks import BlocksUnavailableError
from blocked_api.present import Fresh


class SharedState:
    """The state of the list as Redis tells it after the caller has come. For one event loop.

    While a question is on its way, who comes waits for the next one: the answer to the first may
    be older than the caller.
    """

    def __init__(self, ask: Callable[[], ListState | None]) -> None:
        self._ask = ask
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._next: asyncio.Future[Fresh] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def fresh(self) -> Fresh:
        """Never fails: a failure is told in its place."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask_while_wanted())
        return await asyncio.shield(self._next)

    async def _ask_while_wanted(self) -> None:
        loop = asyncio.get_running_loop()
        while self._next is not None:
            waiting, self._next = self._next, None
            waiting.set_result(await loop.run_in_executor(self._thread, self._answer))
        self._asking = None

    def _answer(self) -> Fresh:
        try:
            return Fresh(self._ask())
        except BlocksUnavailableError as error:
            return Fresh(None, error)
        except Exception:  # noqa: BLE001 — nobody must wait for ever
            return Fresh(None, BlocksUnavailableError("an unforeseen error"))
