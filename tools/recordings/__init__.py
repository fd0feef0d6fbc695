"""Login attempts from files: this project's recordings, OpenSSH and web server logs, CSV."""

from tools.recordings.found import Reading, RecordingError
from tools.recordings.reading import Format, Recording, read, read_recording

__all__ = ["Format", "Reading", "Recording", "RecordingError", "read", "read_recording"]
