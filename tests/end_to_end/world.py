"""The outside world of the shop: a seeded stream of events with every kind of trouble in it, and its producer.

    world.py topics  --brokers … --prefix …
    world.py produce --brokers … --prefix … --seed … --start … --phase 0

The same seed and start give the same stream, so that it can be produced phase by phase. What belongs
together by sequence stays within one phase: between phases the test does as it likes with the workers, and
a gap that waited for the next phase would be a gap past its deadline.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from datetime import datetime, timezone

from confluent_kafka import Producer

from bad_records import BAD, RARE, bad
from shop_events import Clock, Event, Sent, placed
from wire import Names, create_topics, partition_of

# Where the phases begin, on a line of `LENGTH` steps.
LENGTH = 30_000
PHASES = (0, 15_000, 22_500, LENGTH)
SKUS = [f"sku-{number}" for number in range(36)]
PLENTY = [f"plenty-{number}" for number in range(4)]
INITIAL_PLENTY = 1_000_000


class World:
    """Collects records at places on a line; the line is cut into phases at the end."""

    def __init__(self, seed: int, start: datetime, prefix: str = "") -> None:
        self.dice = random.Random(seed)
        self.clock = Clock(start)
        self.prefix = prefix
        self.line: list[tuple[float, int, Sent]] = []
        self.sequences: dict[tuple[str, str, str], int] = {}

    def put(self, place: float, sent: Sent, phase: int | None = None) -> None:
        """Puts a record near a place, but inside the phase that it belongs to."""
        phase = phase_of(place) if phase is None else phase
        place = min(max(place, PHASES[phase] + 0.5), PHASES[phase + 1] - 0.5)
        self.line.append((place, len(self.line), sent))

    def say(self, place: float, event: Event, *, copies: bool = True, shift: float = 0.0) -> None:
        """Says an event in one of the modes, and perhaps again, near or far, in the same or another spelling."""
        phase = phase_of(place)
        self.put(place + shift, self.spelled(event), phase)
        if copies and self.dice.random() < 0.12:
            near = self.dice.random() < 0.6
            at = place + shift + (self.dice.uniform(0, 60) if near else self.dice.uniform(500, LENGTH))
            again = event.marked("duplicate_near" if near else "duplicate_far")
            last = phase if near else phase_of(min(at, LENGTH - 1))
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

    def sequenced(self, place: float, topic: str, key: str, kind: str, data: dict[str, object], source: str) -> None:
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
            self.put(place + self.dice.uniform(1, 900), self.spelled(other), phase_of(place))
        else:
            self.say(place, event, shift=self.dice.uniform(-400, 400))

    def unsequenced(self, place: float, event: Event) -> None:
        """Says an event known by its id; rarely another one follows under the same id."""
        self.say(place, event)
        if self.dice.random() < 0.008 and event.data != changed(event.data):
            other = replace(event, data=changed(event.data)).marked("conflict_id")
            self.put(place + self.dice.uniform(1, 2000), self.spelled(other), phase_of(place))

    def phases(self) -> list[list[Sent]]:
        found: list[list[Sent]] = [[] for _ in PHASES[1:]]
        for place, _, sent in sorted(self.line, key=lambda entry: entry[:2]):
            found[phase_of(place)].append(sent)
        return found


def phase_of(place: float) -> int:
    return next(number for number, end in enumerate(PHASES[1:]) if place < end)


def changed(data: dict[str, object]) -> dict[str, object]:
    """Other content that is as valid as the first."""
    for name, item in data.items():
        if name in ("delta", "quantity") and isinstance(item, int):
            return data | {name: item + 1}
        if name in ("email", "password_hash"):
            return data | {name: f"{item}x"}
    return data | {"customer_id": "somebody-else"} if "customer_id" in data else data


def build(seed: int, start: datetime, prefix: str = "") -> World:
    world = World(seed, start, prefix)
    stock(world)
    counters(world)
    profiles(world)
    purchases(world)
    trouble(world)
    return world


def stock(world: World) -> None:
    dice = world.dice
    for sku in PLENTY + SKUS:
        quantity = INITIAL_PLENTY if sku in PLENTY else dice.randint(60, 150)
        number = world.next_sequence("stock", sku, "/warehouse/dock")
        event = Event("stock", sku, "stock.received", {"sku": sku, "quantity": quantity}, "/warehouse/dock",
                      f"dock/{sku}/{number}", world.clock.at(0), number)
        world.put(0.0, event.binary())
    # In order of place: numbers are given as the source counts, and the disorder comes on top.
    for place in sorted(dice.uniform(10, LENGTH) for _ in range(1200)):
        sku = dice.choice(SKUS)
        world.sequenced(place, "stock", sku, "stock.received", {"sku": sku, "quantity": dice.randint(1, 3)}, "/warehouse/dock")
    for number in range(900):
        sku, place = dice.choice(SKUS), dice.uniform(10, LENGTH)
        delta = dice.choice([-4, -3, -2, -1, 0, 1, 2, 3, -1_000_000])
        data = {"sku": sku, "delta": delta, "reason": "count"}
        event = Event("stock", sku, "stock.adjusted", data, "/warehouse/count", f"count-{number}", world.clock.at(place))
        world.unsequenced(place, event.marked("impossible_adjustment") if delta < -1000 else event)


def counters(world: World) -> None:
    dice = world.dice
    for number in range(9000):
        counter, place = f"counter-{dice.randrange(60)}", number * LENGTH / 9000
        delta = dice.choice([0, 1, 1, 1, 2, 5, -1, -3])
        data = {"counter": counter, "delta": delta}
        if dice.random() < 0.5:
            world.sequenced(place, "activity", counter, "activity.counted", data, f"/meter/{dice.randrange(2)}")
            continue
        event = Event("activity", counter, "activity.counted", data, f"/site/{dice.choice('abcd')}",
                      f"visit-{number}", world.clock.at(place))
        world.unsequenced(place, event.marked("zero_delta") if delta == 0 else event)


def profiles(world: World) -> None:
    dice = world.dice
    for number in range(4500):
        user, place = f"user-{dice.randrange(150)}", number * LENGTH / 4500
        device = dice.choice(["/device/phone", "/device/laptop"])
        if dice.random() < 0.5:
            data: dict[str, object] = {"user_id": user, "email": f"{user}+{number}@example.com"}
            world.sequenced(place, "profiles", user, "profile.email_changed", data, device)
        else:
            data = {"user_id": user, "password_hash": f"argon2:{number:08x}"}
            world.sequenced(place, "profiles", user, "profile.password_changed", data, device)


def lines(world: World) -> list[tuple[str, int, int]]:
    dice = world.dice
    skus = dice.sample(SKUS + PLENTY * 5, k=9)
    some = list(dict.fromkeys(skus))[: dice.randint(1, 3)]
    return [(sku, dice.randint(1, 3), dice.choice([0, 99, 250, 1999, 12_345])) for sku in some]


def purchases(world: World) -> None:
    dice = world.dice
    for number in range(2500):
        purchase, place = f"order-{number}", number * (LENGTH - 2) / 2500 + 1
        data = placed(purchase, lines(world), dice.choice(["EUR", "USD", "JPY"]))
        if dice.random() < 0.01:
            data["lines"][0]["quantity"] = 10**9
        if dice.random() < 0.3:
            by_app(world, place, purchase, data)
            continue
        event = Event("purchases", purchase, "purchase.placed", data, "/shop/web", f"web-{number}", world.clock.at(place))
        world.unsequenced(place, event)
        if dice.random() < 0.02:
            world.say(place + 400, replace(event, id=f"web-{number}-again").marked("second_placing"))
        cancel(world, place, purchase, number)


def by_app(world: World, place: float, purchase: str, data: dict[str, object]) -> None:
    """A source that numbers its events: the cancel may overtake the placing and is held for it."""
    dice = world.dice
    source = "/shop/app"
    first = Event("purchases", purchase, "purchase.placed", data, source, f"app-{purchase}-1", world.clock.at(place), 1)
    if dice.random() < 0.3:
        undo = {"purchase_id": purchase, "reason": "changed my mind"}
        second = Event("purchases", purchase, "purchase.cancelled", undo, source, f"app-{purchase}-2", world.clock.at(place), 2)
        late = dice.uniform(-200, 200)
        phase = phase_of(place)
        mark = "cancel_overtakes_in_sequence" if late < 0 else "cancel_in_sequence"
        world.put(place + late, world.spelled(second.marked(mark)), phase)
    world.say(place, first)


def cancel(world: World, place: float, purchase: str, number: int) -> None:
    dice = world.dice
    luck = dice.random()
    if luck < 0.08:
        at, mark = place + dice.uniform(1, 120), "cancel_soon"
    elif luck < 0.12:
        at, mark = place - dice.uniform(1, 400), "cancel_early"
    elif luck < 0.17:
        at, mark = place + dice.uniform(5000, 14_000), "cancel_late"
    else:
        return
    data = {"purchase_id": purchase, "reason": "customer asked"}
    event = Event("purchases", purchase, "purchase.cancelled", data, "/shop/support", f"cancel-{number}", world.clock.at(place))
    phase = phase_of(min(at, LENGTH - 1)) if mark == "cancel_late" else phase_of(place)
    world.put(at, world.spelled(event.marked(mark)), phase)


def trouble(world: World) -> None:
    """What needs entities of its own, because they end up unwell, or records of its own, because they are bad."""
    dice = world.dice
    for number in range(30):
        place = dice.uniform(10, PHASES[2])
        ghost = f"ghost-{number}"
        data: dict[str, object] = {"purchase_id": ghost, "reason": "never placed"}
        world.put(place, Event("purchases", ghost, "purchase.cancelled", data, "/shop/support", f"cancel-{ghost}",
                               world.clock.at(place)).marked("cancel_never").binary())
        unknown = dice.choice([f"pay-ghost-{number}", f"card-{number}"])
        data = {"payment_id": unknown, "amount_minor": 5, "currency": "EUR", "provider_ref": "x"}
        world.put(place, Event("payments", unknown, "payment.captured", data, "/gateway/other", f"{unknown}:capture",
                               world.clock.at(place)).marked("unknown_payment").binary())
    for number in range(12):
        place = dice.uniform(10, PHASES[2])
        purchase = f"contra-{number}"
        event = Event("purchases", purchase, "purchase.placed", placed(purchase, [(PLENTY[number % 4], 1, 500)]),
                      "/shop/web", f"web-{purchase}", world.clock.at(place))
        world.put(place, event.marked("contradicting_fact").binary())
        gap(world, place, f"gap-{number}", 4, "gap_never_filled")
        gap(world, place, f"far-{number}", 2**62 + number, "far_ahead")
        wrong_partition(world, place, number)
        large = {"counter": "counter-0", "delta": 1, "padding": "x" * 1_000_000}
        if number < 3:
            world.put(place, Event("activity", "counter-0", "activity.counted", large, "/site/a", f"large-{number}",
                                   world.clock.at(place)).marked("large_but_good").binary())
    number = 0
    for name in BAD:
        for _ in range(2 if name in RARE else 6):
            number += 1
            place = dice.uniform(10, LENGTH - 1)
            world.put(place, bad(name, number, world.clock.at(place), world.prefix))


def gap(world: World, place: float, user: str, last: int, mark: str) -> None:
    """Numbers 1 and 2 and then one that leaves a gap for good."""
    for number in (1, 2, last):
        data: dict[str, object] = {"user_id": user, "email": f"{user}-{number}@example.com"}
        event = Event("profiles", user, "profile.email_changed", data, "/device/phone", f"{user}-{number}",
                      world.clock.at(place), number)
        world.put(place, (event.marked(mark) if number == last else event).binary())


def wrong_partition(world: World, place: float, number: int) -> None:
    counter = f"counter-{number}"
    data: dict[str, object] = {"counter": counter, "delta": 7}
    event = Event("activity", counter, "activity.counted", data, "/site/a", f"strayed-{number}", world.clock.at(place))
    partition = (partition_of(counter.encode()) + 1 + number % 3) % 4
    world.put(place, replace(event.marked("wrong_partition").binary(), partition=partition))


def produce(brokers: str, names: Names, records: list[Sent]) -> None:
    """Produces in order and returns when the broker has acknowledged all of them."""
    producer = Producer({
        "bootstrap.servers": brokers,
        "enable.idempotence": True,
        "message.max.bytes": 1_048_588,
        "linger.ms": 5,
        "queue.buffering.max.messages": 200_000,
        "queue.buffering.max.kbytes": 262_144,
    })
    failed: list[str] = []

    def report(error: object, message: object) -> None:
        if error is not None:
            failed.append(str(error))

    for sent in records:
        partition = sent.partition if sent.partition is not None else partition_of(sent.key or b"")
        producer.produce(names.topic(sent.topic), key=sent.key, value=sent.value, headers=sent.headers,
                         partition=partition, on_delivery=report)
        producer.poll(0)
    left = producer.flush(120)
    if left or failed:
        raise SystemExit(f"producing: {left} without an answer, failed: {failed[:3]}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["topics", "produce"])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=1_767_225_600, help="time of the first event, in seconds since 1970")
    parser.add_argument("--phase", type=int, choices=range(len(PHASES) - 1), default=0)
    chosen = parser.parse_args(arguments)
    names = Names(chosen.prefix)
    if chosen.action == "topics":
        create_topics(chosen.brokers, names)
        return
    start = datetime.fromtimestamp(chosen.start, timezone.utc)
    records = build(chosen.seed, start, chosen.prefix).phases()[chosen.phase]
    produce(chosen.brokers, names, records)
    print(len(records))


if __name__ == "__main__":
    main(sys.argv[1:])
