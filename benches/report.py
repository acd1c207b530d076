"""Writes what was measured as a page: medians with their spread, ratios, and what was to be reached."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sections
import services
from figures import Runs, middle, spread

HEAD = """# Benchmarks

What the worker does beside what one would write from the textbook, and beside what the database alone can do. Everything runs on one machine: brokers, database, worker. The figures are worth something as ratios of one run; where there was more than one round, contenders took turns, the figure is the median, and the lowest and the highest stand beside. [When, where, and in how many rounds](#what-was-measured-when-and-where).

    dev/bench

{machine}. PostgreSQL {postgres} with {settings}; one Apache Kafka broker, acks=all. Events of 300 bytes, 10,000 accounts, 4 partitions. Each event changes an account's balance and sends one message. After each run tables and messages are compared with the stream: each movement once, each message in its place. A run that fails that ends the benchmark.

**textbook**: `StreamConsumer` and sqlx, one transaction an event (insert into processed, select for update, update, insert into outbox), four connections, and a relay that polls with skip locked: `benches/textbook`. **ids**: events that are known by their ids, a row each. **sequences**: events that carry `ce_entityseq`. With a journal row an event, if not said otherwise. The rate is that of a backlog, from the first event committed to the last message that can be read.
"""

TARGETS: list[tuple[str, str, float, float]] = [
    ("ids", "events/s over textbook, id mode", 9, 15),
    ("sequences", "events/s over textbook, sequence mode, journaled", 12, 20),
    ("sequences, no journal", "events/s over textbook, sequence mode, no journal", 15, 25),
]


def share(alone: Runs, reached: Runs) -> str:
    """Of what the database alone can do, with one connection or with four."""
    best = max(middle(alone, "connections_1"), middle(alone, "connections_4"))
    return f"{middle(reached) / best:.0%}"


def throughput(results: dict[str, Any]) -> str:
    lines = [
        "## Throughput",
        "",
        "| | events/s | over textbook | broker µs | PostgreSQL µs | worker µs | resident MiB | HOT updates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = middle(results["textbook"])
    for name, runs in results.items():
        times = middle(runs) / base
        spent = [spread(runs, key, "{:.1f}") for key in ("broker_us", "postgres_us", "worker_us")]
        rate, memory = spread(runs, "events_per_second"), spread(runs, "resident_mib")
        lines.append(f"| {name} | {rate} | {times:.1f} | {' | '.join(spent)} | {memory} | {middle(runs, 'hot_share'):.0%} |")
    return "\n".join([*lines, "", "µs: of CPU an event, of the two seconds that two cores have each second. HOT updates: of the updates of accounts, those that touched no index."])


def ceiling(results: dict[str, Any], reached: dict[str, Any]) -> str:
    lines = [
        "## The database alone",
        "",
        "The same rows in the same tables, set-based, from arrays that lie ready in the database: pgbench, no Kafka.",
        "",
        "| | one connection | four connections | share that the worker reaches, Kafka in and out included |",
        "|---|---|---|---|",
    ]
    for name, runs in results.items():
        both = " | ".join(spread(runs, key) for key in ("connections_1", "connections_4"))
        lines.append(f"| {name} | {both} | {share(runs, reached[name])} |")
    return "\n".join(lines)


def shapes(results: dict[str, Any]) -> str:
    names = {"uniform": "uniform", "one": "one account alone", "zipf": "Zipf 1.2", "lopsided": "80 % in one partition"}
    lines = ["## Shapes", "", "Sequences, no journal.", "", "| | events/s | over uniform |", "|---|---|---|"]
    base = middle(results["uniform"])
    for name, runs in results.items():
        lines.append(f"| {names[name]} | {spread(runs, 'events_per_second')} | {middle(runs) / base:.2f} |")
    return "\n".join(lines)


def pace(results: dict[str, Any]) -> str:
    runs = results["half"]
    lines = [
        "## Latency",
        "",
        f"Open loop at {runs[0]['rate']:,.0f} events/s, half of the rate above (sequences, journal), measured from the moment for which each event was meant. The producer lingers for 5 ms, as clients do by default, and commits are seen by a look at the lanes' rows every 2 ms: both are counted as the worker's.",
        "",
        "| | p50 ms | p99 ms |",
        "|---|---|---|",
    ]
    for what, words in {"committed_ms": "in → committed", "visible_ms": "committed → visible in Kafka"}.items():
        cells = " | ".join(spread(runs, f"{what}_{share}", "{:.1f}") for share in ("p50", "p99"))
        lines.append(f"| {words} | {cells} |")
    return "\n".join(lines)


def crash(results: dict[str, Any], started: Runs) -> str:
    runs = results["kill"]
    return "\n".join(
        [
            "## Start and crash",
            "",
            f"From the start of the process to the first event committed: {spread(started, 'first_seconds', '{:.2f}')} s, migrations included.",
            "",
            f"From `kill -9` to nine tenths of the rate before, the group's session timeout aside: {spread(runs, 'seconds', '{:.2f}')} s. Messages that came again: {spread(runs, 'repeated')}; no event was taken twice.",
        ]
    )


def million(results: dict[str, Any]) -> str:
    memory = spread(results["sequences"], "resident_mib")
    return f"## Memory\n\nResident at most while a million records lay behind: {memory} MiB."


def targets(results: dict[str, Any]) -> str:
    """Each measure beside what it must reach and what it aims at."""
    runs = results.get("throughput", {})
    lines = ["## What was to be reached", "", "| measure | must | aim | measured |", "|---|---|---|---|"]

    def line(measure: str, must: str, aim: str, value: Callable[[], str]) -> None:
        try:
            lines.append(f"| {measure} | {must} | {aim} | {value()} |")
        except KeyError:  # its group was not measured
            lines.append(f"| {measure} | {must} | {aim} | – |")

    for name, measure, must, aim in TARGETS:
        line(measure, f"{must:g}", f"{aim:g}", lambda name=name: f"{middle(runs[name]) / middle(runs['textbook']):.1f}")

    shares = lambda: "; ".join(f"{name}: {share(alone, runs[name])}" for name, alone in results["ceiling"].items())
    line("share of the ceiling, Kafka in and out included", "40 %", "60 %", shares)
    shape = lambda name: middle(results["shapes"][name]) / middle(results["shapes"]["uniform"])
    line("all events on one entity, over uniform", "0.7", "1.5", lambda: f"{shape('one'):.2f}")
    line("Zipf 1.2 over uniform", "1.0", "1.5", lambda: f"{shape('zipf'):.2f}")
    line("one partition with 80 % of the load, over uniform", "0.6", "0.9", lambda: f"{shape('lopsided'):.2f}")
    line("price of exactly-once", "8 %", "3 %", lambda: sections.price_of(results["price"]))
    both = lambda what: " / ".join(f"{middle(results['pace']['half'], f'{what}_ms_{at}'):.1f}" for at in ("p50", "p99"))
    line("in → committed at half of the own maximum, p50 / p99", "15 / 60 ms", "5 / 25 ms", lambda: f"{both('committed')} ms")
    line("committed → visible in Kafka, p50 / p99", "5 / 25 ms", "2 / 10 ms", lambda: f"{both('visible')} ms")
    line("worker CPU an event", "12 µs", "5 µs", lambda: f"{middle(runs['sequences, no journal'], 'worker_us'):.1f} µs")
    sagas = lambda name: middle(results["sagas"][name], "sagas_per_second")
    line("whole checkouts/s over textbook", "6", "12", lambda: f"{sagas('seriatim') / sagas('textbook'):.2f}")
    line("ids: the last million events over the first", "0.9 after 20 million", "–", lambda: after(results["millions"]["ids"][0]))
    line("rate while another transaction is open, over before", "0.9 for 10 min", "–", lambda: opened(results["snapshot"]["sequences, no journal"][0]))
    line(
        "resident memory with a million records behind",
        "200 MB",
        "100 MB",
        lambda: f"{middle(results['million']['sequences'], 'resident_mib') * 1.048576:.0f} MB",
    )
    line("kill −9 to 90 % of rate, session timeout aside", "2 s", "0.5 s", lambda: f"{middle(results['restart']['kill'], 'seconds'):.2f} s")
    line("start of the process to first event committed", "1 s", "0.3 s", lambda: f"{middle(runs['sequences'], 'first_seconds'):.2f} s")
    return "\n".join(lines)


def after(run: dict[str, float]) -> str:
    last = run[f"million_{run['events'] / 1e6:.0f}"]
    return f"{last / run['million_1']:.2f} after {run['events'] / 1e6:.0f} million"


def opened(run: dict[str, float]) -> str:
    return f"{run['open'] / run['before']:.2f} for {run['seconds'] / 60:.0f} min"


def page(results: dict[str, Any], folder: Path) -> str:
    version = subprocess.run(["psql", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    parts = [HEAD.format(machine=services.machine(), postgres=version, settings=results["settings"]), targets(results)]
    writers: dict[str, Callable[[dict[str, Any]], str]] = {
        "throughput": throughput,
        "ceiling": lambda alone: ceiling(alone, results["throughput"]),
        "shapes": shapes,
        "price": sections.price,
        "sagas": sections.sagas,
        "pace": pace,
        "restart": lambda runs: crash(runs, results["throughput"]["sequences"]),
        "million": million,
        "millions": sections.millions,
        "snapshot": sections.snapshot,
        "growth": lambda runs: sections.growth(runs, folder),
        "measured": sections.measured,
    }
    # Some parts compare with the throughput, which is the first group to be measured.
    known = {group for group in results if "throughput" in results or group not in ("ceiling", "restart")}
    parts += [write(results[group]) for group, write in writers.items() if group in known]
    levers = Path(__file__).parent / "levers.md"
    return "\n\n".join([part.strip() for part in [*parts, levers.read_text()]]) + "\n"


def write(results: dict[str, Any], docs: Path) -> None:
    """Writes the page, and its pictures beside it."""
    docs.write_text(page(results, docs.parent))
