"""Attackers, as a live stack meets them."""

import secrets

import redis
import requests

from tests.support.waiting import eventually
from tools.stack.layout import Stack


def block_somebody(stack: Stack, held: redis.Redis) -> str:
    """Five wrong passwords for a new name; its user, once the block is in force."""
    user = f"guessed-{secrets.token_hex(4)}"
    for _ in range(5):
        body = {"user": user, "pass": "wrong password"}
        requests.post(f"{stack.login_url}/login", json=body, timeout=10)
    eventually(lambda: held.zscore("blocked:users", user) is not None)
    return user
