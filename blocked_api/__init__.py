"""The Blocked API: who is blocked now, read from Redis and from nothing else."""
