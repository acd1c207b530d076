"""Two faults at once, one on each side of the workers, and now and then a third: a worker dies meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import kafka_faults
import postgres_faults
import worker_faults
from stage import Proof, Stage

# Those that need nothing of the other side to leave proof.
KAFKA = [
    kafka_faults.kill_broker,
    kafka_faults.kill_two_brokers,
    kafka_faults.kill_all_brokers,
    kafka_faults.freeze_broker,
    kafka_faults.cut_kafka,
]
POSTGRES = [
    postgres_faults.crash_postgres,
    postgres_faults.freeze_postgres,
    postgres_faults.end_backends,
    postgres_faults.part_postgres,
]


def at_once(stage: Stage) -> Proof:
    chosen = [stage.dice.choice(KAFKA), stage.dice.choice(POSTGRES)]
    if stage.dice.random() < 0.5:
        chosen.append(worker_faults.kill_worker)
    with ThreadPoolExecutor(len(chosen)) as pool:
        bites = [pool.submit(fault, stage) for fault in chosen]
        proofs = [bite.result() for bite in bites]
    named = {fault.__name__.replace("_", " "): 1 for fault in chosen}
    return named | {name: proof for found in proofs for name, proof in found.items()}
