"""How things stand, for people: counts, the last hour, the newest events, the detector."""

from typing import Final

from blocked_api.block_feed import ListState
from blocked_api.block_list import BlockList
from blocked_api.changes import Event, Version
from blocked_api.present import Reading
from login_blocking.moments import iso

_MINUTE_MS: Final = 60_000
_MINUTES: Final = 60
_NEWEST: Final = 20


def summary(
    present: Reading, login_api_url: str | None
) -> tuple[ListState, Version, dict[str, object]]:
    """The document of `GET /blocked/summary`."""

    def look(blocks: BlockList) -> tuple[Version, int, int, dict[str, int], list[Event]]:
        by_rule = {rule: count for rule, count in sorted(blocks.by_rule.items()) if count}
        users, ips = blocks.count("user"), blocks.count("ip")
        return blocks.version, users, ips, by_rule, blocks.newest_events(_NEWEST)

    state, (version, users, ips, by_rule, newest) = present.read(look)
    now = present.now()
    last = now // _MINUTE_MS
    minutes = list(range(last - _MINUTES + 1, last + 1))
    begun = zip(minutes, present.begun(minutes), strict=True)
    return (
        state,
        version,
        {
            "status": state.status(now),
            "users": users,
            "ips": ips,
            "by_rule": by_rule,
            "begun": [{"minute": iso(m * _MINUTE_MS), "by_rule": found} for m, found in begun],
            "newest": [event.document() for event in newest],
            "detector": {
                "heartbeat_age_ms": state.heartbeat_age_ms(now),
                "lag_ms": state.lag_ms,
            },
            "login_api": login_api_url,
        },
    )
