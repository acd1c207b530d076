"""One run of chaos: a world under load, a seeded schedule of faults, then healing, draining and judgement.

    drive.py --binary … --folder … --logs … --minutes 3 --seed 1

Exits 1 on any finding: a law that does not hold, a fault without proof, a worker that does not come back, or a run in
which too little was done. Called by dev/chaos.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import kafka_faults
import pairs
import postgres_faults
import worker_faults
from cluster import Cluster, wait_for
from fleet import WORLD, Program
from report import Bite, Report
from stage import NoProof, Proof, Settings, Stage

Fault = Callable[[Stage], Proof]

FAULTS: list[Fault] = [
    worker_faults.kill_worker,
    worker_faults.kill_all_workers,
    worker_faults.freeze_worker,
    worker_faults.storm,
    kafka_faults.kill_broker,
    kafka_faults.kill_two_brokers,
    kafka_faults.kill_all_brokers,
    kafka_faults.freeze_broker,
    kafka_faults.fill_broker,
    kafka_faults.cut_kafka,
    kafka_faults.part_kafka,
    kafka_faults.slow_kafka,
    postgres_faults.crash_postgres,
    postgres_faults.freeze_postgres,
    postgres_faults.fill_postgres,
    postgres_faults.end_backends,
    postgres_faults.lock_table,
    postgres_faults.cut_before_commit,
    postgres_faults.cut_during_commit,
    postgres_faults.cut_after_commit,
    postgres_faults.part_postgres,
    postgres_faults.slow_postgres,
    pairs.at_once,
    pairs.at_once,
]
# Events a second; what two cores carry beside three brokers.
RATE = 50
# What a world of scale 1 says.
WORLD_EVENTS = 21_400
STOP_SECONDS = 30
# Events come for so much longer than faults begin: the last ones need something to bite, too.
TAIL_SECONDS = 45


class Run:
    """The steps of one run, in order."""

    def __init__(self, settings: Settings, cluster: Cluster, faults: list[Fault]) -> None:
        self.settings, self.faults = settings, faults
        self.scale = settings.seconds * RATE / WORLD_EVENTS
        self.stage = Stage(settings, cluster)
        self.report = Report(settings.seed, settings.seconds / 60)
        self.began = 0.0

    def prepare(self) -> None:
        """Services, database, topics."""
        stage = self.stage
        stage.cluster.act("up")
        subprocess.run(["psql", stage.cluster.url("postgres"), "-qAtc", "create database chaos"], check=True)
        command = [self.settings.binary, "migrate", "up"]
        subprocess.run(command, env=stage.environment(), check=True, stdout=subprocess.DEVNULL)
        self.world("world.py", "topics", "--replicas", "3")

    def world(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the outside world to its end."""
        places = ["--brokers", self.stage.brokers, "--prefix", self.stage.names.prefix]
        command = [sys.executable, "-u", script, *arguments, *places]
        done = subprocess.run(command, cwd=WORLD, capture_output=True, text=True, check=False)
        if script == "world.py" and done.returncode:
            raise SystemExit(f"{script}: {done.stderr}")
        return done

    def start(self) -> Program:
        """Workers, gateway and producer; gives the last."""
        stage = self.stage
        places = ("--brokers", stage.brokers, "--prefix", stage.names.prefix)
        stage.start_workers()
        self.gateway = stage.fleet.python("gateway", "gateway.py", *places)
        phases = max(2, round(self.settings.seconds / self.settings.phase_seconds))
        how = ("--seed", str(self.settings.seed), "--scale", f"{self.scale:.3f}", "--start", str(int(time.time())))
        pace = ("--seconds", f"{self.settings.seconds + TAIL_SECONDS:.0f}", "--phases", str(phases))
        return stage.fleet.python("producer", "world.py", "produce", *how, *pace, *places, once=True)

    def schedule(self) -> None:
        """Faults until the time is over: all kinds in a random order, then all kinds again."""
        # Of its own, so that the order does not depend on what the faults make of theirs.
        bag, dice = list[Fault](), random.Random(self.settings.seed)
        wait_for("the first records to be taken", 60, lambda: self.stage.taken() > 0)
        self.began = time.monotonic()
        while time.monotonic() - self.began < self.settings.seconds:
            if not bag:
                bag = dice.sample(self.faults, len(self.faults))
            self.bite(bag.pop())
            self.stage.pause(1, 4)

    def bite(self, fault: Fault) -> None:
        """One fault, its proof, and the way back."""
        stage, kind = self.stage, fault.__name__.replace("_", " ")
        at = time.monotonic()
        said(f"{at - self.began:6.0f} s  {kind}")
        proof: Proof = {}
        try:
            proof = fault(stage)
        except NoProof as error:
            self.found(f"{kind} left no proof: {error}")
        except Exception as error:  # noqa: BLE001: whatever it is, the run goes on and is red
            self.found(f"{kind} could not be done: {error!r}")
        lasted = time.monotonic() - at
        try:
            stage.heal()
            bite = Bite(kind, round(at - self.began, 1), round(lasted, 1), proof, stage.recovered())
        except (TimeoutError, AssertionError) as error:
            self.found(f"{kind}, at {at - self.began:.0f} s: {error}")
            bite = Bite(kind, round(at - self.began, 1), round(lasted, 1), proof)
        self.report.bites.append(bite)
        said(f"          {proof}, back after {bite.recovered}")
        self.report.write(self.settings.logs)

    def end(self, producer: Program) -> None:
        """Heals, drains, judges."""
        stage = self.stage
        assert producer.process is not None
        if producer.process.wait(600):
            self.found(f"the producer failed: {producer.last_words()}")
        stage.heal()
        said("drains")
        seconds = self.settings.gap_seconds + 240
        drained = self.world("model.py", "drained", "--database", stage.url, "--seconds", f"{seconds:.0f}")
        if drained.returncode:
            self.found(f"not drained: {drained.stdout.strip()} {drained.stderr.strip()[-500:]}")
        for worker in stage.workers:
            if (code := worker.stop(STOP_SECONDS)) != 0:
                self.found(f"{worker.name} was asked to end and ended with {code}: {worker.last_words()}")
        stage.fleet.stop()
        said("judges")
        judged = self.world("model.py", "judge", "--database", stage.url, "--scale", f"{self.scale:.3f}")
        (self.settings.logs / "judge.log").write_text(judged.stdout + judged.stderr)
        self.take_verdict(judged.stdout)
        if judged.returncode and not self.report.findings:
            self.found(f"the model ended with {judged.returncode}: {judged.stderr[-500:]}")
        self.audit()
        self.take_logs()

    def take_verdict(self, text: str) -> None:
        """The model's counts, and each law that does not hold with its first cases."""
        for line in text.splitlines():
            parts = line.split(None, 1)
            if line.startswith("VIOLATED"):
                self.found(line)
            elif len(parts) == 2 and parts[0].isdigit():
                self.report.counts[parts[1]] = int(parts[0])
            elif line.startswith("    "):
                self.report.findings[-1] += f" · {line.strip()[:300]}"
        shown = ("event from outside", "outcome applied", "outcome duplicate", "purchase completed", "message repeated")
        self.report.operations |= {name: self.report.counts.get(name, 0) for name in shown}
        self.report.operations["claims of lanes"] = self.stage.epochs()

    def audit(self) -> None:
        """The worker's own audit, if this one has it."""
        asked = subprocess.run([self.settings.binary, "fsck", "--help"], capture_output=True, check=False)
        if asked.returncode:
            return
        command = [self.settings.binary, "fsck"]
        done = subprocess.run(command, env=self.stage.environment(), capture_output=True, text=True, check=False)
        (self.settings.logs / "fsck.log").write_text(done.stdout + done.stderr)
        self.report.operations["fsck, exit code"] = done.returncode
        if done.returncode:
            self.found(f"fsck ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")

    def take_logs(self) -> None:
        """What the programs said about themselves."""
        for program in self.stage.fleet.programs:
            self.report.ends += program.ends
            if program.logged("panicked"):
                self.found(f"{program.name} has panicked")

    def found(self, text: str) -> None:
        said(f"FOUND: {text}")
        self.report.findings.append(text)


def said(text: str) -> None:
    print(text, flush=True)


def chosen_faults(names: str | None, *, failover: bool) -> list[Fault]:
    faults = [*FAULTS, postgres_faults.lose_commits] if failover else FAULTS
    if names is None:
        return faults
    known = {fault.__name__: fault for fault in faults}
    return [known[name] for name in names.split(",")]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the services keep what they have")
    parser.add_argument("--logs", type=Path, required=True, help="where the report goes, and what the programs say")
    parser.add_argument("--port", type=int, default=31000)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", help="only these, with commas between")
    says = "also lose commits to the asynchronous standby; the relay waits for it"
    parser.add_argument("--failover", action="store_true", help=says)
    chosen = parser.parse_args(arguments)
    seconds = chosen.minutes * 60
    phase = min(60.0, seconds / 6)
    settings = Settings(chosen.binary, seconds, chosen.seed, phase, chosen.logs, chosen.failover)
    run = Run(settings, Cluster(chosen.folder, chosen.port), chosen_faults(chosen.faults, failover=chosen.failover))
    said(f"seed {chosen.seed}")
    try:
        run.prepare()
        producer = run.start()
        run.schedule()
        run.end(producer)
    finally:
        run.stage.fleet.stop()
        run.report.write(chosen.logs)
    said(run.report.markdown())
    raise SystemExit(1 if run.report.findings else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
