"""What happens to the database: it crashes, is frozen or full, ends sessions, locks a table, and loses its wire."""

from __future__ import annotations

import signal
import subprocess
import time

from cluster import alive, state, wait_for
from proxy import Cut
from stage import NoProof, Proof, Stage

WORKERS = "datname = 'chaos' and pid <> pg_backend_pid() and backend_type = 'client backend'"


def crash_postgres(stage: Stage) -> Proof:
    """As a machine that fails: nothing is written out, and the next start has to recover."""
    server = stage.cluster.primary
    pid = server.end(signal.SIGQUIT)
    stage.pause(0, 12)
    before = server.log.count("automatic recovery in progress")
    server.start()
    if server.log.count("automatic recovery in progress") == before:
        raise NoProof("the server had nothing to recover from")
    return {"crashed, and recovered from its log": 1, "pid": pid, "started again as": server.pid}


def freeze_postgres(stage: Stage) -> Proof:
    """Every process of it stops, as on a machine without time; connections stay open."""
    server = stage.cluster.primary
    postmaster = server.pid
    found = subprocess.run(["pgrep", "--parent", str(postmaster)], capture_output=True, text=True, check=True)
    pids = [str(postmaster), *found.stdout.split()]
    before = stage.taken()
    # Sessions may end by themselves meanwhile.
    subprocess.run(["kill", "-STOP", *pids], check=False, stderr=subprocess.DEVNULL)
    seconds = stage.pause(2, 15)
    stopped = sum(state(int(pid)) == "T" for pid in pids if alive(int(pid)))
    subprocess.run(["kill", "-CONT", *pids], check=False, stderr=subprocess.DEVNULL)
    if not stopped:
        raise NoProof("no process of the server was stopped")
    return {"processes frozen": stopped, "seconds": round(seconds, 1), "records taken then": stage.taken() - before}


def fill_postgres(stage: Stage) -> Proof:
    """No byte is left: what writes fails, and without room for its log the server gives up."""
    server = stage.cluster.primary
    words = "No space left on device"
    before = server.log.count(words)
    ballast = server.fill()
    try:
        # New segments of the log are needed for that; idle ones are used up first.
        stage.pause(5, 10)
        log = "select pg_logical_emit_message(true, 'x', repeat('x', 900000)) from generate_series(1, 20)"
        subprocess.run(["psql", stage.url, "-qAtc", log], capture_output=True, check=False)
        wait_for(f"{server.name} to miss its disk", 60, lambda: server.log.count(words) > before)
        stage.pause(2, 8)
    except TimeoutError as error:
        raise NoProof(str(error)) from error
    finally:
        ballast.unlink()
    wait_for("the end of what was under way", 30, lambda: server.pid is None or _answers(stage))
    stage.cluster.revive([server])
    return {"complaints": server.log.count(words) - before, "pid": server.pid}


def _answers(stage: Stage) -> bool:
    asked = ["psql", stage.url, "-qAtc", "select 1"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=10).returncode == 0


def end_backends(stage: Stage) -> Proof:
    """An operator, or a script, ends all sessions again and again."""
    ended = 0
    for _ in range(stage.dice.randint(5, 15)):
        ended += stage.number(f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {WORKERS}")
        time.sleep(stage.dice.uniform(0.1, 1))
    if not ended:
        raise NoProof("there was no session to end")
    return {"sessions ended": ended}


def lock_table(stage: Stage) -> Proof:
    """A change of the schema holds a table for longer than a worker waits."""
    table = stage.dice.choice(["shop.stock", "shop.counter", "seriatim.lane", "seriatim.outbox"])
    seconds = stage.dice.randint(8, 30)
    hold = f"begin; lock table {table} in access exclusive mode; select pg_sleep({seconds}); commit"
    holder = subprocess.Popen(["psql", stage.url, "-qAtc", hold], stdout=subprocess.DEVNULL)
    waiting = 0
    while holder.poll() is None:
        locked = f"select count(*) from pg_stat_activity where {WORKERS} and wait_event_type = 'Lock'"
        waiting = max(waiting, stage.number(locked))
        time.sleep(0.3)
    if not waiting:
        raise NoProof(f"nobody waited for {table}")
    return {"table": table, "seconds": seconds, "sessions that waited": waiting}


def _cut(stage: Stage, cut: Cut) -> Proof:
    """Connections are cut at the very statement; what is told is proved by the wire."""
    wanted = stage.dice.randint(2, 6)
    before = stage.wire.counts[cut.value]
    stage.wire.plan.extend([cut] * wanted)
    deadline = time.monotonic() + 30
    while (made := stage.wire.counts[cut.value] - before) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    stage.wire.heal()
    if not made:
        raise NoProof(f"no connection was cut {cut.value}")
    return {"connections cut": made}


def cut_before_commit(stage: Stage) -> Proof:
    return _cut(stage, Cut.BEFORE)


def cut_during_commit(stage: Stage) -> Proof:
    return _cut(stage, Cut.DURING)


def cut_after_commit(stage: Stage) -> Proof:
    """The server has committed, and nobody hears of it."""
    words = "a commit had no answer"
    before = sum(worker.logged(words) for worker in stage.workers)
    proof = _cut(stage, Cut.AFTER)
    return proof | {"commits without answer": sum(worker.logged(words) for worker in stage.workers) - before}


def part_postgres(stage: Stage) -> Proof:
    """Nobody reaches the database for a while."""
    stage.wire.refusing = True
    before, cut = stage.wire.counts["refused"], stage.wire.cut()
    stage.pause(2, 15)
    refused = stage.wire.counts["refused"] - before
    stage.wire.heal()
    if not refused:
        raise NoProof("nobody tried to reach the database")
    return {"connections cut": cut, "refused": refused}


def slow_postgres(stage: Stage) -> Proof:
    before = stage.wire.counts["delayed"] + stage.wire.counts["slices"]
    stage.wire.latency, stage.wire.bandwidth = stage.dice.uniform(0.01, 0.15), stage.dice.choice([0, 200_000])
    stage.wire.slice = stage.dice.choice([13, 200, 65_536])
    stage.pause(5, 15)
    delayed = stage.wire.counts["delayed"] + stage.wire.counts["slices"] - before
    stage.wire.heal()
    if not delayed:
        raise NoProof("nothing was delayed")
    return {"chunks delayed": delayed}


def lose_commits(stage: Stage) -> Proof:
    """The standby falls behind, the primary dies, and the standby takes its place: what it had not got never was."""
    primary = stage.cluster.primary
    standby = next(server for server in stage.cluster.servers if server is not primary)
    wire = stage.followed[primary.number]
    # A standby made anew has the whole database to copy, and on a busy machine that takes its time.
    wait_for("the standby to follow", 180, lambda: stage.number("select count(*) from pg_stat_replication") > 0)
    wire.refusing = True
    wire.cut()
    stage.wait_for_more(stage.taken, 100, 20)
    stage.pause(1, 4)
    before = stage.taken()
    pid = primary.end(signal.SIGQUIT)
    stage.cluster.primary = standby
    stage.number("select pg_promote()::int")
    lost = before - stage.taken()
    stage.wire.target = stage.cluster.server_port(standby)
    wire.heal()
    stage.cluster.act("follow", primary.number, standby.number)
    if lost <= 0:
        raise NoProof("the standby had everything")
    return {"pid": pid, "promoted": standby.name, "records taken and forgotten": lost}
