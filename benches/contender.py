"""Who is measured: how each is started, how far it has come, and where its accounts are."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from services import Place


@dataclass(frozen=True)
class Stream:
    """What the load program sends; its arguments by their names."""

    events: int
    shape: str = "uniform"
    entities: int = 10_000
    bytes: int = 300
    sequenced: bool = False
    partitions: int = 4

    def arguments(self) -> list[str]:
        numbers = {"events": self.events, "entities": self.entities, "bytes": self.bytes, "partitions": self.partitions}
        given = [f"--{name}={value}" for name, value in numbers.items()]
        return [*given, f"--shape={self.shape}", *(["--sequenced"] if self.sequenced else [])]


@dataclass(frozen=True)
class Load:
    """The program that feeds and audits."""

    binary: Path

    def run(self, *arguments: str) -> dict[str, float]:
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{' '.join(arguments[:1])}: {done.stderr.strip()[-1000:]}")
        told: dict[str, float] = json.loads(done.stdout)
        return told

    def feed(self, place: Place, stream: Stream) -> None:
        self.run("feed", f"--brokers={place.services.brokers}", f"--topic={place.topics[0]}", *stream.arguments())

    def audit(self, place: Place, stream: Stream, table: str) -> dict[str, float]:
        where = [f"--brokers={place.services.brokers}", f"--topic={place.topics[1]}", f"--database={place.url}"]
        return self.run("audit", *where, f"--table={table}", *stream.arguments())


@dataclass(frozen=True)
class Textbook:
    """One transaction an event, and a polled outbox."""

    binary: Path
    connections: int = 4
    table: str = "account"

    def start(self, place: Place, log: int) -> subprocess.Popen[bytes]:
        command = [
            self.binary,
            f"--brokers={place.services.brokers}",
            f"--group={place.name}",
            f"--database={place.url}",
            f"--connections={self.connections}",
            "accounts",
            f"--accounts={place.topics[0]}",
            f"--balances={place.topics[1]}",
        ]
        return subprocess.Popen(command, stderr=log, stdout=log)

    @staticmethod
    def taken(place: Place) -> int:
        return int(place.ask("select coalesce(sum(movements), 0) from account", "account") or 0)


@dataclass(frozen=True)
class Ours:
    """A worker on this library."""

    binary: Path
    kind: str = "journaled"
    settings: dict[str, str] = field(default_factory=dict)
    table: str = "bank.account"

    def start(self, place: Place, log: int, group: str = "") -> subprocess.Popen[bytes]:
        environment = {
            "SERIATIM_KAFKA__BROKERS": place.services.brokers,
            "SERIATIM_KAFKA__GROUP_ID": place.name + group,
            "SERIATIM_TOPICS__PREFIX": place.topic(""),
            "SERIATIM_DATABASE__URL": place.url,
            "SERIATIM_LOG__LEVEL": "warn",
        }
        command = [self.binary, self.kind]
        return subprocess.Popen(command, env=os.environ | environment | self.settings, stderr=log, stdout=log)

    @staticmethod
    def taken(place: Place) -> int:
        return int(place.ask("select coalesce(sum(next_offset), 0) from seriatim.lane", "seriatim.lane") or 0)
