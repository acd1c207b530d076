"""Judges a drained run: gathers the evidence, folds it through the model, and checks the laws of the contract.

    model.py drained --brokers … --prefix … --database … --seconds 180
    model.py judge   --brokers … --prefix … --database …

`drained` returns once the contract's "at rest" can be expected and exits 1, saying what is missing, if that
does not come within the bound. `judge` prints a summary and every violation, and exits 1 on any.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from confluent_kafka import Consumer, TopicPartition

from bad_records import BAD
from contract import nastiness
from evidence import Evidence, Verdict
from fold import Predicted, predict
from message_laws import judge_messages
from table_laws import judge_tables
from wire import HOME_TOPICS, PARTITIONS, Names, ends, reader, rows

EVENTS_AT_LEAST = 20_000
# Each must have occurred, or the run proves nothing about it.
NASTINESS = (
    "structured",
    "duplicate_near",
    "duplicate_far",
    "late_gap",
    "spoilt_in_sequence",
    "conflict_sequence",
    "conflict_id",
    "zero_delta",
    "impossible_adjustment",
    "second_placing",
    "cancel_soon",
    "cancel_early",
    "cancel_late",
    "cancel_never",
    "cancel_in_sequence",
    "cancel_overtakes_in_sequence",
    "unknown_payment",
    "contradicting_fact",
    "gap_never_filled",
    "far_ahead",
    "wrong_partition",
    "large_but_good",
    *BAD,
)
# What the gateway adds while the run lasts.
NASTY_MEANWHILE = ("cancel_while_charging",)
# A run in which hardly anything succeeds, or nothing is undone, is no test of the saga.
AT_LEAST = {
    "purchase completed": 400,
    "purchase rejected out_of_stock": 40,
    "purchase rejected payment_declined": 20,
    "purchase rejected cancelled": 20,
    "payment refunded": 10,
    "request made again": 5,
    "outcome duplicate": 1000,
    "outcome refused": 50,
    "outcome parked": 12,
    "held for a predecessor": 500,
}

PROGRESS = {
    "open sagas": "select count(*) as n from seriatim.saga where status in ('running', 'compensating')",
    "held": "select count(*) as n from seriatim.held where record_offset is not null",
    "waiting": "select count(*) as n from seriatim.waiting",
    "pending purchases": "select count(*) as n from shop.purchase where status = 'pending'",
    "open payments": "select count(*) as n from shop.payment where status in ('requested', 'refunding')",
}
TOTALS = {
    "purchases": "select count(*) as n from shop.purchase",
    "dead letters": "select count(*) as n from seriatim.dead_letter",
    "parked": "select count(*) as n from seriatim.parked",
}


def counted(database: str, queries: dict[str, str]) -> dict[str, int]:
    """All counts by one query, so that they belong to one moment."""
    union = " union all ".join(f"select '{name}' as name, ({sql}) as n" for name, sql in queries.items())
    return {str(row["name"]): int(row["n"] or 0) for row in rows(database, union)}


def missing(database: str, names: Names, consumer: Consumer, gateway: Consumer) -> tuple[list[str], object]:
    """What keeps the run from being drained, and a snapshot that must not change any more."""
    high = ends(consumer, [names.topic(name) for name in (*HOME_TOPICS, "payment-requests", "purchase-outcomes")])
    letters = ends(consumer, [names.dead_letters(name) for name in HOME_TOPICS])
    found = []
    lanes = {
        (str(row["topic"]), int(row["partition"] or 0)): int(row["next_offset"] or 0)
        for row in rows(database, "select topic, partition, next_offset from seriatim.lane")
    }
    behind = {lane: end - lanes.get(lane, 0) for lane, end in high.items() if names.plain(lane[0]) in HOME_TOPICS}
    if lag := sum(behind.values()):
        found.append(f"{lag} records not taken, on {sorted(lane for lane, left in behind.items() if left)}")
    progress, totals = counted(database, PROGRESS), counted(database, TOTALS)
    found += [f"{count} {what}" for what, count in progress.items() if count]
    outcomes = sum(end for (topic, _), end in high.items() if topic == names.topic("purchase-outcomes"))
    if outcomes < totals["purchases"]:
        found.append(f"{outcomes} outcomes told of {totals['purchases']} purchases")
    if sum(letters.values()) < totals["dead letters"]:
        found.append(f"{sum(letters.values())} letters in the topics of {totals['dead letters']} rows")
    topic = names.topic("payment-requests")
    asked = gateway.committed([TopicPartition(topic, partition) for partition in range(PARTITIONS)], timeout=20)
    unanswered = sum(high[(topic, one.partition)] - max(one.offset, 0) for one in asked)
    if unanswered:
        found.append(f"{unanswered} requests that the gateway has not finished")
    return found, (high, letters, totals)


def drained(brokers: str, database: str, names: Names, seconds: float) -> bool:
    consumer, gateway = reader(brokers), reader(brokers, f"{names.prefix}gateway")
    deadline = time.monotonic() + seconds
    before: object = None
    while True:
        left, snapshot = missing(database, names, consumer, gateway)
        if not left and snapshot == before:
            print("drained")
            return True
        before = snapshot
        if time.monotonic() > deadline:
            print(f"not drained within {seconds} s: {'; '.join(left) or 'still changing'}")
            return False
        time.sleep(0.5)


def summary(evidence: Evidence, model: Predicted, verdict: Verdict, scale: float) -> None:
    verdict.counts["event from outside"] = len(evidence.outside)
    verdict.counts["held for a predecessor"] = len(model.held_meanwhile)
    nasty = Counter(name for record in evidence.outside for name in nastiness(record))
    for name in (*NASTINESS, *NASTY_MEANWHILE):
        verdict.counts[f"nasty {name}"] = nasty[name]
        # A small world cannot have all of it.
        verdict.demand(nasty[name] > 0 or scale < 1, "every nastiness occurred", name)
    for name, least in (AT_LEAST | {"event from outside": EVENTS_AT_LEAST}).items():
        # In a small world chance weighs more: a tenth of its share will do.
        least = least if scale >= 1 else max(1, int(least * scale / 10))
        verdict.demand(
            verdict.counts[name] >= least,
            "the run was no trivial one",
            f"{name}: {verdict.counts[name]}, at least {least}",
        )



def judge(brokers: str, database: str, names: Names, scale: float) -> bool:
    evidence = Evidence.gather(brokers, database, names)
    model = predict(evidence.outside, names)
    verdict = Verdict()
    judge_tables(evidence, model, verdict)
    judge_messages(evidence, model, verdict)
    summary(evidence, model, verdict, scale)
    return verdict.print()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["drained", "judge"])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--scale", type=float, default=1.0, help="the scale of the world that was produced")
    chosen = parser.parse_args(arguments)
    names = Names(chosen.prefix)
    if chosen.action == "drained":
        fine = drained(chosen.brokers, chosen.database, names, chosen.seconds)
    else:
        fine = judge(chosen.brokers, chosen.database, names, chosen.scale)
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
