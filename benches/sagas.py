"""Whole checkouts: purchases lie in the topic, a gateway answers at once, and every purchase ends completed.

The rate is from the last look that showed no purchase to the last outcome that can be read from Kafka.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from backlog import LOOK_SECONDS, RUN_SECONDS_MAX, end
from contender import Load
from services import Place, Services

PARTITIONS = 4
HOMES = ("purchases", "payments", "stock", "profiles", "activity")
OTHERS = ("payment-requests", "purchase-outcomes")


@dataclass(frozen=True)
class Shipped:
    """The worker as it is shipped."""

    binary: Path

    def start(self, place: Place, log: int) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "SERIATIM_KAFKA__BROKERS": place.services.brokers,
            "SERIATIM_KAFKA__GROUP_ID": place.name,
            "SERIATIM_TOPICS__PREFIX": place.topic(""),
            "SERIATIM_DATABASE__URL": place.url,
            "SERIATIM_HTTP__LISTEN": "none",
            "SERIATIM_LOG__LEVEL": "warn",
        }
        subprocess.run([self.binary, "migrate", "up"], env=environment, stdout=log, stderr=log, check=True)
        return subprocess.Popen([self.binary, "run"], env=environment, stdout=log, stderr=log)


@dataclass(frozen=True)
class TextbookSagas:
    """One transaction a step, a row a saga, and a polled outbox."""

    binary: Path

    def start(self, place: Place, log: int) -> subprocess.Popen[bytes]:
        where = [f"--brokers={place.services.brokers}", f"--group={place.name}", f"--database={place.url}"]
        return subprocess.Popen([self.binary, *where, "sagas", f"--prefix={place.topic('')}"], stdout=log, stderr=log)


def placed(place: Place) -> bool:
    """Whether the first purchase is committed."""
    return place.ask("select exists (select from shop.purchase)", "shop.purchase") == "t"


def run(services: Services, load: Load, contender: Shipped | TextbookSagas, purchases: int) -> dict[str, float]:
    """Feeds, lets the contender work, audits."""
    with Place(services, PARTITIONS, HOMES, OTHERS) as place, tempfile.TemporaryFile() as log:
        shop = [f"--brokers={services.brokers}", f"--prefix={place.topic('')}", f"--purchases={purchases}"]
        load.run("shop", *shop)
        topics = [f"--requests={place.topic('payment-requests')}", f"--answers={place.topic('payments')}"]
        gateway = [load.binary, "gateway", shop[0], *topics, f"--partitions={PARTITIONS}"]
        crew = [subprocess.Popen(gateway, stdout=log, stderr=log)]
        try:
            crew.append(contender.start(place, log.fileno()))
            begun = start = time.monotonic()

            def look() -> None:
                time.sleep(LOOK_SECONDS)
                if any(one.poll() is not None for one in crew) or time.monotonic() - begun > RUN_SECONDS_MAX:
                    log.seek(0)
                    raise AssertionError(f"somebody ended or took too long: {log.read().decode()[-2000:]}")

            while not placed(place):
                start = time.monotonic()
                look()
            before = services.spent([crew[1].pid])
            while services.end_of(place.topic("purchase-outcomes"), PARTITIONS) < purchases:
                look()
            last, spent = time.monotonic(), services.spent([crew[1].pid]).since(before)
        finally:
            end(crew)
        settled = load.run("settle", *shop, f"--database={place.url}", f"--partitions={PARTITIONS}")
    each = 1e6 / purchases
    return {
        "sagas_per_second": purchases / (last - start),
        "broker_us": spent.broker * each,
        "postgres_us": spent.postgres * each,
        "worker_us": spent.worker * each,
        "repeated": settled["repeated"],
    }
