"""Wires that can be cut: TCP proxies between the workers and their services, one of them aware of PostgreSQL's COMMIT.

All proxies of a run live on one event loop in a thread of its own. Other threads turn their switches.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Coroutine
from enum import Enum
from typing import Any

COMMIT = b"commit\0"
CHUNK_BYTES = 65_536


class Cut(Enum):
    """Where a connection to PostgreSQL is cut."""

    BEFORE = "before COMMIT"
    DURING = "during COMMIT"
    AFTER = "after COMMIT"


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


class Proxy:
    """From a port of its own to a port that may change. The switches take effect on what passes from then on."""

    def __init__(self, loop: Loop, port: int, target: int, *, postgres: bool = False) -> None:
        self.loop, self.port, self.target, self.postgres = loop, port, target, postgres
        self.refusing = False
        # Seconds that each chunk waits, bytes a second, and bytes a chunk; nothing of it by default.
        self.latency, self.bandwidth, self.slice = 0.0, 0.0, CHUNK_BYTES
        self.plan: deque[Cut] = deque()
        self.counts: Counter[str] = Counter()
        self.open: set[asyncio.StreamWriter] = set()
        loop.run(self._listen())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Lets everything pass again."""
        self.refusing, self.latency, self.bandwidth, self.slice = False, 0.0, 0.0, CHUNK_BYTES
        self.plan.clear()

    def cut(self) -> int:
        """Resets every connection; says how many there were."""
        return int(self.loop.run(self._cut()))

    async def _listen(self) -> None:
        await asyncio.start_server(self._join, "127.0.0.1", self.port)

    async def _cut(self) -> int:
        # Each connection has two ends.
        count = len(self.open) // 2
        for end in list(self.open):
            end.transport.abort()
        self.counts["cut"] += count
        return count

    async def _join(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.counts["refused"] += 1
            client_out.transport.abort()
            return
        try:
            server_in, server_out = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            client_out.transport.abort()
            return
        self.open |= {client_out, server_out}
        answered = asyncio.Event()
        if self.postgres:
            requests = self._requests(client_in, server_out, answered)
        else:
            requests = self._pump(client_in, server_out)
        ways = {asyncio.create_task(requests), asyncio.create_task(self._pump(server_in, client_out, answered))}
        try:
            # Whatever ends one way ends both.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (client_out, server_out):
                self.open.discard(end)
                end.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, swallow: asyncio.Event | None = None
    ) -> None:
        while data := await source.read(self.slice):
            # Requests and answers take turns, so what comes now answers the COMMIT.
            if swallow is not None and swallow.is_set():
                self.counts[Cut.AFTER.value] += 1
                return
            await self._delay(len(data))
            sink.write(data)
            await sink.drain()

    async def _delay(self, count: int) -> None:
        if self.slice != CHUNK_BYTES:
            self.counts["slices"] += 1
            await asyncio.sleep(0)
        pause = self.latency + (count / self.bandwidth if self.bandwidth else 0.0)
        if pause:
            self.counts["delayed"] += 1
            await asyncio.sleep(pause)

    async def _requests(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        """Client to server of PostgreSQL, message by message; returns where the connection is to be cut."""
        first = await source.readexactly(4)
        sink.write(first + await source.readexactly(int.from_bytes(first) - 4))
        while True:
            head = await source.readexactly(5)
            message = head + await source.readexactly(int.from_bytes(head[1:]) - 4)
            await self._delay(len(message))
            if head[:1] == b"Q" and message[5:] == COMMIT and self.plan:
                cut = self.plan.popleft()
                if cut is Cut.AFTER:
                    swallow.set()
                else:
                    self.counts[cut.value] += 1
                    sink.write(message[: len(message) // 2] if cut is Cut.DURING else b"")
                    await sink.drain()
                    return
            sink.write(message)
            await sink.drain()
