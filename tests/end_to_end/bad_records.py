"""The bad input of the contract, one function a kind of badness, each with the reasons that the contract allows.

Where the page leaves open which of two reasons a record gets, both are allowed. Payloads carry a marker, so
that a checker sees whether an error text repeats what it must not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from shop_events import Event, Sent, marks, placed
from wire import NASTY_HEADER, ORIGIN_HEADER, Headers

MARKER = "do-not-repeat-me"
# The broker takes 1,048,588 bytes a batch: with the headers of a dead letter this one must be cut.
LARGE_BYTES = 1_047_600
DEPTH = 100_000

UNDECODABLE, INVALID, UNKNOWN = frozenset({"undecodable"}), frozenset({"invalid"}), frozenset({"unknown_type"})
EITHER = UNDECODABLE | INVALID


class Bench:
    """Good events of a key that nothing else uses, to be spoilt."""

    def __init__(self, number: int, time: datetime, prefix: str) -> None:
        self.tag = f"noise-{number}"
        self.worker = f"/seriatim/{prefix}purchases"
        self.stock = f"{prefix}stock"
        self.time = time

    def event(self, topic: str, key: str, kind: str, data: dict[str, Any]) -> Event:
        return Event(topic, key, kind, data, "/outside/noise", f"{self.tag}-{kind}", self.time)

    def counted(self, **change: Any) -> Event:
        data = {"counter": self.tag, "delta": 1, "note": MARKER} | change
        return self.event("activity", self.tag, "activity.counted", data)

    def placed(self, lines: list[tuple[str, int, int]] | None = None, **change: Any) -> Event:
        data = placed(self.tag, lines or [("plenty-0", 1, 100)]) | {"note": MARKER} | change
        return self.event("purchases", self.tag, "purchase.placed", data)

    def received(self, **change: Any) -> Event:
        return self.event(
            "stock", self.tag, "stock.received", {"sku": self.tag, "quantity": 1, "note": MARKER} | change
        )

    def captured(self, **change: Any) -> Event:
        data = {"payment_id": self.tag, "amount_minor": 1, "currency": "EUR", "provider_ref": MARKER} | change
        return self.event("payments", self.tag, "payment.captured", data)

    def email(self, **change: Any) -> Event:
        return self.event(
            "profiles", self.tag, "profile.email_changed", {"user_id": self.tag, "email": MARKER} | change
        )


def value(event: Event, data: bytes | None) -> Sent:
    return replace(event.binary(), value=data)


def without(event: Event, header: str) -> Sent:
    sent = event.binary()
    return replace(sent, headers=[(name, text) for name, text in sent.headers if name != header])


def header(event: Event, name: str, text: bytes) -> Sent:
    sent = event.binary()
    headers: Headers = [(at, text if at == name else old) for at, old in sent.headers]
    return replace(sent, headers=headers if name in dict(sent.headers) else [*headers, (name, text)])


def missing(event: Event, field: str) -> Sent:
    return replace(event, data={name: item for name, item in event.data.items() if name != field}).binary()


def reshaped(event: Event, **change: Any) -> Event:
    return replace(event, data=event.data | change)


def raw_number(event: Event, field: str, number: str) -> Sent:
    """A number that Python would not write, put in as text."""
    text = json.dumps(event.data | {field: "@@"}).replace('"@@"', number)
    return value(event, text.encode())


def forged(bench: Bench, *extra: tuple[str, bytes]) -> Sent:
    """A message as the worker would send it, but for its link."""
    reserve = bench.event(
        "stock", "plenty-0", "stock.reserve", {"sku": "plenty-0", "purchase_id": bench.tag, "quantity": 1}
    )
    sent = replace(reserve, source=bench.worker).binary()
    return replace(sent, headers=[*sent.headers, *extra])


def envelope(bench: Bench, change: Callable[[dict[str, Any]], Any]) -> Sent:
    sent = bench.counted().structured()
    document = json.loads(sent.value or b"{}")
    change(document)
    return replace(sent, value=json.dumps(document).encode())


Make = Callable[[Bench], Sent]

BAD: dict[str, tuple[frozenset[str], Make]] = {
    "malformed_json": (UNDECODABLE, lambda b: value(b.counted(), b'{"counter": "' + MARKER.encode())),
    "trailing_bytes": (UNDECODABLE, lambda b: value(b.counted(), (b.counted().binary().value or b"") + b" }")),
    "wrong_utf8": (
        UNDECODABLE,
        lambda b: value(b.email(), b'{"user_id":"' + b.tag.encode() + b'","email":"\xc3\x28"}'),
    ),
    "not_a_number": (UNDECODABLE, lambda b: raw_number(b.counted(), "delta", "NaN")),
    "no_id": (UNDECODABLE, lambda b: without(b.counted(), "ce_id")),
    "no_source": (UNDECODABLE, lambda b: without(b.placed(), "ce_source")),
    "no_type": (UNDECODABLE, lambda b: without(b.received(), "ce_type")),
    "no_specversion": (UNDECODABLE, lambda b: without(b.email(), "ce_specversion")),
    "no_attributes": (UNDECODABLE, lambda b: replace(b.counted().binary(), headers=marks())),
    "broken_envelope": (UNDECODABLE, lambda b: replace(b.counted().structured(), value=b"{")),
    "envelope_is_a_list": (EITHER, lambda b: replace(b.counted().structured(), value=b"[]")),
    "envelope_without_id": (UNDECODABLE, lambda b: envelope(b, lambda e: e.pop("id"))),
    "envelope_without_data": (EITHER, lambda b: envelope(b, lambda e: e.pop("data"))),
    "unknown_version": (EITHER | UNKNOWN, lambda b: header(b.counted(), "ce_specversion", b"9.9")),
    "unknown_type": (UNKNOWN, lambda b: b.event("activity", b.tag, "activity.guessed", {"counter": b.tag}).binary()),
    "type_of_another_topic": (UNKNOWN, lambda b: b.event("profiles", b.tag, "stock.received", {"sku": b.tag}).binary()),
    "wrong_type_text": (INVALID, lambda b: b.counted(delta="1").binary()),
    "wrong_type_fraction": (INVALID, lambda b: b.counted(delta=1.5).binary()),
    "wrong_type_truth": (INVALID, lambda b: b.counted(delta=True).binary()),
    "wrong_type_null": (INVALID, lambda b: b.email(email=None).binary()),
    "wrong_type_lines": (INVALID, lambda b: reshaped(b.placed(), lines={}).binary()),
    "data_is_a_list": (INVALID, lambda b: value(b.counted(), b"[1]")),
    "missing_field": (INVALID, lambda b: missing(b.received(), "quantity")),
    "missing_key_field": (INVALID, lambda b: missing(b.email(), "user_id")),
    "null_key": (INVALID, lambda b: replace(b.counted().binary(), key=None, partition=0)),
    "key_contradicts": (INVALID, lambda b: b.counted(counter=b.tag + "-other").binary()),
    "empty_key": (INVALID, lambda b: replace(b.counted(counter="").binary(), key=b"")),
    "long_key": (INVALID, lambda b: replace(b.counted(counter="k" * 256).binary(), key=b"k" * 256)),
    "empty_value": (INVALID, lambda b: value(b.counted(), b"")),
    "null_value": (INVALID, lambda b: value(b.counted(), None)),
    "past_int64": (INVALID, lambda b: b.counted(delta=2**63).binary()),
    "below_int64": (INVALID, lambda b: b.counted(delta=-(2**63) - 1).binary()),
    "huge_exponent": (EITHER, lambda b: raw_number(b.counted(), "delta", "1e999")),
    "negative_money": (INVALID, lambda b: b.placed([("plenty-0", 1, -1)]).binary()),
    "negative_capture": (INVALID, lambda b: b.captured(amount_minor=-5).binary()),
    "unknown_currency": (INVALID, lambda b: b.placed(currency="QQQ").binary()),
    "lower_case_currency": (INVALID, lambda b: b.captured(currency="eur").binary()),
    "total_past_int64": (INVALID, lambda b: b.placed([("plenty-0", 2**40, 2**40)]).binary()),
    "no_lines": (INVALID, lambda b: reshaped(b.placed(), lines=[]).binary()),
    "too_many_lines": (INVALID, lambda b: b.placed([(f"sku-{n}", 1, 1) for n in range(101)]).binary()),
    "a_sku_twice": (INVALID, lambda b: b.placed([("plenty-0", 1, 1), ("plenty-0", 1, 1)]).binary()),
    "zero_quantity": (INVALID, lambda b: b.received(quantity=0).binary()),
    "nul_in_text": (INVALID, lambda b: b.email(email="a\0b").binary()),
    "worker_source": (INVALID, lambda b: replace(b.counted(), source=b.worker).binary()),
    "worker_type": (
        INVALID,
        lambda b: replace(
            forged(b),
            headers=[(name, b"/outside/noise" if name == "ce_source" else text) for name, text in forged(b).headers],
        ),
    ),
    "forged_without_link": (INVALID, forged),
    "forged_position": (INVALID, lambda b: forged(b, ("seriatim_position", b"nonsense"), ("seriatim_sequence", b"1"))),
    "forged_sequence": (
        INVALID,
        lambda b: forged(b, ("seriatim_position", f"{b.stock}/0/1/0".encode()), ("seriatim_sequence", b"-1")),
    ),
    "deep_value": (EITHER, lambda b: value(b.counted(), b"[" * DEPTH + b"]" * DEPTH)),
    "deep_field": (EITHER, lambda b: raw_number(b.counted(), "note", "[" * DEPTH + "]" * DEPTH)),
    "large_garbage": (UNDECODABLE, lambda b: value(b.counted(), MARKER.encode() * (LARGE_BYTES // len(MARKER)))),
}

# The large ones are few: they would fill memory and say nothing more.
RARE = frozenset({"large_garbage", "deep_value", "deep_field"})


def bad(name: str, number: int, time: datetime, prefix: str = "") -> Sent:
    """The bad record of a name, marked with it."""
    _, make = BAD[name]
    sent = make(Bench(number, time, prefix))
    kept = [(at, text) for at, text in sent.headers if at not in (ORIGIN_HEADER, NASTY_HEADER)]
    return replace(sent, headers=kept + marks(name))
