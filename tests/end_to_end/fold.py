"""The model: one thread folds each lane's outside records in offset order and predicts what becomes of each.

A lane's order, its duplicates, gaps, conflicts and dead letters depend on nothing but the lane, so they are
predicted exactly. What depends on the moment at which other lanes spoke (who gets the last item, whether a
cancel comes before the capture) is predicted as a set of allowed outcomes; `laws` then checks the invariants.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from contract import KINDS, Bad, Event, read, total_of
from wire import Kept, Names

Place = tuple[str, int, int]
Entity = tuple[str, str]
# More than any window that a worker would keep: nobody waits that far ahead.
FAR = 2**40
# Of events without a journal a worker keeps the content of the last few numbers; surely of this many.
DIGESTS_KEPT = 16

APPLIED, REFUSED, DUPLICATE, PARKED = "applied", "refused", "duplicate", "parked"


def dead(*reasons: str) -> frozenset[str]:
    return frozenset(f"dead_lettered:{reason}" for reason in reasons)


def only(outcome: str) -> frozenset[str]:
    return frozenset({outcome})


@dataclass
class Marks:
    """What is known of one source of one entity."""

    next: int = 1
    taken: dict[int, str] = field(default_factory=dict)
    held: dict[int, tuple[Event, Place]] = field(default_factory=dict)
    passed: set[int] = field(default_factory=set)


@dataclass
class Predicted:
    """What the model says of all outside records and of the state that depends on one lane alone."""

    outcomes: dict[Place, frozenset[str]] = field(default_factory=dict)
    order: dict[Entity, list[Place]] = field(default_factory=lambda: defaultdict(list))
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    adjustments: dict[Place, tuple[str, int]] = field(default_factory=dict)
    purchases: dict[str, Event] = field(default_factory=dict)
    cancels: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))
    captured: dict[str, int] = field(default_factory=dict)
    declined: set[str] = field(default_factory=set)
    quarantined: set[Entity] = field(default_factory=set)
    held_meanwhile: set[Place] = field(default_factory=set)
    events: dict[Place, Event] = field(default_factory=dict)


class Fold:
    def __init__(self, names: Names) -> None:
        self.names = names
        self.found = Predicted()
        self.marks: dict[tuple[Entity, str], Marks] = defaultdict(Marks)
        self.seen: dict[tuple[Entity, str, str], str] = {}
        self.waiting: dict[str, list[Place]] = defaultdict(list)

    def take(self, record: Kept) -> None:
        """Takes the next outside record of a lane. Purchases' lanes come before payments'."""
        event = read(record, self.names)
        place = record.place
        if isinstance(event, Bad):
            self.found.outcomes[place] = dead(*event.reasons)
            self.passes(KINDS[self.names.plain(record.topic)], event)
            return
        self.found.events[place] = event
        entity = (event.kind, event.entity)
        if entity in self.found.quarantined:
            self.found.outcomes[place] = only(PARKED)
        elif event.sequence is None:
            self.by_id(entity, event, place)
        else:
            self.by_sequence(entity, event, event.sequence, place)

    def finish(self) -> Predicted:
        """Says what becomes of those that still wait once all deadlines are over."""
        for (entity, _), marks in self.marks.items():
            for _, place in marks.held.values():
                self.found.outcomes[place] = only(PARKED)
                self.found.quarantined.add(entity)
        for places in self.waiting.values():
            for place in places:
                self.found.outcomes[place] = dead("expired")
        return self.found

    def passes(self, kind: str, bad: Bad) -> None:
        """A dead letter that names its entity and number takes its place in the order."""
        if bad.entity is None or bad.source is None or bad.sequence is None or "wrong_partition" in bad.reasons:
            return
        marks = self.marks[((kind, bad.entity), bad.source)]
        marks.passed.add(bad.sequence)
        self.drain(marks)

    def by_id(self, entity: Entity, event: Event, place: Place) -> None:
        at = (entity, event.source, event.id)
        if at in self.seen:
            self.found.outcomes[place] = only(DUPLICATE) if self.seen[at] == event.content else dead("conflict")
            return
        self.seen[at] = event.content
        self.handle(entity, event, place)

    def by_sequence(self, entity: Entity, event: Event, number: int, place: Place) -> None:
        marks = self.marks[(entity, event.source)]
        known = marks.taken.get(number)
        if known is not None:
            self.found.outcomes[place] = only(DUPLICATE) if known == event.content else dead("conflict")
            if event.kind == "counter" and number < marks.next - DIGESTS_KEPT:
                # Counters have no journal to look the old content up in: what cannot be compared is too old.
                self.found.outcomes[place] |= dead("too_old")
            return
        if number - marks.next > FAR:
            # The page does not say how far is too far, nor what follows: buried at once or parked later.
            self.found.outcomes[place] = dead("sequence_gap", "invalid") | only(PARKED)
            return
        marks.taken[number] = event.content
        marks.held[number] = (event, place)
        if number != marks.next:
            self.found.held_meanwhile.add(place)
        self.drain(marks)

    def drain(self, marks: Marks) -> None:
        while True:
            if marks.next in marks.held:
                event, place = marks.held.pop(marks.next)
                self.handle((event.kind, event.entity), event, place)
            elif marks.next not in marks.passed:
                return
            marks.next += 1

    def handle(self, entity: Entity, event: Event, place: Place) -> None:
        outcome = HANDLERS[event.type](self, event, place)
        if outcome is not None:
            self.found.outcomes[place] = outcome
            if outcome == only(APPLIED):
                self.found.order[entity].append(place)

    def counted(self, event: Event, _: Place) -> frozenset[str]:
        value, version = self.found.counters.get(event.entity, (0, 0))
        self.found.counters[event.entity] = (value + event.data["delta"], version + 1)
        return only(APPLIED)

    def profiled(self, event: Event, _: Place) -> frozenset[str]:
        profile = self.found.profiles.setdefault(event.entity, {"email": None, "password_hash": None, "version": 0})
        name = "email" if event.type == "profile.email_changed" else "password_hash"
        profile[name] = event.data[name]
        profile["version"] += 1
        return only(APPLIED)

    def received(self, event: Event, _: Place) -> frozenset[str]:
        self.found.received[event.entity] += event.data["quantity"]
        return only(APPLIED)

    def adjusted(self, event: Event, place: Place) -> frozenset[str]:
        delta = event.data["delta"]
        self.found.adjustments[place] = (event.entity, delta)
        if delta >= 0:
            return only(APPLIED)
        # So little that no moment could allow it, whatever else arrives.
        return only(REFUSED) if delta <= -1_000_000 + 1 else frozenset({APPLIED, REFUSED})

    def placed(self, event: Event, _: Place) -> frozenset[str]:
        if event.entity in self.found.purchases:
            return only(REFUSED)
        self.found.purchases[event.entity] = event
        for number, place in enumerate(self.waiting.pop(event.entity, [])):
            # The first waiting cancel finds a purchase that cannot have learnt of a capture yet.
            self.found.outcomes[place] = only(APPLIED) if number == 0 else frozenset({APPLIED, REFUSED})
        return only(APPLIED)

    def cancelled(self, event: Event, place: Place) -> frozenset[str] | None:
        self.found.cancels[event.entity].append(place)
        if event.entity in self.found.purchases:
            return frozenset({APPLIED, REFUSED})
        self.waiting[event.entity].append(place)
        return None

    def paid(self, event: Event, place: Place) -> frozenset[str] | None:
        purchase = (
            self.found.purchases.get(event.entity.removeprefix("pay-")) if event.entity.startswith("pay-") else None
        )
        if purchase is None:
            return dead("expired")
        amount, known = event.data.get("amount_minor", 0), self.found.captured.get(event.entity)
        if event.type == "payment.declined":
            contradicts = known is not None or event.entity in self.found.declined
            self.found.declined.add(event.entity)
        elif event.type == "payment.captured":
            contradicts = known is not None or amount > total_of(purchase.data["lines"])
            self.found.captured.setdefault(event.entity, amount)
        else:
            contradicts = known is None or amount > known
        if not contradicts:
            return only(APPLIED)
        self.found.quarantined.add(("payment", event.entity))
        return only(PARKED)


HANDLERS = {
    "activity.counted": Fold.counted,
    "profile.email_changed": Fold.profiled,
    "profile.password_changed": Fold.profiled,
    "stock.received": Fold.received,
    "stock.adjusted": Fold.adjusted,
    "purchase.placed": Fold.placed,
    "purchase.cancelled": Fold.cancelled,
    "payment.captured": Fold.paid,
    "payment.declined": Fold.paid,
    "payment.refunded": Fold.paid,
}


def predict(records: list[Kept], names: Names) -> Predicted:
    """Predicts from the outside records of all home topics. Payments come last: what they may say depends on
    which purchases there are."""
    fold = Fold(names)
    last = names.topic("payments")
    for record in sorted(records, key=lambda record: (record.topic == last, record.place)):
        fold.take(record)
    return fold.finish()
