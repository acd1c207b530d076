"""The stream of the outside world before it is produced: records at places on a line, which is cut into phases.

What belongs together by sequence stays within one phase: between phases the test does as it likes with the
workers, and a gap that waited for the next phase would be a gap past its deadline.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime

from shop_events import Clock, Data, Event, Sent

# All places lie on a line of so many steps.
LENGTH = 30_000
# Where the phases begin, unless there are to be others.
PHASES = (0, 15_000, 22_500, LENGTH)


class World:
    """Collects records at places on a line; the line is cut into phases at the end."""

    def __init__(
        self,
        seed: int,
        start: datetime,
        prefix: str = "",
        scale: float = 1.0,
        edges: tuple[float, ...] = PHASES,
    ) -> None:
        self.scale = scale
        self.edges = edges
        self.dice = random.Random(seed)
        self.clock = Clock(start)
        self.prefix = prefix
        self.line: list[tuple[float, int, Sent]] = []
        self.sequences: dict[tuple[str, str, str], int] = {}

    def count(self, whole: int) -> int:
        """So many of what there are `whole` of in a world of scale 1; at least one."""
        return max(1, round(whole * self.scale))

    def put(self, place: float, sent: Sent, phase: int | None = None) -> None:
        """Puts a record near a place, but inside the phase that it belongs to."""
        phase = self.phase_of(place) if phase is None else phase
        place = min(max(place, self.edges[phase] + 0.5), self.edges[phase + 1] - 0.5)
        self.line.append((place, len(self.line), sent))

    def say(self, place: float, event: Event, *, copies: bool = True, shift: float = 0.0) -> None:
        """Says an event in one of the modes, and perhaps again, near or far, in the same or another spelling."""
        phase = self.phase_of(place)
        self.put(place + shift, self.spelled(event), phase)
        if copies and self.dice.random() < 0.12:
            near = self.dice.random() < 0.6
            at = place + shift + (self.dice.uniform(0, 60) if near else self.dice.uniform(500, LENGTH))
            again = event.marked("duplicate_near" if near else "duplicate_far")
            last = phase if near else self.phase_of(min(at, LENGTH - 1))
            self.put(at, self.spelled(again, vary=True), last)

    def spelled(self, event: Event, *, vary: bool = False) -> Sent:
        spaced = vary and self.dice.random() < 0.4
        if self.dice.random() < 0.25:
            return event.marked("structured").structured(number=self.dice.random() < 0.5, spaced=spaced)
        return event.binary(spaced=spaced)

    def next_sequence(self, topic: str, key: str, source: str) -> int:
        at = (topic, key, source)
        self.sequences[at] = self.sequences.get(at, 0) + 1
        return self.sequences[at]

    def sequenced(self, place: float, topic: str, key: str, kind: str, data: Data, source: str) -> None:
        """Says the next event of a sequenced source: often out of order, sometimes very late, rarely spoilt."""
        number = self.next_sequence(topic, key, source)
        event = Event(topic, key, kind, data, source, f"{source}/{key}/{number}", self.clock.at(place), number)
        luck = self.dice.random()
        if luck < 0.01:
            self.say(place, event.marked("late_gap"), shift=self.dice.uniform(1500, 3000))
        elif luck < 0.015:
            spoilt = event.marked("spoilt_in_sequence").binary()
            self.put(place, replace(spoilt, value=b'{"spoilt": do-not-repeat-me'))
        elif luck < 0.03:
            other = replace(event, data=changed(data), id=event.id + "-b").marked("conflict_sequence")
            self.say(place, event, copies=False)
            self.put(place + self.dice.uniform(1, 900), self.spelled(other), self.phase_of(place))
        else:
            self.say(place, event, shift=self.dice.uniform(-400, 400))

    def unsequenced(self, place: float, event: Event) -> None:
        """Says an event known by its id; rarely another one follows under the same id."""
        self.say(place, event)
        if self.dice.random() < 0.008 and event.data != changed(event.data):
            other = replace(event, data=changed(event.data)).marked("conflict_id")
            self.put(place + self.dice.uniform(1, 2000), self.spelled(other), self.phase_of(place))

    def phases(self) -> list[list[Sent]]:
        found: list[list[Sent]] = [[] for _ in self.edges[1:]]
        for place, _, sent in sorted(self.line, key=lambda entry: entry[:2]):
            found[self.phase_of(place)].append(sent)
        return found

    def phase_of(self, place: float) -> int:
        return next(number for number, end in enumerate(self.edges[1:]) if place < end)

    @property
    def before_last(self) -> float:
        """Where the last phase begins: what ends with a deadline has to begin before."""
        return self.edges[-2]


def changed(data: Data) -> Data:
    """Other content that is as valid as the first."""
    for name, item in data.items():
        if name in ("delta", "quantity") and isinstance(item, int):
            return data | {name: item + 1}
        if name in ("email", "password_hash"):
            return data | {name: f"{item}x"}
    return data | {"customer_id": "somebody-else"} if "customer_id" in data else data
