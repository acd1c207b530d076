"""Laws about what the worker sends: numbered densely, in order, repeats equal, headers complete, dead letters whole."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import datetime
from typing import Any

from bad_records import MARKER
from contract import INTERNAL_TYPES, named, total_of
from evidence import Evidence, Verdict, number, place_of
from fold import Predicted
from wire import HOME_TOPICS, Headers, Kept, partition_of, unhex

DENSE = "seriatim_sequence is dense from 1 per sending lane and destination partition"
EXTERNAL_TYPES = {
    "payment-requests": {"payment.capture_requested", "payment.refund_requested"},
    "purchase-outcomes": {"purchase.completed", "purchase.rejected"},
}
# Undoing, and asking again, may also come of a timer, whose time is its own.
CAUSED_BY_RECORDS = INTERNAL_TYPES - {"stock.release", "payment.refund"} | {"purchase.completed"}


def judge_messages(evidence: Evidence, model: Predicted, verdict: Verdict) -> None:
    firsts = links(evidence, verdict)
    for message in firsts:
        headers(evidence, message, verdict)
        correlated = message.header("ce_correlationid") in model.purchases
        verdict.demand(
            correlated, "ce_correlationid = the purchase", f"{message}: {message.header('ce_correlationid')}"
        )
    identities(firsts, verdict)
    entity_sequences(evidence, firsts, verdict)
    causes(evidence, firsts, verdict)
    outcomes_told(evidence, firsts, model, verdict)
    requests_told(evidence, firsts, model, verdict)
    dead_letters(evidence, verdict)


def position_of(message: Kept) -> tuple[str, int, int, int] | None:
    """Topic, partition, batch and index of the sending lane."""
    parts = (message.header("seriatim_position") or "").rsplit("/", 3)
    if len(parts) != 4 or not all(part.isdecimal() for part in parts[1:]):
        return None
    return parts[0], int(parts[1]), int(parts[2]), int(parts[3])


def links(evidence: Evidence, verdict: Verdict) -> list[Kept]:
    """Checks each link in the order of its partition; gives every message once."""
    known: dict[tuple[str, int, str, int], dict[int, Kept]] = defaultdict(dict)
    last: dict[tuple[str, int, str, int], tuple[int, int]] = {}
    for message in evidence.messages:
        position, sequence = position_of(message), message.header("seriatim_sequence") or ""
        if position is None or not sequence.isdecimal():
            verdict.broken("every message has seriatim_position and seriatim_sequence", f"{message} {message.headers}")
            continue
        topic, partition, batch, index = position
        link = (topic, partition, message.topic, message.partition)
        verdict.demand(
            message.header("ce_source") == f"/seriatim/{topic}",
            "ce_source = /seriatim/<topic of the sender>",
            str(message),
        )
        first = known[link].get(int(sequence))
        if first is not None:
            verdict.counts["message repeated"] += 1
            same = (first.key, first.value, first.headers) == (message.key, message.value, message.headers)
            verdict.demand(same, "a repeat is equal to the byte", f"{message} and {first}")
            continue
        verdict.demand(int(sequence) == len(known[link]) + 1, DENSE, f"{message}: {sequence} after {len(known[link])}")
        verdict.demand(
            last.get(link, (-1, -1)) < (batch, index), "positions rise along a link", f"{message}: {position}"
        )
        known[link][int(sequence)] = message
        last[link] = (batch, index)
    return [message for link in known.values() for message in link.values()]


def headers(evidence: Evidence, message: Kept, verdict: Verdict) -> None:
    plain = evidence.names.plain(message.topic)
    verdict.counts[f"message {message.header('ce_type')}"] += 1
    for name in ("ce_id", "ce_source", "ce_type", "ce_correlationid", "ce_causationid", "ce_time"):
        verdict.demand(
            bool(message.header(name)), "outgoing messages carry the headers of the page", f"{message}: no {name}"
        )
    verdict.demand(message.header("ce_specversion") == "1.0", "outgoing messages are CloudEvents 1.0", str(message))
    verdict.demand(
        (message.header("content-type") or "application/json").startswith("application/json"),
        "outgoing messages are in binary mode",
        str(message),
    )
    allowed = EXTERNAL_TYPES.get(plain, INTERNAL_TYPES)
    verdict.demand(
        message.header("ce_type") in allowed,
        "a topic gets the types of the page",
        f"{message} {message.header('ce_type')}",
    )
    if message.key is not None:
        verdict.demand(
            message.partition == partition_of(message.key), "the partition is the key's, by murmur2", str(message)
        )
    verdict.demand(isinstance(data_of(message), dict), "the value is a JSON object", str(message))
    try:
        instant(message.header("ce_time") or "")
    except ValueError:
        verdict.broken("ce_time is RFC 3339", f"{message} {message.header('ce_time')}")


def data_of(message: Kept) -> Any:
    try:
        return json.loads(message.value or b"")
    except ValueError:
        return None


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def identities(firsts: list[Kept], verdict: Verdict) -> None:
    known: dict[str, Kept] = {}
    for message in firsts:
        other = known.setdefault(message.header("ce_id") or "", message)
        verdict.demand(other is message, "ce_id is unique to a message", f"{message} and {other}")


def entity_sequences(evidence: Evidence, firsts: list[Kept], verdict: Verdict) -> None:
    """Per key of an outgoing topic, in the order of the partition."""
    last: dict[tuple[str, bytes | None], int] = defaultdict(int)
    outgoing = {evidence.names.topic(name) for name in EXTERNAL_TYPES}
    for message in sorted((one for one in firsts if one.topic in outgoing), key=lambda one: one.place):
        entity = (message.topic, message.key)
        found = message.header("ce_entityseq") or ""
        last[entity] += 1
        verdict.demand(
            found == str(last[entity]),
            "ce_entityseq is dense per entity",
            f"{message}: {found}, expected {last[entity]}",
        )


def causes(evidence: Evidence, firsts: list[Kept], verdict: Verdict) -> None:
    """The consumed event's id and time; timers have no record, so only what a record must cause is demanded."""
    times: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for record in [*evidence.outside, *evidence.messages]:
        for identity, time in cause_of(record):
            times[(record.topic, record.partition, identity)].add(time)
    for message in firsts:
        position = position_of(message)
        if position is None:
            continue
        told = times.get((*position[:2], message.header("ce_causationid") or ""))
        if told is None:
            verdict.counts["message caused by a timer"] += 1
            verdict.demand(
                message.header("ce_type") != "purchase.completed",
                "ce_causationid = the consumed event's id",
                str(message),
            )
        elif any(told) and message.header("ce_type") in CAUSED_BY_RECORDS:
            same = any(time and instant(time) == instant(message.header("ce_time") or "") for time in told)
            verdict.demand(
                same, "ce_time = the cause's time", f"{message}: {message.header('ce_time')}, cause {sorted(told)}"
            )


def cause_of(record: Kept) -> list[tuple[str, str]]:
    if record.header("ce_id"):
        return [(record.header("ce_id") or "", record.header("ce_time") or "")]
    envelope = data_of(record) if (record.header("content-type") or "").startswith("application/cloudevents") else None
    if isinstance(envelope, dict) and isinstance(envelope.get("id"), str):
        return [(envelope["id"], str(envelope.get("time") or ""))]
    return []


def outcomes_told(evidence: Evidence, firsts: list[Kept], model: Predicted, verdict: Verdict) -> None:
    told: dict[str, list[Kept]] = defaultdict(list)
    for message in firsts:
        if message.topic == evidence.names.topic("purchase-outcomes"):
            told[(message.key or b"").decode()].append(message)
    found = {str(row["purchase_id"]): row for row in evidence.tables["purchase"]}
    for purchase in sorted(told.keys() - model.purchases.keys()):
        verdict.broken("outcomes are told of placed purchases only", purchase)
    for purchase in model.purchases:
        messages, row = told.get(purchase, []), found.get(purchase, {})
        if len(messages) != 1:
            verdict.broken("exactly one outcome per placed purchase", f"{purchase}: {[str(one) for one in messages]}")
            continue
        said = data_of(messages[0])
        kind = f"purchase.{row.get('status')}"
        expected = {
            "purchase_id": purchase,
            "total_minor": number(row.get("total_minor")),
            "currency": row.get("currency"),
        }
        if row.get("status") == "rejected":
            expected = {"purchase_id": purchase, "reason": row.get("reason")}
        verdict.demand(
            messages[0].header("ce_type") == kind and said == expected,
            "the outcome told is the purchase's",
            f"{said} {row}",
        )
        verdict.demand(
            messages[0].header("ce_correlationid") == purchase, "ce_correlationid = the purchase", str(messages[0])
        )


def requests_told(evidence: Evidence, firsts: list[Kept], model: Predicted, verdict: Verdict) -> None:
    asked: dict[tuple[str, str], int] = defaultdict(int)
    for message in firsts:
        if message.topic != evidence.names.topic("payment-requests"):
            continue
        said, kind = data_of(message) or {}, message.header("ce_type") or ""
        purchase = model.purchases.get(str(said.get("purchase_id")))
        if purchase is None:
            verdict.broken("money is asked for placed purchases only", f"{message} {said}")
            continue
        asked[(purchase.entity, kind)] += 1
        payment, total = f"pay-{purchase.entity}", total_of(purchase.data["lines"])
        expected: dict[str, Any] = {
            "payment_id": payment,
            "purchase_id": purchase.entity,
            "currency": purchase.data["currency"],
        }
        if kind == "payment.capture_requested":
            expected |= {"amount_minor": total, "method": purchase.data["payment_method"]}
        else:
            expected |= {"amount_minor": model.captured.get(payment), "reason": said.get("reason")}
        verdict.demand(said == expected, "a request asks for what is due", f"{message} {said}, expected {expected}")
        verdict.demand(message.key == payment.encode(), "requests are keyed by payment_id", str(message))
        verdict.demand(
            message.header("ce_correlationid") == purchase.entity, "ce_correlationid = the purchase", str(message)
        )
    verdict.counts["request made again"] += sum(1 for count in asked.values() if count > 1)


def dead_letters(evidence: Evidence, verdict: Verdict) -> None:
    """The rows and the topics hold the same letters, with the original's bytes."""
    originals = {record.place: record for record in evidence.outside}
    rows = {place_of(row): row for row in evidence.tables["dead_letter"]}
    for place, row in rows.items():
        original = originals.get(place)
        if original is None:
            verdict.broken("only outside records are dead-lettered", str(place))
            continue
        same = (unhex(row["key"]), unhex(row["value"])) == (original.key, original.value)
        verdict.demand(same, "the row holds the original bytes", str(original))
        verdict.demand(MARKER not in str(row["error"]), "error text holds no payload", f"{original}: {row['error']}")
        verdict.demand(
            bool(row["error"]) or row["reason"] in ("expired", "conflict", "sequence_gap"),
            "the row says what is wrong",
            str(original),
        )
    told: dict[tuple[str, int, int], Kept] = {}
    for letter in evidence.dead_letters:
        place = (
            letter.header("dlq.topic") or "",
            int(letter.header("dlq.partition") or -1),
            int(letter.header("dlq.offset") or -1),
        )
        first = told.setdefault(place, letter)
        if first is not letter:
            verdict.counts["dead letter repeated"] += 1
            same = (first.key, first.value, first.headers) == (letter.key, letter.value, letter.headers)
            verdict.demand(same, "a repeated dead letter is equal to the byte", f"{first} and {letter}")
        elif place not in rows or place not in originals:
            verdict.broken("every letter in a topic has its row", str(place))
        else:
            letter_like(evidence, letter, originals[place], str(rows[place]["reason"]), verdict)
    for place in sorted(rows.keys() - told.keys()):
        verdict.broken("every row has its letter in the topic", f"{place} {rows[place]['reason']}")


def letter_like(evidence: Evidence, letter: Kept, original: Kept, reason: str, verdict: Verdict) -> None:
    own: Headers = [header for header in letter.headers if header[0].startswith("dlq.")]
    kept: Headers = [header for header in letter.headers if not header[0].startswith("dlq.")]
    verdict.counts[f"dead letter {reason}"] += 1
    plain = evidence.names.plain(original.topic)
    fine = plain in HOME_TOPICS and letter.topic == evidence.names.dead_letters(plain)
    verdict.demand(fine, "a letter goes to dlq.<topic>", f"{letter} of {original}")
    verdict.demand(
        kept == original.headers,
        "a letter keeps the original's headers",
        f"{letter}: {kept}, original {original.headers}",
    )
    same = letter.key == original.key and letter.timestamp_ms == original.timestamp_ms
    verdict.demand(same, "a letter keeps the original's key and timestamp", f"{letter} of {original}")
    cut = letter.header("dlq.cut")
    if cut is None:
        verdict.demand(
            (letter.value or b"") == (original.value or b""),
            "a letter keeps the original's value",
            f"{letter} of {original}",
        )
    else:
        verdict.counts["dead letter cut"] += 1
        value = original.value or b""
        fine = (
            cut == str(len(value))
            and letter.header("dlq.sha256") == hashlib.sha256(value).hexdigest()
            and value.startswith(letter.value or b"")
        )
        verdict.demand(fine, "a cut letter tells the original's length and hash", f"{letter}: {own[-3:]}")
    for name in (
        "dlq.group",
        "dlq.reason",
        "dlq.error",
        "dlq.attempts",
        "dlq.first_failed_at",
        "dlq.failed_at",
        "dlq.count",
    ):
        optional = name in ("dlq.error", "dlq.attempts", "dlq.first_failed_at")
        verdict.demand(
            optional or bool(letter.header(name)), "letters carry the headers of the page", f"{letter}: no {name}"
        )
    error = letter.header("dlq.error") or ""
    verdict.demand(letter.header("dlq.reason") == reason, "a letter's reason is its row's", f"{letter} {reason}")
    verdict.demand(
        len(error.encode()) <= 2048 and MARKER not in error,
        "error text is short and holds no payload",
        f"{letter}: {error[:200]}",
    )
    entity, _, sequence = named(original, dict(attributes_of(original)))
    # A record that is bad in itself may name another entity in its data than in its key.
    certain = reason not in ("undecodable", "invalid")
    for name, expected in (("dlq.entity", entity), ("dlq.sequence", None if sequence is None else str(sequence))):
        found = letter.header(name)
        fine = not certain or found is None or expected is None or found.endswith(expected)
        verdict.demand(fine, "a letter names its entity and sequence", f"{letter}: {name} {found}, expected {expected}")


def attributes_of(record: Kept) -> list[tuple[str, Any]]:
    envelope = data_of(record) if (record.header("content-type") or "").startswith("application/cloudevents") else None
    if isinstance(envelope, dict):
        return list(envelope.items())
    return [(at[3:], (value or b"").decode("utf-8", "replace")) for at, value in record.headers if at.startswith("ce_")]
