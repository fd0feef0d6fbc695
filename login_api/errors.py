"""What keeps a login from being answered: a part that is down, or too many hashes waiting."""


class PartUnavailableError(Exception):
    """A part that an answer needs did not answer in time; `part` is its name."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part
