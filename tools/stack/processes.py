"""Processes this stack started, told from strangers that got the same id later."""

import os
import signal
import time
from typing import TypedDict

import psutil

_STOP_TIMEOUT_S = 15.0


class Identity(TypedDict):
    """A process: its id, and when it was created, which together are never given twice."""

    pid: int
    created: float


def identity(pid: int) -> Identity:
    """The identity of a running process; raises psutil.NoSuchProcess."""
    return {"pid": pid, "created": psutil.Process(pid).create_time()}


def alive(known: Identity | None) -> bool:
    """Whether that very process runs."""
    if known is None:
        return False
    try:
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - known["created"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop(known: Identity | None, stop_signal: signal.Signals = signal.SIGTERM) -> None:
    """Asks a process to end, with its session's others; ends them by force after a while."""
    if known is None or not alive(known):
        return
    signal_group(known, stop_signal)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while alive(known) and time.monotonic() < deadline:
        time.sleep(0.02)
    if alive(known):
        signal_group(known, signal.SIGKILL)


def signal_group(known: Identity, number: signal.Signals) -> None:
    """Sends a signal to the group that a process leads (each part leads its own session)."""
    try:
        os.killpg(known["pid"], number)
    except ProcessLookupError:
        return


def holder_of(port: int) -> str | None:
    """What listens on a port of this machine, as far as this user may see; None if nothing does."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.laddr
                and connection.status == psutil.CONN_LISTEN
                and connection.laddr[1] == port
            ):
                return "another process" if connection.pid is None else _named(connection.pid)
    except psutil.AccessDenied:
        return "another process"
    return None


def _named(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
