"""What else is measured beside a backlog's rate: latency at a steady rate, and what a crash costs."""

from __future__ import annotations

import tempfile
import time
from collections import deque

from contender import Load, Ours, Stream
from services import Place, Services

LOOK_SECONDS = 0.05
"""Between two looks at how far a worker has come: they cost the same before a crash and after it."""
WINDOW_SECONDS = 0.4
BACK_SHARE = 0.9


def pace(services: Services, load: Load, contender: Ours, rate: float, seconds: float) -> dict[str, dict[str, float]]:
    """Latency by open loop; the first third of the events warms up and is not counted."""
    stream = Stream(int(rate * seconds), sequenced=True)
    with Place(services, stream.partitions) as place, tempfile.TemporaryFile() as log:
        worker = contender.start(place, log.fileno())
        try:
            wait_for_lanes(place, stream.partitions)
            where = [f"--brokers={services.brokers}", f"--topic={place.topics[0]}", f"--balances={place.topics[1]}"]
            how = [f"--database={place.url}", f"--rate={rate}", f"--warm-up={stream.events // 3}"]
            told = load.run("pace", *where, *how, *stream.arguments())
        finally:
            worker.terminate()
            worker.wait()
        load.audit(place, stream, contender.table)
    return told  # type: ignore[return-value]


def wait_for_lanes(place: Place, partitions: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if place.ask("select count(*) from seriatim.lane", "seriatim.lane") == str(partitions):
            return
        time.sleep(0.05)
    raise AssertionError("the worker claims no lanes")


def restart(services: Services, load: Load, contender: Ours, stream: Stream) -> dict[str, float]:
    """Kills the worker in the middle of a backlog and starts another, in a group of its own, so that nobody waits for
    the session of the dead one to end. Seconds from the kill until it is at nine tenths of the rate before."""
    with Place(services, stream.partitions) as place, tempfile.TemporaryFile() as log:
        load.feed(place, stream)
        worker = contender.start(place, log.fileno())
        try:
            before = rate_until(place, contender, stream.events // 2)
            worker.kill()
            killed = time.monotonic()
            worker.wait()
            worker = contender.start(place, log.fileno(), group="-again")
            looks: deque[tuple[float, int]] = deque()
            back = None
            while back is None:
                now, taken = time.monotonic(), contender.taken(place)
                assert taken < stream.events, "the backlog ended before the rate was back"
                looks.append((now, taken))
                while now - looks[0][0] > WINDOW_SECONDS:
                    looks.popleft()
                grown, lasted = taken - looks[0][1], now - looks[0][0]
                if lasted > WINDOW_SECONDS * 0.8 and grown / lasted >= BACK_SHARE * before:
                    # The window had the rate from its beginning on.
                    back = looks[0][0]
                time.sleep(LOOK_SECONDS)
            while contender.taken(place) < stream.events or services.end_of(place.topics[1], stream.partitions) < stream.events:
                time.sleep(0.05)
        finally:
            worker.terminate()
            worker.wait()
        audited = load.audit(place, stream, contender.table)
    return {"seconds": back - killed, "rate_before": before, "repeated": audited["repeated"]}


def rate_until(place: Place, contender: Ours, taken_min: int) -> float:
    """Events a second from the first tenth of the way on."""
    at_tenth = None
    while (taken := contender.taken(place)) < taken_min:
        if at_tenth is None and taken > taken_min // 10:
            at_tenth = (time.monotonic(), taken)
        time.sleep(LOOK_SECONDS)
    assert at_tenth is not None
    return (taken - at_tenth[1]) / (time.monotonic() - at_tenth[0])
