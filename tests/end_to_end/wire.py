"""What the producer, the gateway and the model share: names of topics, murmur2, and raw reading of topics.

Nothing here knows what an event means. The partition of a key is computed here and not left to a client
library, so that the same entity can be put on a wrong partition on purpose.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

Headers = list[tuple[str, bytes | None]]

HOME_TOPICS = ("purchases", "payments", "stock", "profiles", "activity")
OUTGOING_TOPICS = ("payment-requests", "purchase-outcomes")
PARTITIONS = 4

# Every record that the worker did not write carries this header, so that a reader can tell a forged
# message from a genuine one without asking the worker.
ORIGIN_HEADER = "outside"
# Names what is wrong with a record, for the summary alone: the model judges by the bytes.
NASTY_HEADER = "nasty"

NULL = "\u2400"


@dataclass(frozen=True)
class Names:
    """Topic names under a prefix."""

    prefix: str

    def topic(self, name: str) -> str:
        return self.prefix + name

    def dead_letters(self, name: str) -> str:
        return f"dlq.{self.prefix}{name}"

    def plain(self, topic: str) -> str:
        """The name without prefix of a topic that is not one for dead letters."""
        return topic[len(self.prefix) :]

    def all(self) -> list[str]:
        return [self.topic(name) for name in (*HOME_TOPICS, *OUTGOING_TOPICS)] + [
            self.dead_letters(name) for name in HOME_TOPICS
        ]


@dataclass(frozen=True)
class Kept:
    """A record as it stands in a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The first value of a header, as text; bytes that are no UTF-8 come back with their escapes."""
        for at, value in self.headers:
            if at == name and value is not None:
                return value.decode("utf-8", "backslashreplace")
        return None

    @property
    def place(self) -> tuple[str, int, int]:
        return (self.topic, self.partition, self.offset)

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


def murmur2(data: bytes) -> int:
    """The hash of Kafka's Java clients, as an unsigned 32-bit number."""
    mix, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mix & mask
        word = (word ^ word >> 24) * mix & mask
        value = value * mix & mask ^ word
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * mix & mask
    value = (value ^ value >> 13) * mix & mask
    return value ^ value >> 15


def partition_of(key: bytes, count: int = PARTITIONS) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % count


def create_topics(brokers: str, names: Names, replicas: int = 1) -> None:
    """Creates every topic and returns when the broker shows all partitions with a leader."""
    admin = AdminClient({"bootstrap.servers": brokers})
    wanted = [NewTopic(name, num_partitions=PARTITIONS, replication_factor=replicas) for name in names.all()]
    for topic, future in admin.create_topics(wanted).items():
        try:
            future.result(30)
        except KafkaException as error:
            raise SystemExit(f"creating topic {topic}: {error}") from error
    deadline = time.monotonic() + 60

    def led(topic: str) -> bool:
        shown = admin.list_topics(topic, timeout=10).topics[topic]
        return len(shown.partitions) == PARTITIONS and all(part.leader >= 0 for part in shown.partitions.values())

    while not all(led(topic) for topic in names.all()):
        if time.monotonic() > deadline:
            raise SystemExit("the created topics did not become visible within a minute")
        time.sleep(0.1)


def reader(brokers: str, group: str = "end-to-end-reader") -> Consumer:
    """A consumer that is assigned by hand and never commits."""
    return Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 8 << 20,
            "queued.max.messages.kbytes": 65536,
        }
    )


def ends(consumer: Consumer, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """The end offset of every partition."""
    found = {}
    for topic in topics:
        for partition in range(PARTITIONS):
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            found[(topic, partition)] = high
    return found


def kept(message: Message) -> Kept:
    """A consumed message without the client's types, which allow for more than a consumer gets."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and partition is not None and offset is not None, "a consumed message has a place"
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    headers: Headers = [(name, text.encode() if isinstance(text, str) else text) for name, text in pairs]
    key, value = message.key(), message.value()
    assert not isinstance(key, str) and not isinstance(value, str), "a consumer gives bytes"
    return Kept(topic, partition, offset, message.timestamp()[1], key, value, headers)


def read_all(brokers: str, topics: list[str]) -> Iterator[Kept]:
    """Every record from offset 0 up to the end that the partition has when its end is reached."""
    consumer = reader(brokers)
    try:
        left = {(topic, partition) for topic in topics for partition in range(PARTITIONS)}
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in sorted(left)])
        idle_since = time.monotonic()
        while left:
            message = consumer.poll(1.0)
            if message is None:
                if time.monotonic() - idle_since > 60:
                    raise SystemExit(f"reading topics: nothing came for a minute, still missing {sorted(left)}")
                continue
            idle_since = time.monotonic()
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                left.discard((message.topic(), message.partition()))
                continue
            yield kept(message)
    finally:
        consumer.close()


def rows(url: str, sql: str) -> list[dict[str, str | None]]:
    """Rows of a query as text by column, through psql: no driver is needed for it."""
    command = ["psql", url, "--no-psqlrc", "--csv", "--quiet", "-P", f"null={NULL}", "-v", "ON_ERROR_STOP=1", "-c", sql]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "PGOPTIONS": "-c bytea_output=hex"}, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"asking the database ({sql[:120]}): {done.stderr.decode('utf-8', 'replace')}")
    csv.field_size_limit(sys.maxsize)
    found = csv.DictReader(io.StringIO(done.stdout.decode("utf-8"), newline=""))
    return [{name: None if cell == NULL else cell for name, cell in row.items()} for row in found]


def unhex(cell: str | None) -> bytes | None:
    """The bytes of a bytea cell."""
    return None if cell is None else bytes.fromhex(cell.removeprefix("\\x"))
