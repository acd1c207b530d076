"""One run over a backlog: everything is in the topic before the contender starts.

The rate is from the first look at which something was committed to the last message that can be read from Kafka, so
that a contender that commits fast and sends late is not flattered.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass

import usage
from contender import Load, Ours, Stream, Textbook
from services import Place, Services

LOOK_SECONDS = 0.02
RUN_SECONDS_MAX = 1800


@dataclass
class Run:
    """What one run came to."""

    events_per_second: float
    first_seconds: float
    """From the start of the process to the first look that showed an event."""
    broker_us: float
    postgres_us: float
    worker_us: float
    resident_mib: float
    repeated: float

    def numbers(self) -> dict[str, float]:
        return asdict(self)


def run(services: Services, load: Load, contender: Ours | Textbook, stream: Stream) -> Run:
    """Feeds, lets the contender work, audits."""
    with Place(services, stream.partitions) as place, tempfile.TemporaryFile() as log:
        load.feed(place, stream)
        begun = time.monotonic()
        worker = contender.start(place, log.fileno())

        def look() -> None:
            time.sleep(LOOK_SECONDS)
            if worker.poll() is not None or time.monotonic() - begun > RUN_SECONDS_MAX:
                log.seek(0)
                raise AssertionError(f"the contender ended or took too long: {log.read().decode()[-2000:]}")

        try:
            while not (at_first := contender.taken(place)):
                look()
            first, before = time.monotonic(), services.spent([worker.pid])
            while contender.taken(place) < stream.events:
                look()
            while services.end_of(place.topics[1], stream.partitions) < stream.events:
                look()
            last, spent = time.monotonic(), services.spent([worker.pid]).since(before)
            memory = usage.resident_mib(worker.pid)
        finally:
            worker.terminate()
            worker.wait()
        audited = load.audit(place, stream, contender.table)
    done = stream.events - at_first
    each = 1e6 / done
    return Run(
        done / (last - first),
        first - begun,
        spent.broker * each,
        spent.postgres * each,
        spent.worker * each,
        memory,
        audited["repeated"],
    )
