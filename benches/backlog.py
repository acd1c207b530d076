"""One run over a backlog: everything is in the topic before the contender starts.

The rate is from the first look at which something was committed to the last message that can be read from Kafka, so
that a contender that commits fast and sends late is not flattered.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import usage
from contender import Load, Ours, Stream, Textbook
from services import Place, Services

LOOK_SECONDS = 0.02
RUN_SECONDS_MAX = 3600

HOT = "select n_tup_hot_upd::float8 / greatest(n_tup_upd, 1) from pg_stat_user_tables where relid = '{}'::regclass"

Watch = Callable[[Place, int], None]
"""Told at each look how many events are taken."""


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
    hot_share: float
    """Of the updates of accounts, those that touched no index (heap-only tuples)."""

    def numbers(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What is out of the ordinary about a run."""

    workers: int = 1
    from_share: float = 0.0
    """The rate is counted from this share of the events on: where workers join a group, not while they do."""
    watch: Watch = lambda _place, _taken: None


def run(services: Services, load: Load, contender: Ours | Textbook, stream: Stream, plan: Plan = Plan()) -> Run:
    """Feeds, lets the contender work, audits."""
    with Place(services, stream.partitions) as place, tempfile.TemporaryFile() as log:
        load.feed(place, stream)
        begun = time.monotonic()
        crew = [contender.start(place, log.fileno()) for _ in range(plan.workers)]

        def look() -> int:
            if any(worker.poll() is not None for worker in crew) or time.monotonic() - begun > RUN_SECONDS_MAX:
                log.seek(0)
                raise AssertionError(f"the contender ended or took too long: {log.read().decode()[-2000:]}")
            taken = contender.taken(place)
            plan.watch(place, taken)
            return taken

        def wait_for(events: int) -> int:
            while (taken := look()) < events:
                time.sleep(LOOK_SECONDS)
            return taken

        try:
            wait_for(1)
            first = time.monotonic()
            at_start = wait_for(max(1, int(stream.events * plan.from_share)))
            pids = [worker.pid for worker in crew]
            start, before = time.monotonic(), services.spent(pids)
            wait_for(stream.events)
            while services.end_of(place.topics[1], stream.partitions) < stream.events:
                look()
                time.sleep(LOOK_SECONDS)
            last, spent = time.monotonic(), services.spent(pids).since(before)
            memory = sum(usage.resident_mib(pid) for pid in pids)
        finally:
            end(crew)
        audited = load.audit(place, stream, contender.table)
        hot = place.ask(HOT.format(contender.table), contender.table)
        assert hot is not None, f"there is no table {contender.table}"
    done = stream.events - at_start
    each = 1e6 / done
    return Run(
        done / (last - start),
        first - begun,
        spent.broker * each,
        spent.postgres * each,
        spent.worker * each,
        memory,
        audited["repeated"],
        float(hot),
    )


def end(crew: list[subprocess.Popen[bytes]]) -> None:
    for worker in crew:
        worker.terminate()
    for worker in crew:
        worker.wait()
