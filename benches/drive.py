"""Runs the contenders against each other, in turns, keeps what each run came to, and writes docs/benchmarks.md.

    drive.py --rounds 5                     everything
    drive.py --rounds 1 --only throughput   one group; the others stay as they were measured last

Runs that last are made once whatever the rounds: memory behind a million, millions in a row, a transaction left open.
The price of exactly-once needs a build of its own, see dev/bench.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import backlog
import figures
import growth
import long
import measures
import report
import sagas
from ceiling import Ceiling
from contender import Load, Ours, Stream, Textbook
from services import Services, machine

TEXTBOOK_EVENTS = 30_000
CEILING_SECONDS = 8
PACE_SECONDS = 20
GROUPS = ["throughput", "shapes", "price", "ceiling", "pace", "restart", "sagas", "million", "millions", "snapshot", "growth"]


class Bench:
    """All measurements, and what they came to so far."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.services = Services.running()
        examples = given.binaries / "examples"
        self.load = Load(examples / "load")
        self.ours, self.plain = Ours(examples / "accounts"), Ours(examples / "accounts", "unjournaled")
        self.textbook = Textbook(examples / "textbook")
        self.shipped, self.textbook_sagas = sagas.Shipped(given.binaries / "seriatim"), sagas.TextbookSagas(examples / "textbook")
        self.results: dict[str, Any] = json.loads(given.results.read_text()) if given.results.exists() else {}

        self.results["settings"] = self.services.settings()

    def keep(self, group: str, name: str, number: int, numbers: dict[str, Any]) -> None:
        """Adds a run to those of its group; the first round begins anew."""
        runs = self.results.setdefault(group, {})
        runs[name] = [*(runs.get(name, []) if number > 1 else []), numbers]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.results.setdefault("measured", {})[group] = {"on": today, "rounds": number, "machine": machine()}
        shown = "  ".join(f"{key} {value:,.1f}" for key, value in numbers.items() if isinstance(value, float))
        print(f"round {number}  {group:10}  {name:22}  {shown}", flush=True)
        self.given.results.write_text(json.dumps(self.results, indent=1))

    def backlogs(self, group: str, contenders: dict[str, tuple[Ours | Textbook, Stream]]) -> None:
        for number in range(1, self.given.rounds + 1):
            for name, (contender, stream) in contenders.items():
                run = backlog.run(self.services, self.load, contender, stream)
                self.keep(group, name, number, run.numbers())

    def throughput(self) -> None:
        ids, sequences = Stream(self.given.events), Stream(self.given.events, sequenced=True)
        self.backlogs(
            "throughput",
            {
                "textbook": (self.textbook, Stream(TEXTBOOK_EVENTS)),
                "ids": (self.ours, ids),
                "ids, no journal": (self.plain, ids),
                "sequences": (self.ours, sequences),
                "sequences, no journal": (self.plain, sequences),
            },
        )

    def shapes(self) -> None:
        shapes = ["uniform", "one", "zipf", "lopsided"]
        streams = {shape: Stream(self.given.events, shape=shape, sequenced=True) for shape in shapes}
        self.backlogs("shapes", {shape: (self.plain, stream) for shape, stream in streams.items()})

    def price(self) -> None:
        """The same build with and without judging events: the only one that can do without."""
        build, stream = self.given.faults, Stream(self.given.events, sequenced=True)
        kinds = {"judged": Ours(build, "unjournaled"), "unjudged": Ours(build, "unjudged")}
        self.backlogs("price", {name: (ours, stream) for name, ours in kinds.items()})

    def ceiling(self) -> None:
        for number in range(1, self.given.rounds + 1):
            for name in ["ids", "ids, no journal", "sequences", "sequences, no journal"]:
                ceiling = Ceiling(self.given.binaries / "seriatim", name.startswith("ids"), "no journal" not in name)
                self.keep("ceiling", name, number, ceiling.run(self.services, CEILING_SECONDS))

    def pace(self) -> None:
        runs = self.results["throughput"]["sequences"]
        rate = sorted(run["events_per_second"] for run in runs)[len(runs) // 2] / 2
        for number in range(1, self.given.rounds + 1):
            told = measures.pace(self.services, self.load, self.ours, rate, PACE_SECONDS)
            flat = {f"{what}_{share}": value for what, shares in told.items() for share, value in shares.items()}
            self.keep("pace", "half", number, {"rate": rate} | flat)

    def restart(self) -> None:
        stream = Stream(2 * self.given.events, sequenced=True)
        for number in range(1, self.given.rounds + 1):
            self.keep("restart", "kill", number, measures.restart(self.services, self.load, self.ours, stream))

    def million(self) -> None:
        run = backlog.run(self.services, self.load, self.ours, Stream(1_000_000, sequenced=True))
        self.keep("million", "sequences", 1, run.numbers())

    def sagas(self) -> None:
        for number in range(1, self.given.rounds + 1):
            for name, contender in {"textbook": self.textbook_sagas, "seriatim": self.shipped}.items():
                run = sagas.run(self.services, self.load, contender, self.given.purchases)
                self.keep("sagas", name, number, {"purchases": self.given.purchases} | run)

    def millions(self) -> None:
        self.keep("millions", "ids", 1, long.millions(self.services, self.load, self.ours, self.given.million_times))

    def snapshot(self) -> None:
        expected = figures.middle(self.results["throughput"]["sequences, no journal"])
        run = long.snapshot(self.services, self.load, self.plain, expected, self.given.snapshot_seconds)
        self.keep("snapshot", "sequences, no journal", 1, run)

    def growth(self) -> None:
        for number in range(1, self.given.growth_rounds + 1):
            for axis in growth.AXES:
                for point in growth.points(axis, self.given.events):
                    run = growth.run(self.services, self.load, self.ours, point)
                    self.keep("growth", f"{axis} {point.at}", number, run)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binaries", type=Path, required=True)
    arguments.add_argument("--faults", type=Path, required=True, help="the accounts' worker, built with the feature of that name")
    arguments.add_argument("--results", type=Path, required=True)
    arguments.add_argument("--docs", type=Path, required=True)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--events", type=int, default=400_000)
    arguments.add_argument("--purchases", type=int, default=5000)
    arguments.add_argument("--million-times", type=int, default=20)
    arguments.add_argument("--snapshot-seconds", type=int, default=600)
    arguments.add_argument("--growth-rounds", type=int, default=1)
    arguments.add_argument("--only", action="append", choices=GROUPS)
    given = arguments.parse_args()
    bench = Bench(given)
    for group in given.only or GROUPS:
        getattr(bench, group)()
    report.write(bench.results, given.docs)


if __name__ == "__main__":
    main()
