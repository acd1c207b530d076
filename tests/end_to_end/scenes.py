"""What happens in the shop, scene by scene, with the trouble that belongs to each."""

from __future__ import annotations

from dataclasses import replace

from bad_records import BAD, RARE, bad
from shop_events import Data, Event, placed
from stream import LENGTH, World
from wire import partition_of

SKUS = [f"sku-{number}" for number in range(36)]
PLENTY = [f"plenty-{number}" for number in range(4)]
INITIAL_PLENTY = 1_000_000


def stock(world: World) -> None:
    dice = world.dice
    for sku in PLENTY + SKUS:
        quantity = INITIAL_PLENTY if sku in PLENTY else dice.randint(60, 150)
        number = world.next_sequence("stock", sku, "/warehouse/dock")
        event = Event(
            "stock",
            sku,
            "stock.received",
            {"sku": sku, "quantity": quantity},
            "/warehouse/dock",
            f"dock/{sku}/{number}",
            world.clock.at(0),
            number,
        )
        world.put(0.0, event.binary())
    # In order of place: numbers are given as the source counts, and the disorder comes on top.
    for place in sorted(dice.uniform(10, LENGTH) for _ in range(world.count(1200))):
        sku = dice.choice(SKUS)
        world.sequenced(
            place, "stock", sku, "stock.received", {"sku": sku, "quantity": dice.randint(1, 3)}, "/warehouse/dock"
        )
    for number in range(world.count(900)):
        sku, place = dice.choice(SKUS), dice.uniform(10, LENGTH)
        delta = dice.choice([-4, -3, -2, -1, 0, 1, 2, 3, -1_000_000])
        data = {"sku": sku, "delta": delta, "reason": "count"}
        event = Event(
            "stock", sku, "stock.adjusted", data, "/warehouse/count", f"count-{number}", world.clock.at(place)
        )
        world.unsequenced(place, event.marked("impossible_adjustment") if delta < -1000 else event)


def counters(world: World) -> None:
    dice, count = world.dice, world.count(9000)
    for number in range(count):
        counter, place = f"counter-{dice.randrange(world.count(60))}", number * LENGTH / count
        delta = dice.choice([0, 1, 1, 1, 2, 5, -1, -3])
        data = {"counter": counter, "delta": delta}
        if dice.random() < 0.5:
            world.sequenced(place, "activity", counter, "activity.counted", data, f"/meter/{dice.randrange(2)}")
            continue
        event = Event(
            "activity",
            counter,
            "activity.counted",
            data,
            f"/site/{dice.choice('abcd')}",
            f"visit-{number}",
            world.clock.at(place),
        )
        world.unsequenced(place, event.marked("zero_delta") if delta == 0 else event)


def profiles(world: World) -> None:
    dice, count = world.dice, world.count(4500)
    for number in range(count):
        user, place = f"user-{dice.randrange(world.count(150))}", number * LENGTH / count
        device = dice.choice(["/device/phone", "/device/laptop"])
        if dice.random() < 0.5:
            data: Data = {"user_id": user, "email": f"{user}+{number}@example.com"}
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
    dice, count = world.dice, world.count(2500)
    for number in range(count):
        purchase, place = f"order-{number}", number * (LENGTH - 2) / count + 1
        data = placed(purchase, lines(world), dice.choice(["EUR", "USD", "JPY"]))
        if dice.random() < 0.01:
            data["lines"][0]["quantity"] = 10**9
        if dice.random() < 0.3:
            by_app(world, place, purchase, data)
            continue
        event = Event(
            "purchases", purchase, "purchase.placed", data, "/shop/web", f"web-{number}", world.clock.at(place)
        )
        world.unsequenced(place, event)
        if dice.random() < 0.02:
            world.say(min(place + 400, LENGTH - 1), replace(event, id=f"web-{number}-again").marked("second_placing"))
        cancel(world, place, purchase, number)


def by_app(world: World, place: float, purchase: str, data: Data) -> None:
    """A source that numbers its events: the cancel may overtake the placing and is held for it."""
    dice = world.dice
    source = "/shop/app"
    first = Event("purchases", purchase, "purchase.placed", data, source, f"app-{purchase}-1", world.clock.at(place), 1)
    if dice.random() < 0.3:
        undo = {"purchase_id": purchase, "reason": "changed my mind"}
        second = Event(
            "purchases", purchase, "purchase.cancelled", undo, source, f"app-{purchase}-2", world.clock.at(place), 2
        )
        late = dice.uniform(-200, 200)
        phase = world.phase_of(place)
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
    event = Event(
        "purchases", purchase, "purchase.cancelled", data, "/shop/support", f"cancel-{number}", world.clock.at(place)
    )
    phase = world.phase_of(min(at, LENGTH - 1)) if mark == "cancel_late" else world.phase_of(place)
    world.put(at, world.spelled(event.marked(mark)), phase)


def trouble(world: World) -> None:
    """What needs entities of its own, because they end up unwell, or records of its own, because they are bad."""
    ghosts(world)
    unwell(world)
    number, dice = 0, world.dice
    for name in BAD:
        for _ in range(world.count(2 if name in RARE else 6)):
            number += 1
            place = dice.uniform(10, LENGTH - 1)
            world.put(place, bad(name, number, world.clock.at(place), world.prefix))


def ghosts(world: World) -> None:
    """What is said of purchases and payments that there never are."""
    dice = world.dice
    for number in range(world.count(30)):
        place = dice.uniform(10, world.before_last)
        ghost = f"ghost-{number}"
        data: Data = {"purchase_id": ghost, "reason": "never placed"}
        world.put(
            place,
            Event(
                "purchases",
                ghost,
                "purchase.cancelled",
                data,
                "/shop/support",
                f"cancel-{ghost}",
                world.clock.at(place),
            )
            .marked("cancel_never")
            .binary(),
        )
        unknown = dice.choice([f"pay-ghost-{number}", f"card-{number}"])
        data = {"payment_id": unknown, "amount_minor": 5, "currency": "EUR", "provider_ref": "x"}
        world.put(
            place,
            Event(
                "payments",
                unknown,
                "payment.captured",
                data,
                "/gateway/other",
                f"{unknown}:capture",
                world.clock.at(place),
            )
            .marked("unknown_payment")
            .binary(),
        )


def unwell(world: World) -> None:
    """Purchases whose payment is contradicted, gaps that stay, strays, and what is large but good."""
    dice = world.dice
    for number in range(world.count(12)):
        place = dice.uniform(10, world.before_last)
        purchase = f"contra-{number}"
        event = Event(
            "purchases",
            purchase,
            "purchase.placed",
            placed(purchase, [(PLENTY[number % 4], 1, 500)]),
            "/shop/web",
            f"web-{purchase}",
            world.clock.at(place),
        )
        world.put(place, event.marked("contradicting_fact").binary())
        gap(world, place, f"gap-{number}", 4, "gap_never_filled")
        gap(world, place, f"far-{number}", 2**62 + number, "far_ahead")
        wrong_partition(world, place, number)
        large = {"counter": "counter-0", "delta": 1, "padding": "x" * 1_000_000}
        if number < 3:
            world.put(
                place,
                Event(
                    "activity",
                    "counter-0",
                    "activity.counted",
                    large,
                    "/site/a",
                    f"large-{number}",
                    world.clock.at(place),
                )
                .marked("large_but_good")
                .binary(),
            )


def gap(world: World, place: float, user: str, last: int, mark: str) -> None:
    """Numbers 1 and 2 and then one that leaves a gap for good."""
    for number in (1, 2, last):
        data: Data = {"user_id": user, "email": f"{user}-{number}@example.com"}
        event = Event(
            "profiles",
            user,
            "profile.email_changed",
            data,
            "/device/phone",
            f"{user}-{number}",
            world.clock.at(place),
            number,
        )
        world.put(place, (event.marked(mark) if number == last else event).binary())


def wrong_partition(world: World, place: float, number: int) -> None:
    counter = f"counter-{number}"
    data: Data = {"counter": counter, "delta": 7}
    event = Event("activity", counter, "activity.counted", data, "/site/a", f"strayed-{number}", world.clock.at(place))
    partition = (partition_of(counter.encode()) + 1 + number % 3) % 4
    world.put(place, replace(event.marked("wrong_partition").binary(), partition=partition))
