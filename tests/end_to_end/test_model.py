"""The model's own tests, without any service: python -m unittest, from this folder."""

from __future__ import annotations

import unittest
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from bad_records import BAD, bad
from contract import Bad, Event, read
from evidence import Evidence, Verdict
from fold import predict
from gateway import Progress, answers, temper
from message_laws import DENSE, dead_letters, links
from model import EVENTS_AT_LEAST, NASTINESS
from shop_events import Event as Said
from shop_events import Sent
from table_laws import accounting, counters_and_profiles, stock
from wire import NASTY_HEADER, Headers, Kept, Names, murmur2, partition_of
from world import build

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = Names("t.")


def standing(sent: Sent, offset: int) -> Kept:
    partition = sent.partition if sent.partition is not None else partition_of(sent.key or b"")
    return Kept(NAMES.topic(sent.topic), partition, offset, 0, sent.key, sent.value, sent.headers)


def count(delta: int, number: int | None = None, identity: str = "a", source: str = "/meter/1") -> Sent:
    data = {"counter": "c", "delta": delta}
    return Said("activity", "c", "activity.counted", data, source, identity, START, number).binary()


def outcomes(*sent: Sent) -> list[str]:
    records = [standing(one, offset) for offset, one in enumerate(sent)]
    found = predict(records, NAMES).outcomes
    return ["|".join(sorted(found[record.place])) for record in records]


class Wire(unittest.TestCase):
    def test_hashes_as_java_clients_do(self) -> None:
        self.assertEqual(murmur2(b"21"), -973932308 & 0xFFFFFFFF)
        self.assertEqual(murmur2(b"foobar"), -790332482 & 0xFFFFFFFF)
        self.assertEqual(murmur2(b"a-little-bit-long-string"), -985981536 & 0xFFFFFFFF)


class Reading(unittest.TestCase):
    def test_every_bad_record_is_read_as_bad_for_its_reason(self) -> None:
        for number, (name, (reasons, _)) in enumerate(BAD.items()):
            found = read(standing(bad(name, number, START, NAMES.prefix), number), NAMES)
            self.assertIsInstance(found, Bad, name)
            assert isinstance(found, Bad)
            self.assertTrue(found.reasons <= reasons, f"{name}: {found.reasons}, written for {reasons}")

    def test_both_modes_and_both_spellings_are_one_content(self) -> None:
        event = Said("activity", "c", "activity.counted", {"counter": "c", "delta": 1}, "/s", "1", START, 7)
        spelled = [
            event.binary(),
            event.binary(spaced=True),
            event.structured(),
            event.structured(number=True, spaced=True),
        ]
        found = [read(standing(sent, 0), NAMES) for sent in spelled]
        for one in found:
            assert isinstance(one, Event)
            self.assertEqual((one.content, one.sequence), (found[0].content, 7))  # type: ignore[union-attr]

    def test_a_record_on_a_second_partition_is_a_stray(self) -> None:
        stray = replace(count(1), partition=(partition_of(b"c") + 1) % 4)
        self.assertEqual(outcomes(stray), ["dead_lettered:wrong_partition"])


class Folding(unittest.TestCase):
    def test_late_number_is_waited_for(self) -> None:
        self.assertEqual(outcomes(count(1, 2), count(1, 1), count(1, 3)), ["applied"] * 3)

    def test_gap_that_never_fills_ends_in_quarantine(self) -> None:
        self.assertEqual(outcomes(count(1, 1), count(1, 3)), ["applied", "parked"])

    def test_same_number_is_duplicate_or_conflict_by_content(self) -> None:
        found = outcomes(count(1, 1), count(1, 1, "other id"), count(2, 1))
        self.assertEqual(found, ["applied", "duplicate", "dead_lettered:conflict"])

    def test_same_id_is_duplicate_or_conflict_by_content_within_its_source(self) -> None:
        found = outcomes(count(1), count(1), count(2), count(2, source="/meter/2"))
        self.assertEqual(found, ["applied", "duplicate", "dead_lettered:conflict", "applied"])

    def test_dead_letter_with_a_number_takes_its_place(self) -> None:
        spoilt = replace(count(1, 1), value=b"{")
        self.assertEqual(
            outcomes(count(1, 2), spoilt, count(1, 3)), ["applied", "dead_lettered:undecodable", "applied"]
        )


class World(unittest.TestCase):
    def test_stream_is_the_same_for_a_seed_and_holds_every_nastiness(self) -> None:
        first, second = build(3, START).phases(), build(3, START).phases()
        self.assertEqual(first, second)
        records = [sent for phase in first for sent in phase]
        self.assertGreaterEqual(len(records), EVENTS_AT_LEAST)
        nasty = Counter(
            (text or b"").decode() for sent in records for name, text in sent.headers if name == NASTY_HEADER
        )
        self.assertEqual(set(NASTINESS) - nasty.keys(), set())

    def test_no_sequence_waits_for_another_phase(self) -> None:
        entities: dict[tuple[str, str, str], set[int]] = {}
        for phase in build(4, START, NAMES.prefix).phases():
            for sent in phase:
                event = read(standing(sent, 0), NAMES)
                found = (event.source, event.sequence) if isinstance(event, Event) else (event.source, event.sequence)
                if found[1] is not None:
                    entities.setdefault((sent.topic, (sent.key or b"").decode(), found[0] or ""), set()).add(found[1])
            for (_, key, _), numbers in entities.items():
                if not key.startswith(("gap-", "far-")):
                    self.assertEqual(numbers, set(range(1, len(numbers) + 1)), key)


class Gateway(unittest.TestCase):
    def test_an_answer_is_the_same_whenever_it_is_asked_for(self) -> None:
        asked = {"payment_id": "pay-order-1", "amount_minor": 5, "currency": "EUR"}
        once = answers("payment.capture_requested", asked, temper("pay-order-1"))
        self.assertEqual(once, answers("payment.capture_requested", asked, temper("pay-order-1")))

    def test_what_is_not_answered_is_not_committed(self) -> None:
        progress = Progress()
        progress.began(0, 5)
        progress.began(0, 6)
        progress.done(0, 6)
        self.assertEqual(progress.committable(), {0: 5})
        progress.done(0, 5)
        self.assertEqual(progress.committable(), {0: 7})


def message(sequence: int, offset: int, index: int, value: bytes = b"{}") -> Kept:
    headers: Headers = [
        ("ce_id", f"m{sequence}".encode()),
        ("ce_source", b"/seriatim/t.purchases"),
        ("seriatim_position", f"t.purchases/0/9/{index}".encode()),
        ("seriatim_sequence", str(sequence).encode()),
    ]
    return Kept("t.stock", 1, offset, 0, b"k", value, headers)


class Laws(unittest.TestCase):
    def broken(self, *messages: Kept) -> set[str]:
        verdict = Verdict()
        links(Evidence(NAMES, messages=list(messages)), verdict)
        return set(verdict.violations)

    def test_repeats_are_fine_but_losses_and_changes_are_seen(self) -> None:
        self.assertEqual(self.broken(message(1, 0, 0), message(2, 1, 1), message(1, 2, 0), message(2, 3, 1)), set())
        self.assertEqual(self.broken(message(1, 0, 0), message(3, 1, 1)), {DENSE})
        self.assertEqual(self.broken(message(1, 0, 0), message(1, 1, 0, b"[]")), {"a repeat is equal to the byte"})
        self.assertEqual(self.broken(message(1, 0, 5), message(2, 1, 4)), {"positions rise along a link"})

    def test_a_lost_count_is_seen_in_state_and_accounting(self) -> None:
        record = standing(count(3, 1), 0)
        evidence = Evidence(
            NAMES,
            outside=[record],
            tables={
                "counter": [{"counter": "c", "value": "3", "version": "1"}],
                "profile": [],
                "journal": [],
                "dead_letter": [],
                "held": [],
                "parked": [],
                "waiting": [],
            },
        )
        verdict, model = Verdict(), predict([record], NAMES)
        counters_and_profiles(evidence, model, verdict)
        accounting(evidence, model, verdict)
        self.assertEqual(set(verdict.violations), set())
        evidence.tables["counter"][0]["value"] = "2"
        evidence.tables["held"] = [{"topic": "t.activity", "partition": str(record.partition), "record_offset": "0"}]
        counters_and_profiles(evidence, model, verdict)
        accounting(evidence, model, verdict)
        self.assertEqual(len(verdict.violations), 2)

    def test_stock_sold_twice_is_seen(self) -> None:
        data = {"sku": "s", "quantity": 5}
        record = standing(Said("stock", "s", "stock.received", data, "/dock", "1", START, 1).binary(), 0)
        tables: dict[str, list[dict[str, str | None]]] = {
            name: [] for name in ("journal", "dead_letter", "held", "parked", "waiting")
        }
        tables["stock"] = [{"sku": "s", "on_hand": "1", "reserved": "0", "version": "1"}]
        sold: list[dict[str, str | None]] = [
            {"sku": "s", "purchase_id": buyer, "quantity": "4", "status": "committed"} for buyer in ("one", "two")
        ]
        for buyers, broken in ((sold[:1], set()), (sold, {"on hand = received + adjusted - committed"})):
            verdict = Verdict()
            evidence = Evidence(NAMES, outside=[record], tables=tables | {"reservation": buyers})
            stock(evidence, predict([record], NAMES), verdict)
            self.assertEqual(set(verdict.violations), broken)

    def test_a_row_without_its_letter_and_changed_bytes_are_seen(self) -> None:
        record = standing(replace(count(1), value=b"{"), 0)
        row: dict[str, str | None] = {
            "topic": record.topic,
            "partition": str(record.partition),
            "record_offset": "0",
            "reason": "undecodable",
            "error": "the value is no json",
            "key": "\\x63",
            "value": "\\x7b7b",
        }
        verdict = Verdict()
        dead_letters(Evidence(NAMES, outside=[record], tables={"dead_letter": [row]}), verdict)
        self.assertEqual(
            set(verdict.violations), {"the row holds the original bytes", "every row has its letter in the topic"}
        )


if __name__ == "__main__":
    unittest.main()
