"""What running servers have written, while they write and delete."""

import os
from collections.abc import Iterator
from pathlib import Path


def written_files(*places: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file in or below the places, with its content; not those deleted meanwhile."""
    for place in places:
        names = [place] if place.is_file() else _below(place)
        for file in names:
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                continue
            yield file, content


def _below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            file = Path(where, name)
            if file.is_file():
                yield file
