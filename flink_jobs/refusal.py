"""What the job says when it cannot run on this cluster now."""


class RefusedError(Exception):
    """The job was not submitted; the message says why, and what helps."""
