"""Reads a record as the contract page says, and says what is wrong with it where the page does.

Written from the page, not from the worker. Where the page allows two reasons for a bad record, both are given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wire import HOME_TOPICS, NASTY_HEADER, ORIGIN_HEADER, Kept, Names, partition_of

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
KINDS = {"purchases": "purchase", "payments": "payment", "stock": "stock", "profiles": "profile", "activity": "counter"}
INTERNAL_TYPES = frozenset(
    {
        "stock.reserve",
        "stock.release",
        "stock.commit",
        "stock.reserved",
        "stock.refused",
        "stock.released",
        "stock.committed",
        "payment.charge",
        "payment.refund",
        "payment.succeeded",
        "payment.failed",
        "payment.returned",
    }
)
# Those that the world uses; the worker knows all of ISO 4217.
CURRENCIES = frozenset({"EUR", "USD", "JPY"})

UNDECODABLE, INVALID, UNKNOWN = frozenset({"undecodable"}), frozenset({"invalid"}), frozenset({"unknown_type"})


@dataclass(frozen=True)
class Event:
    topic: str
    entity: str
    type: str
    source: str
    id: str
    sequence: int | None
    data: dict[str, Any]
    content: str

    @property
    def kind(self) -> str:
        return KINDS[self.topic]


@dataclass(frozen=True)
class Bad:
    """A record to be dead-lettered. With entity, source and sequence it takes its place in the order."""

    reasons: frozenset[str]
    entity: str | None = None
    source: str | None = None
    sequence: int | None = None


class Flaw(Exception):
    def __init__(self, reasons: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(reasons)))
        self.reasons = reasons


Check = Callable[[Any], bool]


def text(item: Any) -> bool:
    return isinstance(item, str) and "\0" not in item


def name(item: Any) -> bool:
    return text(item) and 0 < len(item.encode()) <= 255


def integer(low: int, high: int = INT64_MAX) -> Check:
    return lambda item: isinstance(item, int) and not isinstance(item, bool) and low <= item <= high


def currency(item: Any) -> bool:
    return item in CURRENCIES


def purchase_lines(item: Any) -> bool:
    if not isinstance(item, list) or not 1 <= len(item) <= 100:
        return False
    line = {"sku": name, "quantity": integer(1), "unit_price_minor": integer(0)}
    if not all(isinstance(one, dict) and fits(one, line) for one in item):
        return False
    return len({one["sku"] for one in item}) == len(item) and total_of(item) <= INT64_MAX


def total_of(lines: list[dict[str, Any]]) -> int:
    return sum(line["quantity"] * line["unit_price_minor"] for line in lines)


def fits(data: dict[str, Any], table: dict[str, Check]) -> bool:
    return all(field in data and check(data[field]) for field, check in table.items())


MONEY: dict[str, Check] = {"amount_minor": integer(0), "currency": currency, "provider_ref": text}

# Per topic: the field that holds the id, and the fields of each type.
TABLES: dict[str, tuple[str, dict[str, dict[str, Check]]]] = {
    "purchases": (
        "purchase_id",
        {
            "purchase.placed": {
                "customer_id": text,
                "currency": currency,
                "lines": purchase_lines,
                "payment_method": text,
            },
            "purchase.cancelled": {"reason": text},
        },
    ),
    "payments": (
        "payment_id",
        {
            "payment.captured": MONEY,
            "payment.declined": {"code": text, "message": text},
            "payment.refunded": MONEY,
        },
    ),
    "stock": (
        "sku",
        {
            "stock.received": {"quantity": integer(1)},
            "stock.adjusted": {"delta": integer(INT64_MIN), "reason": text},
        },
    ),
    "profiles": (
        "user_id",
        {
            "profile.email_changed": {"email": text},
            "profile.password_changed": {"password_hash": text},
        },
    ),
    "activity": ("counter", {"activity.counted": {"delta": integer(INT64_MIN)}}),
}


def from_outside(record: Kept) -> bool:
    return any(at == ORIGIN_HEADER for at, _ in record.headers)


def nastiness(record: Kept) -> list[str]:
    return [value.decode() for at, value in record.headers if at == NASTY_HEADER and value is not None]


def read(record: Kept, names: Names) -> Event | Bad:
    """What an outside record is, by the page."""
    topic = names.plain(record.topic)
    assert topic in HOME_TOPICS, topic
    attributes: dict[str, Any] = {}
    try:
        structured = (record.header("content-type") or "").lower().startswith("application/cloudevents")
        attributes, data = opened(record, structured)
        return judged(record, names, topic, attributes, data)
    except Flaw as flaw:
        return Bad(flaw.reasons, *named(record, attributes))


def named(record: Kept, attributes: dict[str, Any]) -> tuple[str | None, str | None, int | None]:
    """The entity, source and number that even a bad record may name."""
    try:
        entity = None if record.key is None else record.key.decode()
        sequence = sequence_of(attributes)
    except (UnicodeDecodeError, Flaw):
        return None, None, None
    return entity, attributes.get("source"), sequence


def opened(record: Kept, structured: bool) -> tuple[dict[str, Any], Any]:
    """Attributes, and data: parsed in structured mode, bytes in binary mode, `b""` where there is none."""
    if not structured:
        found = {
            at[3:]: value.decode("utf-8", "replace")
            for at, value in record.headers
            if at.startswith("ce_") and value is not None
        }
        return found, record.value or b""
    if not record.value:
        raise Flaw(UNDECODABLE | INVALID)
    envelope = parsed(record.value)
    if not isinstance(envelope, dict):
        raise Flaw(UNDECODABLE | INVALID)
    return {at: item for at, item in envelope.items() if at != "data"}, envelope.get("data", b"")


def judged(record: Kept, names: Names, topic: str, attributes: dict[str, Any], data: Any) -> Event:
    for attribute in ("id", "source", "type", "specversion"):
        if not isinstance(attributes.get(attribute), str) or not attributes[attribute]:
            raise Flaw(UNDECODABLE)
    if attributes["specversion"] != "1.0":
        raise Flaw(UNDECODABLE | INVALID | UNKNOWN)
    sequence = sequence_of(attributes)
    key_field, types = TABLES[topic]
    if attributes["source"].startswith("/seriatim/" + names.prefix) or attributes["type"] in INTERNAL_TYPES:
        raise Flaw(INVALID)
    if attributes["type"] not in types:
        raise Flaw(UNKNOWN)
    if data == b"":
        # An envelope without data may count as broken or as empty.
        raise Flaw(UNDECODABLE | INVALID if record.value else INVALID)
    if isinstance(data, bytes):
        data = parsed(data)
    if not isinstance(data, dict) or not fits(data, {key_field: name} | types[attributes["type"]]):
        raise Flaw(INVALID)
    if record.key is None or record.key != data[key_field].encode():
        raise Flaw(INVALID)
    if record.partition != partition_of(record.key):
        raise Flaw(frozenset({"wrong_partition"}))
    content = attributes["type"] + json.dumps(data, sort_keys=True)
    return Event(
        topic, data[key_field], attributes["type"], attributes["source"], attributes["id"], sequence, data, content
    )


def sequence_of(attributes: dict[str, Any]) -> int | None:
    found = attributes.get("entityseq")
    if found is None:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", str(found)) or not 1 <= int(found) <= INT64_MAX:
        raise Flaw(UNDECODABLE | INVALID)
    return int(found)


def parsed(value: bytes) -> Any:
    def refused(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    def bounded(digits: str) -> float:
        # JSON lets a reader limit the range of numbers: what no double holds may count as unreadable.
        if math.isinf(float(digits)):
            raise Flaw(UNDECODABLE | INVALID)
        return float(digits)

    try:
        return json.loads(value.decode(), parse_constant=refused, parse_float=bounded)
    except RecursionError as error:
        raise Flaw(UNDECODABLE | INVALID) from error
    except ValueError as error:
        raise Flaw(UNDECODABLE) from error
