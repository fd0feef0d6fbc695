"""One attempt to log in, from the question whether it may be made at all to its place in Kafka."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from login_api.accounts import Accounts
from login_api.documents import Credentials
from login_api.errors import PartUnavailableError
from login_api.guard import Admission, Guard, Request
from login_api.metrics import Metrics
from login_api.passwords import Argon2Hasher
from login_api.places import Places
from login_api.records import RecordPublisher, attempt_record
from login_blocking.attempts import Attempt, Outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended, at `now` (ms since the epoch).

    Of a refused one `until` tells when another makes sense, None for never. Of a right one
    `password_hash` is the hash that stands in the account now.
    """

    outcome: Outcome
    now: int
    until: int | None = None
    password_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logins:
    """Judges credentials; every call of the API that takes a password goes this way.

    With `open_without_guard` attempts are made unguarded while Redis is down, else not at all.
    """

    accounts: Accounts
    guard: Guard
    places: Places
    publisher: RecordPublisher
    hasher: Argon2Hasher
    clock: Callable[[], int]
    metrics: Metrics
    open_without_guard: bool

    def attempt(self, credentials: Credentials, address: str) -> Verdict:
        """Raises PartUnavailableError; then nothing was said about the password.

        `address` is in normal form. The attempt has been published when this returns; one that was
        refused, which counts against nobody, will be a moment later.
        """
        place = self.places.name(credentials.user, address)
        request = Request(str(uuid.uuid4()), credentials.user, address, place)
        admission = self._admit(request)
        if admission.refused is not None:
            return self._refuse(request, admission, admission.refused)
        try:
            encoded = self.accounts.password_hash(credentials.user)
            right = self.hasher.verify(encoded, credentials.password)
            self.metrics.passwords_checked.inc()
        except Exception:
            self._settle(lambda: self.guard.give_back(request))
            raise
        outcome = Outcome.SUCCESS if right else Outcome.FAILURE
        self._publish(_attempt(request, admission, outcome))
        if encoded is None or not right:
            return Verdict(outcome, admission.now)
        self._settle(lambda: self.guard.succeed(request, known=admission.known))
        kept = self._renewed(credentials, encoded)
        return Verdict(outcome, admission.now, password_hash=kept)

    def recall(self, credentials: Credentials, address: str) -> Verdict | None:
        """The refusal of a moment ago once more, None if there is none: then `attempt`."""
        admission = self.guard.recall(credentials.user, address)
        if admission is None or admission.refused is None:
            return None
        request = Request(str(uuid.uuid4()), credentials.user, address, place="")
        return self._refuse(request, admission, admission.refused)

    def _refuse(self, request: Request, admission: Admission, outcome: Outcome) -> Verdict:
        self.metrics.guard_refusals.labels(outcome.value).inc()
        self._publish_soon(_attempt(request, admission, outcome))
        return Verdict(outcome, admission.now, admission.until)

    def _renewed(self, credentials: Credentials, encoded: str) -> str:
        """The account's hash, made anew if today's parameters are others; no login fails by it."""
        if not self.hasher.is_outdated(encoded):
            return encoded
        try:
            new = self.hasher.hash(credentials.password)
            renewed = self.accounts.replace_hash(credentials.user, encoded, new)
        except PartUnavailableError as error:
            self.metrics.part_failures.labels(error.part).inc()
            return encoded
        return new if renewed else encoded

    def _admit(self, request: Request) -> Admission:
        try:
            return self.guard.admit(request)
        except PartUnavailableError:
            if not self.open_without_guard:
                raise
            self.metrics.unguarded.inc()
            return Admission(self.clock(), known=False)

    def _settle(self, settle: Callable[[], None]) -> None:
        """No answer changes by it: the guard sees to a place that it could not give back."""
        try:
            settle()
        except PartUnavailableError as error:
            self.metrics.part_failures.labels(error.part).inc()

    def _publish(self, attempt: Attempt) -> None:
        with (
            self.metrics.publish_seconds.time(),
            self.metrics.publish_failures.count_exceptions(PartUnavailableError),
        ):
            self.publisher.publish(attempt_record(attempt))
        self.metrics.attempts.labels(attempt.outcome.value).inc()

    def _publish_soon(self, attempt: Attempt) -> None:
        """Who was refused stays refused, written down or not: it counts against nobody."""
        try:
            self.publisher.publish_soon(attempt_record(attempt))
        except PartUnavailableError:
            self.metrics.publish_failures.inc()
        else:
            self.metrics.attempts.labels(attempt.outcome.value).inc()


def _attempt(request: Request, admission: Admission, outcome: Outcome) -> Attempt:
    return Attempt(
        request.id, admission.now, request.user, request.address, outcome, admission.known
    )
