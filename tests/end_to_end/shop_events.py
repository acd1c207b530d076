"""Shop events as an outside producer writes them: CloudEvents on Kafka, binary or structured."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from wire import NASTY_HEADER, ORIGIN_HEADER, Headers

Data = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """A record to be produced. `topic` has no prefix; no `partition` means the one of its key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None


@dataclass(frozen=True)
class Event:
    """What is to be said, before it is put into one of the two modes."""

    topic: str
    key: str
    type: str
    data: Data
    source: str
    id: str
    time: datetime
    sequence: int | None = None
    nasty: tuple[str, ...] = field(default=())

    def marked(self, *names: str) -> Event:
        return replace(self, nasty=(*self.nasty, *names))

    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "specversion": "1.0",
            "time": stamp(self.time),
        }
        if self.sequence is not None:
            found["entityseq"] = str(self.sequence)
        return found

    def binary(self, *, spaced: bool = False) -> Sent:
        headers: Headers = [("content-type", b"application/json")]
        headers += [(f"ce_{name}", value.encode()) for name, value in self.attributes().items()]
        return Sent(self.topic, self.key.encode(), encode(self.data, spaced=spaced), headers + marks(*self.nasty))

    def structured(self, *, number: bool = False, spaced: bool = False) -> Sent:
        """The sequence may stand as a string or as a number."""
        envelope = self.attributes()
        if number and self.sequence is not None:
            envelope["entityseq"] = self.sequence
        envelope |= {"datacontenttype": "application/json", "data": self.data}
        headers: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
        return Sent(self.topic, self.key.encode(), encode(envelope, spaced=spaced), headers + marks(*self.nasty))


def marks(*nasty: str) -> Headers:
    """The headers that tell a test's reader where a record comes from."""
    return [(ORIGIN_HEADER, b"world"), *((NASTY_HEADER, name.encode()) for name in nasty)]


def stamp(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(data: Data, *, spaced: bool = False) -> bytes:
    """The same content in one of two spellings, which must not matter to anyone."""
    if spaced:
        turned = dict(reversed(list(data.items())))
        return json.dumps(turned, indent=1, ensure_ascii=True).encode()
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Clock:
    """Times of events: they tell a story of their own and decide nothing."""

    start: datetime

    def at(self, step: float) -> datetime:
        return self.start + timedelta(milliseconds=round(step))


def placed(purchase: str, lines: list[tuple[str, int, int]], currency: str = "EUR") -> Data:
    return {
        "purchase_id": purchase,
        "customer_id": f"customer-{purchase[-2:]}",
        "currency": currency,
        "lines": [{"sku": sku, "quantity": quantity, "unit_price_minor": price} for sku, quantity, price in lines],
        "payment_method": "card",
    }
