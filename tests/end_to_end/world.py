"""The outside world of the shop: a seeded stream of events with every kind of trouble in it, and its producer.

    world.py topics  --brokers … --prefix …
    world.py produce --brokers … --prefix … --seed … --start … --phase 0

The same seed, start and scale give the same stream, so that it can be produced phase by phase. Without a phase it
is produced whole.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from confluent_kafka import Producer

from scenes import counters, profiles, purchases, stock, trouble
from shop_events import Sent
from stream import LENGTH, PHASES, World
from wire import Names, create_topics, partition_of


def build(
    seed: int, start: datetime, prefix: str = "", scale: float = 1.0, edges: tuple[float, ...] = PHASES
) -> World:
    world = World(seed, start, prefix, scale, edges)
    stock(world)
    counters(world)
    profiles(world)
    purchases(world)
    trouble(world)
    return world


def produce(brokers: str, names: Names, records: list[Sent], seconds: float = 0.0) -> None:
    """Produces in order, evenly over so many seconds, and returns when the broker has acknowledged all of them."""
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "message.max.bytes": 1_048_588,
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 262_144,
        }
    )
    failed: list[str] = []

    def report(error: object, message: object) -> None:
        if error is not None:
            failed.append(str(error))

    began = time.monotonic()
    for at, sent in enumerate(records):
        # Reports are served meanwhile.
        while (early := began + seconds * at / len(records) - time.monotonic()) > 0:
            producer.poll(min(early, 0.1))
        partition = sent.partition if sent.partition is not None else partition_of(sent.key or b"")
        producer.produce(
            names.topic(sent.topic),
            key=sent.key,
            value=sent.value,
            headers=[*sent.headers],
            partition=partition,
            on_delivery=report,
        )
        producer.poll(0)
    left = producer.flush(300)
    if left or failed:
        raise SystemExit(f"producing: {left} without an answer, failed: {failed[:3]}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["topics", "produce"])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--start", type=int, default=1_767_225_600, help="time of the first event, in seconds since 1970"
    )
    parser.add_argument("--phase", type=int, choices=range(len(PHASES) - 1))
    parser.add_argument("--scale", type=float, default=1.0, help="how much there is of everything")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long producing takes")
    parser.add_argument("--replicas", type=int, default=1, help="of each topic that is created")
    parser.add_argument("--phases", type=int, help="cut the line into so many equal phases")
    chosen = parser.parse_args(arguments)
    names = Names(chosen.prefix)
    if chosen.action == "topics":
        create_topics(chosen.brokers, names, chosen.replicas)
        return
    start = datetime.fromtimestamp(chosen.start, UTC)
    cut = chosen.phases
    edges = PHASES if cut is None else tuple(LENGTH * number / cut for number in range(cut + 1))
    phases = build(chosen.seed, start, chosen.prefix, chosen.scale, edges).phases()
    records = sum(phases, []) if chosen.phase is None else phases[chosen.phase]
    produce(chosen.brokers, names, records, chosen.seconds)
    print(len(records))


if __name__ == "__main__":
    main(sys.argv[1:])
