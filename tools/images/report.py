"""What verify-images found, printed as it comes."""

from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """Counts what is not as it should be."""

    failed: int = 0

    def say(self, image: str, what: str, *, well: bool, found: object = "") -> None:
        """One line; `found` tells what was seen."""
        self.failed += not well
        seen = f": {found}" if found else ""
        print(f"{'✓' if well else '✗'} {image:12} {what}{seen}", flush=True)
