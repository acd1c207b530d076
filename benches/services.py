"""The real services, and a place of its own in them for each run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import usage

EVENT_BYTES = 2200


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) >> 20  # type: ignore[index]
    return f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory} GiB, Linux {platform.release().split('-')[0]}"


@dataclass
class Services:
    """Where they are, and as which processes they run."""

    brokers: str
    postgres: str
    broker_pid: int
    postgres_pid: int

    @classmethod
    def running(cls) -> Services:
        here = Path(os.environ["SERIATIM_BENCH_STATE"])
        where = Path((here / "postgres-folder").read_text().strip())
        return cls(
            os.environ["SERIATIM_TEST_KAFKA"],
            os.environ["SERIATIM_TEST_POSTGRES"],
            int((here / "kafka" / "pid").read_text()),
            int((where / "data" / "postmaster.pid").read_text().split()[0]),
        )

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.brokers})

    def make_topics(self, topics: dict[str, int]) -> None:
        admin = self.admin()
        for made in admin.create_topics([NewTopic(name, count, 1) for name, count in topics.items()]).values():
            made.result()

    def drop_topics(self, topics: list[str]) -> None:
        admin = self.admin()
        for gone in admin.delete_topics(topics).values():
            gone.result()

    def end_of(self, topic: str, partitions: int) -> int:
        """How many records a topic holds that was never trimmed."""
        ends = [self.asker.get_watermark_offsets(TopicPartition(topic, at), timeout=30) for at in range(partitions)]
        return sum(end for _, end in ends)

    @cached_property
    def asker(self) -> Consumer:
        """One for all questions: what a new one costs with each look would slow what is measured."""
        return Consumer({"bootstrap.servers": self.brokers, "group.id": "bench-ends"})

    def spent(self, workers: list[int]) -> usage.Spent:
        broker, postgres = usage.seconds(self.broker_pid), usage.family_seconds(self.postgres_pid)
        return usage.Spent(broker, postgres, sum(usage.seconds(pid) for pid in workers))

    @staticmethod
    def need_room(events: int) -> None:
        """Fails before a long run that the disk has no room for: an event is kept in two topics and three tables."""
        free = shutil.disk_usage(os.environ["SERIATIM_BENCH_STATE"]).free
        assert free > events * EVENT_BYTES, f"{events:,} events need {events * EVENT_BYTES >> 30} GiB of disk, {free >> 30} are free"

    def settings(self) -> str:
        """What bears on the speed of the database, as the server says."""
        names = ["fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "checkpoint_timeout", "wal_compression"]
        return ", ".join(f"{name}={sql(self.postgres, f'show {name}')}" for name in names)

    def database_url(self, database: str) -> str:
        return self.postgres.rsplit("/", 1)[0] + "/" + database


def sql(url: str, statement: str) -> str:
    asked = subprocess.run(["psql", url, "-qAtc", statement], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


class Session:
    """A connection of its own. Whoever looks often must not have the server make a process for each look."""

    def __init__(self, url: str) -> None:
        command = ["psql", url, "-qAt", "-v", "ON_ERROR_STOP=1"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, statements: str) -> str:
        """The one line that statements answer with."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(statements + ";\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the session has ended: {statements}"
        return line.strip()

    def close(self) -> None:
        """Ends it; fails if it has ended before."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0


@dataclass
class Place:
    """A database, a consumer group and topics, for one run."""

    services: Services
    partitions: int
    homes: tuple[str, ...] = ("accounts",)
    others: tuple[str, ...] = ("balances",)
    name: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex[:8]}")
    found: set[str] = field(default_factory=set)

    def __enter__(self) -> Place:
        self.services.make_topics(dict.fromkeys(self.topics, self.partitions))
        sql(self.services.postgres, f"create database {self.database}")
        self.session = Session(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        sql(self.services.postgres, f"drop database {self.database} with (force)")
        self.services.drop_topics(self.topics)

    def ask(self, statement: str, table: str) -> str | None:
        """The one cell that a statement answers with, once there is the table that it reads."""
        if table not in self.found:
            if self.session.ask(f"select to_regclass('{table}') is not null") != "t":
                return None
            self.found.add(table)
        return self.session.ask(statement)

    def topic(self, name: str) -> str:
        return f"{self.name}.{name}"

    @property
    def topics(self) -> list[str]:
        """Those that are read, those that are written, those for dead letters."""
        homes = [self.topic(name) for name in self.homes]
        return [*homes, *(self.topic(name) for name in self.others), *(f"dlq.{home}" for home in homes)]

    @property
    def database(self) -> str:
        return self.name.replace("-", "_")

    @property
    def url(self) -> str:
        return self.services.database_url(self.database)
