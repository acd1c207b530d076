"""Runs the contenders against each other, in turns, and keeps what each run came to.

    drive.py --rounds 5 --only throughput
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import backlog
from contender import Load, Ours, Stream, Textbook
from services import Services

EVENTS = 400_000
TEXTBOOK_EVENTS = 30_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binaries", type=Path, required=True)
    arguments.add_argument("--results", type=Path, required=True)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--events", type=int, default=EVENTS)
    arguments.add_argument("--only", action="append")
    given = arguments.parse_args()
    services, load = Services.running(), Load(given.binaries / "load")
    ours, plain = Ours(given.binaries / "accounts"), Ours(given.binaries / "accounts", journaled=False)
    ids, sequences = Stream(given.events), Stream(given.events, sequenced=True)
    contenders: dict[str, tuple[Ours | Textbook, Stream]] = {
        "textbook": (Textbook(given.binaries / "textbook"), Stream(TEXTBOOK_EVENTS)),
        "ids": (ours, ids),
        "ids, no journal": (plain, ids),
        "sequences": (ours, sequences),
        "sequences, no journal": (plain, sequences),
    }
    results: dict[str, list[dict[str, float]]] = {}
    for number in range(1, given.rounds + 1):
        for name, (contender, stream) in contenders.items():
            if given.only and name not in given.only:
                continue
            run = backlog.run(services, load, contender, stream)
            results.setdefault(name, []).append(run.numbers())
            print(
                f"round {number}  {name:24} {run.events_per_second:9,.0f} events/s  us/event: broker {run.broker_us:5.1f}"
                f"  postgres {run.postgres_us:5.1f}  worker {run.worker_us:5.1f}  {run.resident_mib:4.0f} MiB"
                f"  first after {run.first_seconds:.2f} s  repeated {run.repeated:.0f}",
                flush=True,
            )
    given.results.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
