"""A local copy of the block list, in step with the Blocked API: who is blocked, from memory."""

from blocked_client.block_copy import Block
from blocked_client.client import BlockedClient, Status

__all__ = ["Block", "BlockedClient", "Status"]
