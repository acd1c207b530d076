"""What only shows after a while: tables that have grown, and a transaction that somebody else leaves open."""

from __future__ import annotations

import time
from bisect import bisect_left

import backlog
from contender import Load, Ours, Stream
from services import Place, Services, Session

MILLION = 1_000_000
ASIDE_SECONDS = 30
"""For how long the rate is measured before the other transaction begins, at its end, and after it."""
OPEN_SHARE_MAX = 0.5
"""The share of its rate that a contender is expected to keep at most: as many events wait for it."""

Looks = list[tuple[float, int]]


def rate(looks: Looks, begin: float, end: float) -> float:
    """Events a second between two moments."""
    times = [at for at, _ in looks]
    first, last = looks[bisect_left(times, begin)], looks[min(bisect_left(times, end), len(looks) - 1)]
    return (last[1] - first[1]) / (last[0] - first[0])


def millions(services: Services, load: Load, contender: Ours, times: int) -> dict[str, float]:
    """Rates of the first million events, of the last, and of those between, in one run known by ids."""
    services.need_room(times * MILLION)
    looks: Looks = []

    def watch(_: Place, taken: int) -> None:
        looks.append((time.monotonic(), taken))

    run = backlog.run(services, load, contender, Stream(times * MILLION), backlog.Plan(watch=watch))
    counts = [taken for _, taken in looks]
    # Of two neighbouring looks the first that has the number.
    marks = [looks[bisect_left(counts, max(1, number * MILLION))] for number in range(times + 1)]
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(marks, marks[1:], strict=False)]
    each = {f"million_{number}": value for number, value in enumerate(rates, 1)}
    return {"events": float(times * MILLION), "resident_mib": run.resident_mib, **each}


class Snapshot:
    """A session that has begun a transaction, has looked, and then does nothing."""

    def __init__(self, place: Place) -> None:
        self.session = Session(place.url)
        self.session.ask("begin isolation level repeatable read; select count(*) from bank.account")

    def close(self) -> None:
        """Ends it; fails if it was not open all the time."""
        assert self.session.ask("select now() < clock_timestamp(); commit") == "t"
        self.session.close()


def snapshot(services: Services, load: Load, contender: Ours, expected: float, seconds: float) -> dict[str, float]:
    """Rates while another transaction is open, at the end of that, and before it and after it.

    The contender should write no table that grows: its own slowing down would be taken for the other's doing.
    """
    # A tenth more than is expected: it must not run dry.
    events = int((2 * ASIDE_SECONDS + seconds * OPEN_SHARE_MAX) * expected * 1.1)
    services.need_room(events)
    looks: Looks = []
    other: list[Snapshot] = []
    opened = closed = 0.0

    def watch(place: Place, taken: int) -> None:
        nonlocal opened, closed
        now = time.monotonic()
        if taken:
            looks.append((now, taken))
        if looks and not opened and now - looks[0][0] >= ASIDE_SECONDS:
            other.append(Snapshot(place))
            opened = time.monotonic()
        if opened and not closed and now - opened >= seconds:
            assert taken < events, "the backlog ended before the other transaction"
            other[0].close()
            closed = now

    backlog.run(services, load, contender, Stream(events, sequenced=True), backlog.Plan(watch=watch))
    assert closed, "the backlog ended before the other transaction"
    ended = next(at for at, taken in looks if taken >= events)
    # The first seconds warm up, and those after it clean up.
    return {
        "seconds": seconds,
        "events": float(events),
        "before": rate(looks, looks[0][0] + ASIDE_SECONDS / 6, opened),
        "open": rate(looks, opened, closed),
        "open_at_end": rate(looks, closed - ASIDE_SECONDS, closed),
        "after": rate(looks, closed, min(ended, closed + ASIDE_SECONDS)),
    }
