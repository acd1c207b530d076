"""Laws about the tables: every record accounted for once, the state equal to the model's, and all at rest."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from contract import total_of
from evidence import Evidence, Place, Row, Verdict, number, place_of
from fold import APPLIED, DUPLICATE, PARKED, Predicted


def judge_tables(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    accounting(evidence, model, verdict)
    counters_and_profiles(evidence, model, verdict)
    stock(evidence, model, verdict)
    purchases(evidence, model, verdict)
    payments(evidence, model, verdict)
    journal(evidence, model, verdict)
    quarantine(evidence, model, verdict)


def outcomes(evidence: Evidence) -> dict[Place, list[str]]:
    """What the tables say became of each record; a record that no row names was a duplicate, or a counter's."""
    found: dict[Place, list[str]] = defaultdict(list)
    for row in evidence.tables["journal"]:
        # What a timer did is in the journal too, and comes from no record.
        if row["event_id"] is not None:
            found[place_of(row)].append(str(row["outcome"]))
    for row in evidence.tables["dead_letter"]:
        found[place_of(row)].append(f"dead_lettered:{row['reason']}")
    for table in ("held", "parked", "waiting"):
        for row in evidence.tables[table]:
            found[place_of(row)].append(table)
    return found


def accounting(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    law = "every outside record has exactly one outcome, and it is one that the model allows"
    actual = outcomes(evidence)
    for record in evidence.outside:
        allowed = model.outcomes[record.place]
        event = model.events.get(record.place)
        without_rows = event is not None and event.kind == "counter"
        rows = actual.pop(record.place, [])
        if not rows:
            fine = DUPLICATE in allowed or (without_rows and APPLIED in allowed)
            told = "applied" if without_rows and APPLIED in allowed else "duplicate"
        else:
            fine = len(rows) == 1 and rows[0] in allowed
            told = rows[0]
        verdict.counts[f"outcome {told}"] += 1
        verdict.demand(
            fine, law, f"{record} {event or 'bad'}: tables say {rows or 'nothing'}, allowed {sorted(allowed)}"
        )
    messages_accounted(evidence, actual, model, verdict)


def messages_accounted(evidence: Evidence, actual: dict[Place, list[str]], model: Predicted, verdict: Verdict) -> None:
    """The worker's own messages: one journal row each, however often each was sent."""
    law = "every message of the worker to itself is taken exactly once"
    copies: dict[str, list[Place]] = defaultdict(list)
    unwell = {entity_id for _, entity_id in model.quarantined}
    home = {evidence.names.topic(name) for name in ("purchases", "payments", "stock")}
    for message in evidence.messages:
        if message.topic in home:
            copies[message.header("ce_id") or str(message)].append(message.place)
        if message.key is not None and message.key.decode("utf-8", "replace") in unwell:
            copies.pop(message.header("ce_id") or str(message), None)
            actual.pop(message.place, None)
    for identity, places in copies.items():
        rows = [outcome for place in places for outcome in actual.pop(place, [])]
        fine = len(rows) == 1 and rows[0] in ("applied", "refused", "skipped")
        verdict.demand(fine, law, f"message {identity} at {places}: tables say {rows or 'nothing'}")
    for place, rows in actual.items():
        verdict.broken("no row names a record that is not there", f"{place}: {rows}")


def counters_and_profiles(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    counters = {
        str(row["counter"]): (number(row["value"]), number(row["version"])) for row in evidence.tables["counter"]
    }
    profiles = {
        str(row["user_id"]): {
            "email": row["email"],
            "password_hash": row["password_hash"],
            "version": number(row["version"]),
        }
        for row in evidence.tables["profile"]
    }
    for law, actual, expected in (
        ("counters (value, version) equal the model's", counters, model.counters),
        ("profiles equal the model's", profiles, model.profiles),
    ):
        for entity in sorted(actual.keys() | expected.keys()):
            verdict.demand(
                actual.get(entity) == expected.get(entity),
                law,
                f"{entity}: {actual.get(entity)}, expected {expected.get(entity)}",
            )


def stock(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    actual = outcomes(evidence)
    expected: dict[str, int] = defaultdict(int, model.received)
    for place, (sku, delta) in model.adjustments.items():
        if actual.get(place) == [APPLIED]:
            expected[sku] += delta
    for row in evidence.tables["reservation"]:
        if row["status"] == "committed":
            expected[str(row["sku"])] -= number(row["quantity"])
        verdict.demand(row["status"] != "reserved", "at rest: no line is still reserved", str(row))
    on_hand = {str(row["sku"]): number(row["on_hand"]) for row in evidence.tables["stock"]}
    for sku in sorted(expected.keys() | on_hand.keys()):
        verdict.demand(
            on_hand.get(sku, 0) == expected[sku],
            "on hand = received + adjusted - committed",
            f"{sku}: on hand {on_hand.get(sku)}, expected {expected[sku]}",
        )
    for row in evidence.tables["stock"]:
        verdict.demand(number(row["reserved"]) == 0, "at rest: reserved = 0 for every sku", str(row))
        verdict.demand(number(row["on_hand"]) >= 0, "never sold what was not there", str(row))


def purchases(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    actual = outcomes(evidence)
    lines: dict[str, set[tuple[str, int, int]]] = defaultdict(set)
    for row in evidence.tables["purchase_line"]:
        lines[str(row["purchase_id"])].add((str(row["sku"]), number(row["quantity"]), number(row["unit_price_minor"])))
    reservations: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in evidence.tables["reservation"]:
        reservations[str(row["purchase_id"])][str(row["sku"])] = row
    payments = {str(row["purchase_id"]): row for row in evidence.tables["payment"]}
    found = {str(row["purchase_id"]): row for row in evidence.tables["purchase"]}
    for purchase in sorted(found.keys() ^ model.purchases.keys()):
        verdict.broken("exactly the placed purchases are in shop.purchase", purchase)
    for purchase, event in model.purchases.items():
        if purchase not in found:
            continue
        row = found[purchase]
        verdict.counts[f"purchase {row['status']} {row['reason'] or ''}".rstrip()] += 1
        placed = {(line["sku"], line["quantity"], line["unit_price_minor"]) for line in event.data["lines"]}
        written = (row["customer_id"], number(row["total_minor"]), row["currency"])
        said = (event.data["customer_id"], total_of(event.data["lines"]), event.data["currency"])
        verdict.demand(
            written == said and lines[purchase] == placed, "a purchase is as it was first placed", f"{row} {event.data}"
        )
        cancelled = any(actual.get(place) == [APPLIED] for place in model.cancels[purchase])
        ended(row, event.data["lines"], reservations[purchase], payments.get(purchase), cancelled, model, verdict)
    open_sagas = [row for row in evidence.tables["saga"] if row["status"] not in ("completed", "compensated")]
    for row in open_sagas:
        verdict.broken("at rest: every saga is completed or compensated", str(row))


def ended(
    row: Row,
    lines: list[dict[str, object]],
    reservations: dict[str, Row],
    payment: Row | None,
    cancelled: bool,
    model: Predicted,
    verdict: Verdict,
) -> None:
    """One purchase at rest."""
    purchase, status, reason = str(row["purchase_id"]), row["status"], row["reason"]
    told = f"{row} payment {payment}"
    captured = number(payment["captured_minor"]) if payment else 0
    refunded = number(payment["refunded_minor"]) if payment else 0
    if status == "completed":
        committed = all(
            (reservation := reservations.get(str(line["sku"]))) is not None
            and reservation["status"] == "committed"
            and number(reservation["quantity"]) == line["quantity"]
            for line in lines
        )
        verdict.demand(committed, "a completed purchase has every line committed", f"{told} {reservations}")
        verdict.demand(
            payment is not None and captured == number(row["total_minor"]) and refunded == 0,
            "a completed purchase is captured in full",
            told,
        )
        verdict.demand(not cancelled, "an applied cancel undoes the purchase", told)
        impossible = any(int(str(line["quantity"])) >= 10**9 for line in lines)
        verdict.demand(not impossible, "nobody gets more than there ever was", told)
        # Nobody is asked to capture nothing.
        captured_outside = number(row["total_minor"]) == 0 or f"pay-{purchase}" in model.captured
        verdict.demand(captured_outside, "a completed purchase was captured by the gateway", told)
    elif status == "rejected":
        verdict.demand(
            all(one["status"] == "released" for one in reservations.values()),
            "a rejected purchase has nothing reserved and nothing committed",
            f"{told} {reservations}",
        )
        verdict.demand(captured == refunded, "a rejected purchase keeps no money", told)
        allowed = reason in ("out_of_stock", "payment_declined", "cancelled", "timeout")
        verdict.demand(allowed, "a rejected purchase gives a reason of the page", told)
        verdict.demand(
            reason != "payment_declined" or f"pay-{purchase}" in model.declined,
            "payment_declined only if the gateway declined",
            told,
        )
        verdict.demand(cancelled or reason != "cancelled", "cancelled only if a cancel was applied", told)
    else:
        verdict.broken("at rest: every placed purchase is completed or rejected", told)


def payments(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    known = {str(row["payment_id"]) for row in evidence.tables["payment"]}
    for payment in sorted((model.captured.keys() | model.declined) - known):
        verdict.broken("a payment that the gateway answered is in shop.payment", payment)
    for row in evidence.tables["payment"]:
        verdict.counts[f"payment {row['status']}"] += 1
        captured, refunded = number(row["captured_minor"]), number(row["refunded_minor"])
        fine = 0 <= refunded <= captured <= number(row["amount_minor"])
        verdict.demand(fine, "0 <= refunded <= captured <= amount", str(row))
        verdict.demand(
            row["status"] not in ("requested", "refunding"), "at rest: no payment is requested or refunding", str(row)
        )
        verdict.demand(
            captured == model.captured.get(str(row["payment_id"]), 0), "captured is what the gateway captured", str(row)
        )
        verdict.demand(row["payment_id"] == f"pay-{row['purchase_id']}", "payment_id = pay-<purchase_id>", str(row))


def journal(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    applied: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in evidence.tables["journal"]:
        if row["outcome"] == APPLIED:
            applied[(str(row["kind"]), str(row["entity_id"]))].append(row)
        else:
            verdict.demand(
                row["outcome"] != "refused" or row["version"] is None, "a refused row has no version", str(row)
            )
    versions = {
        kind: {str(row[key]): number(row["version"]) for row in evidence.tables[table]}
        for kind, table, key in (
            ("purchase", "purchase", "purchase_id"),
            ("payment", "payment", "payment_id"),
            ("stock", "stock", "sku"),
            ("profile", "profile", "user_id"),
        )
    }
    for (kind, entity), rows in applied.items():
        numbers = [number(row["version"]) for row in rows]
        verdict.demand(
            numbers == list(range(1, len(numbers) + 1)),
            "journal versions are dense from 1",
            f"{kind} {entity}: {numbers}",
        )
        verdict.demand(
            versions[kind].get(entity) == len(numbers),
            "a version counts applied events",
            f"{kind} {entity}: table {versions[kind].get(entity)}, journal {len(numbers)}",
        )
        verdict.demand(
            all(number(one["epoch"]) <= number(two["epoch"]) for one, two in pairwise(rows)),
            "epochs do not fall along an entity's versions",
            f"{kind} {entity}",
        )
        by_source: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            if row["sequence"] is not None and not str(row["source"]).startswith("/seriatim/"):
                by_source[str(row["source"])].append(number(row["sequence"]))
        for source, sequences in by_source.items():
            verdict.demand(
                all(one < two for one, two in pairwise(sequences)),
                "per entity and source, sequences rise",
                f"{kind} {entity} {source}: {sequences}",
            )
        if kind == "profile":
            verdict.demand(
                [place_of(row) for row in rows] == model.order[(kind, entity)],
                "a profile's events are applied in the model's order",
                entity,
            )


def quarantine(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    actual = {
        (str(row["kind"]), str(row["entity_id"])) for row in evidence.tables["entity"] if row["status"] != "active"
    }
    parked = {
        (event.kind, event.entity)
        for place, event in model.events.items()
        if model.outcomes[place] == frozenset({PARKED})
    }
    for kind, entity in sorted(parked - actual):
        verdict.broken("an entity with a contradiction or an overdue gap is in quarantine", f"{kind} {entity}")
    for kind, entity in sorted(actual - model.quarantined):
        far = any(event.entity == entity and len(model.outcomes[place]) > 1 for place, event in model.events.items())
        verdict.demand(far, "nobody else is in quarantine", f"{kind} {entity}")
    for row in evidence.tables["held"] + evidence.tables["waiting"]:
        verdict.broken("at rest: nothing is held or waiting", str(row))
