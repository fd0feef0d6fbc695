"""Redis entries for tests, made as `login_blocking.blocks` makes them."""

from login_blocking.blocks import TOMBSTONE_KEPT_MS, RedisEntry


def block(since: int, until: int | None, *, level: int = 1, reason: str = "guesses") -> RedisEntry:
    """A block that a rule or an operator decided at `since`."""
    return RedisEntry(2 * since, since, until, level, reason, "attempt-1", False, until)


def tombstone(of: RedisEntry, unblocked_at: int) -> RedisEntry:
    """What an unblock leaves of a block."""
    return RedisEntry(
        version=2 * unblocked_at + 1,
        since=of.since,
        until=unblocked_at,
        level=of.level,
        reason=of.reason,
        attempt_id=of.attempt_id,
        unblocked=True,
        keep_until=unblocked_at + TOMBSTONE_KEPT_MS,
    )
