"""Every topic name and Redis key, built in this one place."""

from typing import Final

from login_blocking.subjects import SubjectType

LOGIN_ATTEMPTS: Final = "login-attempts"
LOGIN_ATTEMPTS_REJECTED: Final = "login-attempts-rejected"
BLOCK_EVENTS: Final = "block-events"
BLOCK_COMMANDS: Final = "block-commands"

BLOCK_CHANGES: Final = "blocked:changes"
"""STREAM of the newest changes of the list, one entry a changed subject (redis/apply_block.lua)."""
BLOCK_STATE: Final = "blocked:state"
"""HASH of what the list is as a whole: `generation`, `version`, and the detector's heartbeat."""

_BLOCKED_SETS: Final[dict[SubjectType, str]] = {"user": "blocked:users", "ip": "blocked:ips"}


def blocks_begun(minute: int) -> str:
    """HASH of rule → blocks that began in that minute since the epoch; two hours."""
    return f"blocked:begun:{minute}"


def blocked_set(subject_type: SubjectType) -> str:
    """ZSET of subject → latest end of its blocks (epoch ms, `+inf` for ever)."""
    return _BLOCKED_SETS[subject_type]


def guard(subject_type: SubjectType, subject: str) -> str:
    """ZSET of attempt id → when it was admitted, and marks (redis/admit.lua)."""
    return f"guard:{subject_type}:{subject}"


def known_places(user: str) -> str:
    """ZSET of hashed address → last right login of the user from there (epoch ms)."""
    return f"known:{user}"


def block_hash(subject_type: SubjectType, subject: str) -> str:
    """HASH of rule → JSON entry (`login_blocking.blocks.RedisEntry`) of one subject."""
    return f"block:{subject_type}:{subject}"
