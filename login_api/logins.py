"""One attempt to log in, from the question whether it may be made at all to its place in Kafka."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from login_api.accounts import Accounts
from login_api.block_reader import BlockReader
from login_api.documents import Credentials
from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.passwords import Argon2Hasher
from login_api.records import RecordPublisher, attempt_record
from login_blocking.attempts import Attempt, Outcome
from login_blocking.subjects import Subject


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended, at `now` (ms since the epoch).

    Of a refused one `until` tells when another makes sense, None for never.
    """

    outcome: Outcome
    now: int
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logins:
    """Judges credentials; every call of the API that takes a password goes this way."""

    accounts: Accounts
    blocks: BlockReader
    publisher: RecordPublisher
    hasher: Argon2Hasher
    clock: Callable[[], int]
    metrics: Metrics

    def attempt(self, credentials: Credentials, address: str) -> Verdict:
        """Raises PartUnavailableError; then nothing is known of the password.

        `address` is in normal form. The attempt has been published when this returns.
        """
        user, now = credentials.user, self.clock()
        blocked = self.blocks.blocked([Subject("user", user), Subject("ip", address)], now)
        if blocked is not None:
            verdict = Verdict(Outcome.BLOCKED, now, blocked.until)
        else:
            encoded = self.accounts.password_hash(user)
            right = self.hasher.verify(encoded, credentials.password)
            verdict = Verdict(Outcome.SUCCESS if right else Outcome.FAILURE, now)
        self._publish(Attempt(str(uuid.uuid4()), now, user, address, verdict.outcome))
        return verdict

    def _publish(self, attempt: Attempt) -> None:
        with (
            self.metrics.publish_seconds.time(),
            self.metrics.publish_failures.count_exceptions(PartUnavailableError),
        ):
            self.publisher.publish(attempt_record(attempt))
        self.metrics.attempts.labels(attempt.outcome.value).inc()
