"""What there is to judge by once everything is drained: the topics, read raw from offset 0, and the tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from contract import from_outside
from wire import HOME_TOPICS, OUTGOING_TOPICS, Kept, Names, read_all, rows

Place = tuple[str, int, int]
Row = dict[str, str | None]

# Columns of the contract page only. An order is given where the checks walk through the rows.
TABLES = {
    "lane": "select topic, partition, next_offset, epoch, owner from seriatim.lane",
    "journal": "select kind, entity_id, version, outcome, event_id, source, sequence, topic, partition,"
    " record_offset, epoch from seriatim.journal order by kind, entity_id, version nulls last",
    "dead_letter": "select topic, partition, record_offset, reason, error, key, value from seriatim.dead_letter",
    "held": "select kind, entity_id, topic, partition, record_offset from seriatim.held"
    " where record_offset is not null",
    "parked": "select kind, entity_id, topic, partition, record_offset from seriatim.parked"
    " where record_offset is not null",
    "waiting": "select kind, entity_id, topic, partition, record_offset from seriatim.waiting",
    "entity": "select kind, entity_id, version, partition, status from seriatim.entity",
    "saga": "select saga_id, definition, status from seriatim.saga",
    "stock": "select sku, on_hand, reserved, version from shop.stock",
    "reservation": "select sku, purchase_id, quantity, status from shop.reservation",
    "purchase": "select purchase_id, customer_id, status, reason, total_minor, currency, version from shop.purchase",
    "purchase_line": "select purchase_id, sku, quantity, unit_price_minor from shop.purchase_line",
    "payment": "select payment_id, purchase_id, amount_minor, captured_minor, refunded_minor, currency, status, version"
    " from shop.payment",
    "profile": "select user_id, email, password_hash, version from shop.profile",
    "counter": "select counter, value, version from shop.counter",
}


@dataclass
class Evidence:
    names: Names
    outside: list[Kept] = field(default_factory=list)
    messages: list[Kept] = field(default_factory=list)
    dead_letters: list[Kept] = field(default_factory=list)
    tables: dict[str, list[Row]] = field(default_factory=dict)

    @classmethod
    def gather(cls, brokers: str, database: str, names: Names) -> Evidence:
        found = cls(names)
        for record in read_all(brokers, [names.topic(name) for name in (*HOME_TOPICS, *OUTGOING_TOPICS)]):
            (found.outside if from_outside(record) else found.messages).append(record)
        found.dead_letters = list(read_all(brokers, [names.dead_letters(name) for name in HOME_TOPICS]))
        found.tables = {name: rows(database, sql) for name, sql in TABLES.items()}
        return found


@dataclass
class Verdict:
    """Violations by law, and counts for the summary."""

    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def broken(self, law: str, text: str) -> None:
        self.violations[law].append(text)

    def demand(self, holds: bool, law: str, text: str) -> None:
        if not holds:
            self.broken(law, text)

    def print(self) -> bool:
        """Prints all there is to say; true if nothing is broken."""
        for name, count in sorted(self.counts.items()):
            print(f"{count:>8}  {name}")
        for law, texts in sorted(self.violations.items()):
            print(f"VIOLATED ({len(texts)}): {law}")
            for text in texts[:12]:
                print(f"    {text}")
        if not self.violations:
            print("every law holds")
        return not self.violations


def place_of(row: Row) -> Place:
    return (str(row["topic"]), int(row["partition"] or 0), int(row["record_offset"] or 0))


def number(cell: str | None) -> int:
    return int(cell or 0)
