"""Feeds a topic, lets one worker read it from the beginning, and prints events a second and resident memory.

A shape is fed whole before the worker starts, so the figure is that of a backlog: from the first committed event to
the last. Nothing is claimed about other machines; broker, database and worker share this one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 4
ENTITIES = 10_000
HOME = ["purchases", "payments", "stock", "profiles", "activity"]
SENT = ["payment-requests", "purchase-outcomes"]

Event = tuple[str, str, str, dict[str, object], int | None]


def counters(count: int, sequenced: bool) -> Iterator[Event]:
    """Increments spread over all entities; no journal."""
    for number in range(count):
        key = f"counter-{number % ENTITIES}"
        sequence = number // ENTITIES + 1 if sequenced else None
        yield "activity", key, "activity.counted", {"counter": key, "delta": 1, "pad": "x" * 180}, sequence


def profiles(count: int, sequenced: bool) -> Iterator[Event]:
    """Facts of a journaled kind."""
    for number in range(count):
        key = f"user-{number % ENTITIES}"
        sequence = number // ENTITIES + 1 if sequenced else None
        data = {"user_id": key, "email": f"{number}@example.com", "pad": "x" * 160}
        yield "profiles", key, "profile.email_changed", data, sequence


SHAPES = {
    "ids, no journal": lambda count: counters(count, sequenced=False),
    "sequences, no journal": lambda count: counters(count, sequenced=True),
    "ids, journal": lambda count: profiles(count, sequenced=False),
    "sequences, journal": lambda count: profiles(count, sequenced=True),
}


def feed(brokers: str, prefix: str, events: Iterator[Event]) -> int:
    producer = Producer(
        {"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 20, "acks": "all"}
        | {"queue.buffering.max.messages": 500_000}
    )
    fed = 0
    for topic, key, kind, data, sequence in events:
        headers = [("ce_specversion", "1.0"), ("ce_id", str(fed)), ("ce_source", "/bench"), ("ce_type", kind)]
        if sequence is not None:
            headers.append(("ce_entityseq", str(sequence)))
        value = json.dumps(data).encode()
        while True:
            try:
                producer.produce(prefix + topic, value, key=key.encode(), headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        fed += 1
        producer.poll(0)
    producer.flush()
    return fed


def sql(url: str, statement: str) -> str:
    asked = subprocess.run(["psql", url, "-qAtc", statement], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def measure(binary: str, brokers: str, admin_url: str, name: str, count: int) -> None:
    world = f"bench-{uuid.uuid4().hex[:8]}"
    database = world.replace("-", "_")
    prefix = f"{world}."
    topics = [prefix + topic for topic in HOME + SENT] + [f"dlq.{prefix}{topic}" for topic in HOME]
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        made.result()
    sql(admin_url, f"create database {database}")
    url = admin_url.rsplit("/", 1)[0] + "/" + database
    environment = os.environ | {
        "SERIATIM_KAFKA__BROKERS": brokers,
        "SERIATIM_KAFKA__GROUP_ID": world,
        "SERIATIM_TOPICS__PREFIX": prefix,
        "SERIATIM_DATABASE__URL": url,
        "SERIATIM_HTTP__LISTEN": "127.0.0.1:0",
        "SERIATIM_LOG__LEVEL": "warn",
    }
    subprocess.run([binary, "migrate", "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
    fed = feed(brokers, prefix, SHAPES[name](count))
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        worker = subprocess.Popen([binary, "run"], env=environment, stderr=log)
        first = None
        try:
            while True:
                read = int(sql(url, "select coalesce(sum(next_offset), 0) from seriatim.lane"))
                now = time.monotonic()
                if read and first is None:
                    first, at_first = now, read
                if read >= fed:
                    break
                if worker.poll() is not None or now - started > 600:
                    log.seek(0)
                    sys.exit(f"{name}: the worker ended or took too long\n{log.read().decode()[-2000:]}")
                time.sleep(0.02)
            assert first is not None
            rate = (fed - at_first) / max(now - first, 1e-9)
            usage = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
            seconds = (int(usage[11]) + int(usage[12])) / os.sysconf("SC_CLK_TCK")
            memory = resident_kib(worker.pid) / 1024
            print(
                f"{name:24} {fed:9,} events {rate:10,.0f} events/s   worker {seconds / fed * 1e6:5.1f} us/event"
                f"   {memory:5.0f} MiB at most   first event after {first - started:.2f} s",
                flush=True,
            )
        finally:
            worker.terminate()
            worker.wait()
            sql(admin_url, f"drop database {database} with (force)")
            for gone in admin.delete_topics(topics).values():
                gone.result()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    given = arguments.parse_args()
    brokers, admin_url = os.environ["SERIATIM_TEST_KAFKA"], os.environ["SERIATIM_TEST_POSTGRES"]
    for name in SHAPES if given.shape == "all" else [given.shape]:
        measure(given.binary, brokers, admin_url, name, given.events)


if __name__ == "__main__":
    main()
