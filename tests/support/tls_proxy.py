"""TLS before a server that has none of its own: the wheels of Valkey and Postgres lack OpenSSL."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POSTGRES_ASKS_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@contextmanager
def tls_before(port: int, keys: Path, *, postgres: bool = False) -> Iterator[int]:
    """The port of a proxy that ends TLS with this key and certificate (PEM).

    With `postgres` the client first asks for it in Postgres' own way; who does not is cut off.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if postgres:
                if await reader.readexactly(8) != _POSTGRES_ASKS_FOR_TLS:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.start_tls(context)
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        given = None if postgres else context
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=given)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    finally:
        target.close()
