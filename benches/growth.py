"""How the rate changes with one thing at a time: sequences with a journal, everything else as it is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import backlog
from contender import Load, Ours, Stream
from services import Services

FROM_SHARE = 0.25
BYTES_MAX = 400_000_000


@dataclass(frozen=True)
class Point:
    """One run: where it stands on its axis, and what is different."""

    at: int
    stream: Stream
    settings: dict[str, str]
    workers: int = 1


def points(axis: str, events: int) -> Iterator[Point]:
    """What is measured along an axis."""
    usual = Stream(events, sequenced=True)
    match axis:
        case "batch":
            for at in (10, 30, 100, 300, 1000, 2000):
                # Small batches are slow: fewer events say as much.
                stream = replace(usual, events=min(events, at * 2000))
                # What a batch releases from quarantine is part of the batch.
                drained = str(min(at, 100))
                yield Point(at, stream, {"SERIATIM_BATCH__RECORDS_MAX": str(at), "SERIATIM_QUARANTINE__DRAIN_MAX": drained})
        case "partitions":
            for at in (1, 2, 4, 8, 16, 32, 64):
                yield Point(at, replace(usual, partitions=at), {})
        case "workers":
            for at in (1, 2, 3):
                yield Point(at, replace(usual, events=2 * events, partitions=12), {}, workers=at)
        case "entities":
            for at in (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000):
                yield Point(at, replace(usual, entities=at), {})
        case "payload":
            for at in (100, 300, 1000, 3000, 10_000, 30_000, 100_000):
                yield Point(at, replace(usual, bytes=at, events=min(events, BYTES_MAX // at)), {})


AXES = ("batch", "partitions", "workers", "entities", "payload")


def run(services: Services, load: Load, contender: Ours, point: Point) -> dict[str, float]:
    plan = backlog.Plan(workers=point.workers, from_share=FROM_SHARE)
    settled = replace(contender, settings=contender.settings | point.settings)
    numbers = backlog.run(services, load, settled, point.stream, plan).numbers()
    return {"at": float(point.at), "events": float(point.stream.events), **numbers}
