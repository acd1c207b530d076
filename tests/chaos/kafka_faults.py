"""What happens to brokers: killed one by one or together, frozen, without disk, and behind bad wires."""

from __future__ import annotations

import signal

from cluster import Service, alive, state, wait_for
from stage import NoProof, Proof, Stage


def _kill(stage: Stage, count: int, low: float, high: float) -> Proof:
    brokers = stage.dice.sample(stage.cluster.brokers, count)
    pids = [broker.end(signal.SIGKILL) for broker in brokers]
    stage.pause(low, high)
    back = [pid for pid in pids if alive(pid)]
    stage.cluster.revive(stage.cluster.brokers)
    if back:
        raise NoProof(f"brokers were killed and run: {back}")
    return {"killed": [broker.name for broker in brokers], "pids": pids}


def kill_broker(stage: Stage) -> Proof:
    return _kill(stage, 1, 3, 15)


def kill_two_brokers(stage: Stage) -> Proof:
    """Fewer are left than must be in sync: nothing can be sent."""
    return _kill(stage, 2, 3, 15)


def kill_all_brokers(stage: Stage) -> Proof:
    return _kill(stage, 3, 5, 20)


def freeze_broker(stage: Stage) -> Proof:
    """Its connections stay open and nothing is answered."""
    broker: Service = stage.dice.choice(stage.cluster.brokers)
    pid = broker.harm(signal.SIGSTOP)
    seconds = stage.pause(3, 20)
    stopped = state(pid)
    broker.harm(signal.SIGCONT)
    if stopped != "T":
        raise NoProof(f"{broker.name} was not stopped but {stopped}")
    return {"frozen": broker.name, "pid": pid, "seconds": round(seconds, 1)}


def fill_broker(stage: Stage) -> Proof:
    """A broker whose only disk is full ends itself."""
    broker: Service = stage.dice.choice(stage.cluster.brokers)
    words = "No space left on device"
    before = broker.log.count(words)
    ballast = broker.fill()
    try:
        wait_for(f"{broker.name} to miss its disk", 60, lambda: broker.log.count(words) > before)
        wait_for(f"the end of {broker.name}", 60, lambda: broker.pid is None)
    except TimeoutError as error:
        raise NoProof(str(error)) from error
    finally:
        ballast.unlink()
    stage.pause(0, 5)
    stage.cluster.revive(stage.cluster.brokers)
    return {"full": broker.name, "complaints": broker.log.count(words) - before}


def cut_kafka(stage: Stage) -> Proof:
    count = sum(wire.cut() for wire in stage.wires)
    if not count:
        raise NoProof("no connection to a broker was open")
    return {"connections cut": count}


def part_kafka(stage: Stage) -> Proof:
    """Nobody reaches any broker for a while; brokers reach each other."""
    for wire in stage.wires:
        wire.refusing = True
    before = sum(wire.counts["refused"] for wire in stage.wires)
    cut = sum(wire.cut() for wire in stage.wires)
    stage.pause(3, 20)
    refused = sum(wire.counts["refused"] for wire in stage.wires) - before
    for wire in stage.wires:
        wire.heal()
    if not refused:
        raise NoProof("nobody tried to reach a broker")
    return {"connections cut": cut, "refused": refused}


def slow_kafka(stage: Stage) -> Proof:
    before = sum(wire.counts["delayed"] + wire.counts["slices"] for wire in stage.wires)
    for wire in stage.wires:
        wire.latency, wire.bandwidth = stage.dice.uniform(0.02, 0.3), stage.dice.choice([0, 100_000, 300_000])
        wire.slice = stage.dice.choice([7, 100, 65_536])
    stage.pause(5, 15)
    delayed = sum(wire.counts["delayed"] + wire.counts["slices"] for wire in stage.wires) - before
    for wire in stage.wires:
        wire.heal()
    if not delayed:
        raise NoProof("nothing was delayed")
    return {"chunks delayed": delayed}
