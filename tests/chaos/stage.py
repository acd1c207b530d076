"""What a fault works on: services, wires, workers, and the means to see whether it bit and all is well again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from cluster import Cluster, wait_for
from fleet import Fleet, Program
from proxy import Loop, Proxy
from wire import HOME_TOPICS, Names, ends, reader, rows

# After the healing; a rebalance after a lost member and a client's longest pause lie within.
RECOVERY_SECONDS = 120.0
SESSION_SECONDS = 10.0
WORKERS = 3

Proof = dict[str, object]


class NoProof(Exception):
    """A fault that left no trace: the run proves nothing about it."""


@dataclass
class Settings:
    """Of one run."""

    binary: str
    seconds: float
    seed: int
    phase_seconds: float
    logs: Path
    # Whether the standby takes over: then messages wait for it, or what was sent could be forgotten.
    failover: bool

    @property
    def gap_seconds(self) -> float:
        """What belongs together is produced within a phase, unless brokers are away meanwhile."""
        return self.phase_seconds + 90


class Stage:
    """The world of one run."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.settings, self.cluster = settings, cluster
        self.dice = random.Random(settings.seed)
        self.names = Names("chaos.")
        self.database = "chaos"
        self.loop = Loop()
        self.wires = [
            Proxy(self.loop, cluster.proxy_port(broker), cluster.client_port(broker)) for broker in cluster.brokers
        ]
        primary = cluster.server_port(cluster.primary)
        self.wire = Proxy(self.loop, cluster.port + 60, primary, postgres=True)
        # On these the servers follow each other.
        self.followed = {
            server.number: Proxy(self.loop, cluster.standby_port(server), cluster.server_port(server))
            for server in cluster.servers
        }
        self.brokers = ",".join(wire.address for wire in self.wires)
        self.fleet = Fleet(settings.logs)
        self.workers: list[Program] = []
        self.extra = 0

    @property
    def url(self) -> str:
        """The database as the tests see it, past the wires."""
        return self.cluster.url(self.database)

    def environment(self) -> dict[str, str]:
        """Of a worker."""
        gap = f"{self.settings.gap_seconds:.0f}s"
        settings = {
            "KAFKA__BROKERS": self.brokers,
            "KAFKA__GROUP_ID": "chaos",
            "KAFKA__SESSION_TIMEOUT": f"{SESSION_SECONDS:.0f}s",
            "TOPICS__PREFIX": self.names.prefix,
            "DATABASE__URL": f"postgres://postgres@{self.wire.address}/{self.database}?sslmode=disable",
            "DATABASE__IDLE_IN_TRANSACTION_TIMEOUT": "4s",
            "DATABASE__LOCK_TIMEOUT": "5s",
            "DATABASE__STATEMENT_TIMEOUT": "10s",
            "HTTP__LISTEN": "127.0.0.1:0",
            "REORDER__GAP_DEADLINE": gap,
            "REORDER__WAITING_DEADLINE": gap,
            # A gateway that is away is asked for longer than any outage lasts, for money owed far longer.
            "SAGA__CAPTURE_RETRY": "5s",
            "SAGA__CAPTURE_ATTEMPTS": "20",
            "SAGA__REFUND_RETRY": "5s",
            "SAGA__REFUND_ATTEMPTS": "700",
            "SAGA__CHARGE_DEADLINE": "2m",
        }
        if self.settings.failover:
            settings |= {"RELAY__GATE": "standby", "RELAY__GATE_STANDBY": "walreceiver"}
        return {f"SERIATIM_{name}": value for name, value in settings.items()}

    def start_worker(self, name: str) -> Program:
        return self.fleet.add(name, [self.settings.binary, "run"], self.environment())

    def start_workers(self) -> None:
        self.workers = [self.start_worker(f"worker-{number}") for number in range(1, WORKERS + 1)]

    def a_worker(self) -> Program:
        """One that runs."""
        wait_for("a worker that runs", 30, lambda: any(worker.runs() for worker in self.workers))
        return self.dice.choice([worker for worker in self.workers if worker.runs()])

    def number(self, sql: str) -> int:
        """One number from the primary, past the wires."""
        found = rows(self.url, sql)
        return int(next(iter(found[0].values())) or 0) if found else 0

    def taken(self) -> int:
        return self.number("select coalesce(sum(next_offset), 0) from seriatim.lane")

    def epochs(self) -> int:
        """Claims made so far."""
        return self.number("select coalesce(sum(epoch), 0) from seriatim.lane")

    def pause(self, low: float, high: float) -> float:
        """Lets a fault last."""
        seconds = self.dice.uniform(low, high)
        time.sleep(seconds)
        return seconds

    def ends(self) -> dict[tuple[str, int], int]:
        """How far the home topics go, asked until brokers answer."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while True:
            # A new client each time: one that a broker without its metadata has told of no such topic keeps to that.
            consumer = reader(self.brokers)
            try:
                return ends(consumer, [self.names.topic(name) for name in HOME_TOPICS])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            finally:
                consumer.close()

    def recovered(self) -> float:
        """Waits until all is read that stands in the home topics now; how long that took."""
        began = time.monotonic()
        wanted = self.ends()

        def read() -> bool:
            lanes = rows(self.url, "select topic, partition, next_offset from seriatim.lane")
            at = {(str(row["topic"]), int(row["partition"] or 0)): int(row["next_offset"] or 0) for row in lanes}
            return all(at.get(lane, 0) >= end for lane, end in wanted.items())

        wait_for("all lanes to catch up", RECOVERY_SECONDS, read)
        return time.monotonic() - began

    def heal(self) -> None:
        """Lets everything pass and run again."""
        for wire in (*self.wires, self.wire, *self.followed.values()):
            wire.heal()
        for service in (*self.cluster.brokers, *self.cluster.servers):
            (service.folder / "data/ballast").unlink(missing_ok=True)
        self.cluster.revive([*self.cluster.brokers, *self.cluster.servers])
        for worker in self.workers:
            worker.thaw()

    def wait_for_more(self, count: Callable[[], int], more: int, seconds: float) -> int:
        """Waits until a count has risen by so much; by how much it has."""
        before = count()
        deadline = time.monotonic() + seconds
        while count() < before + more and time.monotonic() < deadline:
            time.sleep(0.1)
        return count() - before
