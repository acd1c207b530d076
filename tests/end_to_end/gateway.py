"""The payment gateway: answers what `payment-requests` asks, on `payments`.

    gateway.py --brokers … --prefix …

It works at least once, as real ones do: offsets are committed after the answer is acknowledged. Its answer
to a (payment, capture or refund) is decided by a hash of the payment, so it is the same on every delivery,
under the same event id. By that hash some payments are declined, some answers come twice, some come late,
and some only when the request is made again. While some captures are on their way the customer cancels, which
must end with the money back. A payment of a purchase named `contra-…` is captured a second
time under another id, and more than asked: a fact that contradicts what is known.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from shop_events import Event, stamp
from wire import ORIGIN_HEADER, Headers, Names, kept, partition_of

SOURCE = "/gateway/acme"
CAPTURE, REFUND = "payment.capture_requested", "payment.refund_requested"
SLOW_SECONDS = 0.7


@dataclass(frozen=True)
class Temper:
    """How the gateway treats one payment; the same whoever asks and whenever."""

    declines: bool
    doubles: bool
    slow: bool
    silent_capture: bool
    silent_refund: bool
    structured: bool
    cancelled_meanwhile: bool


def temper(payment: str) -> Temper:
    dice = hashlib.sha256(payment.encode()).digest()
    contra = payment.startswith("pay-contra-")
    return Temper(
        declines=dice[0] < 32 and not contra,
        doubles=dice[1] < 50,
        slow=(dice[2] < 25 or dice[6] < 16) and not contra,
        silent_capture=dice[3] < 20 and not contra,
        silent_refund=dice[4] < 40,
        structured=dice[5] < 60,
        cancelled_meanwhile=dice[6] < 16 and not contra,
    )


@dataclass(frozen=True)
class Answer:
    payment: str
    type: str
    data: dict[str, Any]
    id: str

    def encoded(self, *, structured: bool) -> tuple[bytes, Headers]:
        attributes = {
            "id": self.id,
            "source": SOURCE,
            "type": self.type,
            "specversion": "1.0",
            "time": stamp(now()),
        }
        if structured:
            value = json.dumps(attributes | {"data": self.data}).encode()
            return value, [("content-type", b"application/cloudevents+json"), (ORIGIN_HEADER, b"gateway")]
        headers: Headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
        return json.dumps(self.data).encode(), [
            ("content-type", b"application/json"),
            *headers,
            (ORIGIN_HEADER, b"gateway"),
        ]


def now() -> datetime:
    return datetime.now(UTC)


def answers(kind: str, asked: dict[str, Any], mood: Temper) -> list[Answer]:
    """What the gateway says to a request, in order; repeats included."""
    payment = str(asked["payment_id"])
    reference = "ref-" + hashlib.sha256(payment.encode()).hexdigest()[:12]
    money = {
        "payment_id": payment,
        "amount_minor": asked["amount_minor"],
        "currency": asked["currency"],
        "provider_ref": reference,
    }
    if kind == REFUND:
        said = [Answer(payment, "payment.refunded", money, f"{payment}:refund")]
    elif mood.declines:
        said = [
            Answer(
                payment,
                "payment.declined",
                {"payment_id": payment, "code": "51", "message": "insufficient funds"},
                f"{payment}:capture",
            )
        ]
    else:
        said = [Answer(payment, "payment.captured", money, f"{payment}:capture")]
    if mood.doubles:
        said = said * 2
    if kind == CAPTURE and payment.startswith("pay-contra-"):
        more = money | {"amount_minor": money["amount_minor"] + 1}
        said.append(Answer(payment, "payment.captured", more, f"{payment}:capture-again"))
    return said


@dataclass
class Progress:
    """The offsets that are read but not answered yet: nothing at or behind the lowest of them is committed."""

    open: dict[int, set[int]] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)

    def began(self, partition: int, offset: int) -> None:
        self.open.setdefault(partition, set()).add(offset)
        self.read[partition] = offset + 1

    def done(self, partition: int, offset: int) -> None:
        self.open.get(partition, set()).discard(offset)

    def committable(self) -> dict[int, int]:
        return {partition: min(self.open.get(partition) or {end}) for partition, end in self.read.items()}


class Gateway:
    def __init__(self, brokers: str, names: Names) -> None:
        self.names = names
        self.consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": f"{names.prefix}gateway",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self.producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 2})
        self.progress = Progress()
        self.later: list[tuple[float, int, int, list[Answer], bool]] = []
        self.first_asked: dict[tuple[str, str], str] = {}
        self.committed: dict[int, int] = {}
        self.stopping = False

    def run(self) -> None:
        self.consumer.subscribe([self.names.topic("payment-requests")])
        while not self.stopping:
            for message in self.consumer.consume(500, 0.05):
                self.take(message)
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, partition, offset, said, structured = heapq.heappop(self.later)
                self.say(partition, offset, said, structured)
            self.commit()
        self.producer.flush(10)
        self.commit()
        self.consumer.close()

    def take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() in (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART):
                return
            # Brokers come and go; the client finds them again by itself.
            if not error.fatal():
                return print(f"reading: {error}", file=sys.stderr)
            raise KafkaException(error)
        record = kept(message)
        partition, offset = record.partition, record.offset
        self.progress.began(partition, offset)
        kind = record.header("ce_type") or ""
        if kind not in (CAPTURE, REFUND):
            raise SystemExit(f"payment-requests/{partition}@{offset}: unknown type {kind!r}")
        asked = json.loads(record.value or b"")
        mood = temper(str(asked["payment_id"]))
        request = record.header("ce_id") or ""
        first = self.first_asked.setdefault((asked["payment_id"], kind), request)
        silent = mood.silent_refund if kind == REFUND else mood.silent_capture
        if silent and first == request:
            self.progress.done(partition, offset)
            return
        if mood.cancelled_meanwhile and kind == CAPTURE:
            self.cancel(str(asked["purchase_id"]))
        wait = SLOW_SECONDS if mood.slow else 0.0
        said = answers(kind, asked, mood)
        heapq.heappush(self.later, (time.monotonic() + wait, partition, offset, said, mood.structured))

    def cancel(self, purchase: str) -> None:
        """The customer cancels while the capture is on its way; best said before the answer, but lost without harm."""
        data = {"purchase_id": purchase, "reason": "took too long"}
        cancel = Event(
            "purchases", purchase, "purchase.cancelled", data, "/shop/support", f"cancel-{purchase}-meanwhile", now()
        )
        sent = cancel.marked("cancel_while_charging").binary()
        topic, partition = self.names.topic(sent.topic), partition_of(purchase.encode())
        self.producer.produce(topic, key=sent.key, value=sent.value, headers=[*sent.headers], partition=partition)

    def say(self, partition: int, offset: int, said: list[Answer], structured: bool) -> None:
        left = len(said)

        def report(error: object, _: Message) -> None:
            nonlocal left
            if error is not None:
                raise SystemExit(f"answering: {error}")
            left -= 1
            if not left:
                self.progress.done(partition, offset)

        for answer in said:
            value, headers = answer.encoded(structured=structured)
            key = answer.payment.encode()
            self.producer.produce(
                self.names.topic("payments"),
                key=key,
                value=value,
                headers=[*headers],
                partition=partition_of(key),
                on_delivery=report,
            )
        self.producer.poll(0)

    def commit(self) -> None:
        self.producer.poll(0)
        fresh = {at: end for at, end in self.progress.committable().items() if self.committed.get(at) != end}
        if not fresh:
            return
        topic = self.names.topic("payment-requests")
        try:
            self.consumer.commit(
                offsets=[TopicPartition(topic, at, end) for at, end in fresh.items()], asynchronous=False
            )
        except KafkaException as error:
            # The next round commits again; until then a restart would only repeat answers.
            print(f"committing: {error}", file=sys.stderr)
            return
        self.committed |= fresh


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--prefix", default="")
    chosen = parser.parse_args(arguments)
    gateway = Gateway(chosen.brokers, Names(chosen.prefix))

    def stop(*_: object) -> None:
        gateway.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    gateway.run()


if __name__ == "__main__":
    main(sys.argv[1:])
