"""The page's later parts: whole checkouts, what lasts, how the rate grows, and what was measured when."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import chart
from figures import Runs, middle, spread

AXES = {
    "batch": ("records in a batch at most", "By batch size"),
    "partitions": ("partitions", "By partitions"),
    "workers": ("workers, 12 partitions", "By workers"),
    "entities": ("accounts", "By accounts"),
    "payload": ("bytes of an event", "By size of an event"),
}

PRICE = [("events_per_second", "{:,.0f}"), ("postgres_us", "{:.1f}"), ("worker_us", "{:.1f}")]


def price(results: dict[str, Any]) -> str:
    lines = [
        "## The price of exactly-once",
        "",
        "Sequences, no journal, in a build with the feature `faults`, in which the worker can do without looking at numbers and ids: it neither finds repeats nor brings what is out of order into it, and writes no marks. Offset, fence and outbox stay.",
        "",
        "| | events/s | PostgreSQL µs | worker µs |",
        "|---|---|---|---|",
    ]
    for name, words in {"judged": "as always", "unjudged": "without"}.items():
        cells = [spread(results[name], key, form) for key, form in PRICE]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"The price: {price_of(results)} of the rate."])


def price_of(results: dict[str, Any]) -> str:
    """How much of the rate goes to judging events."""
    return f"{1 - middle(results['judged']) / middle(results['unjudged']):.1%}"


def sagas(results: dict[str, Any]) -> str:
    lines = [
        "## Checkouts",
        "",
        f"{results['seriatim'][0]['purchases']:,} purchases of two lines over 1,000 items: reserve each line, charge at a gateway that answers at once, commit each line, completed. Twelve records a purchase. **seriatim** is the shipped worker; **textbook** has a row a saga, one transaction a step, four connections and the polled outbox: `benches/textbook/saga.rs`, without what undoes. From the last look without a purchase to the last outcome that can be read. Afterwards each purchase has ended completed once, is paid in full, and the stock is what was received less what was sold.",
        "",
        "| | sagas/s | over textbook | broker µs | PostgreSQL µs | worker µs |",
        "|---|---|---|---|---|---|",
    ]
    base = middle(results["textbook"], "sagas_per_second")
    for name, runs in results.items():
        spent = " | ".join(spread(runs, key) for key in ("broker_us", "postgres_us", "worker_us"))
        rate = spread(runs, "sagas_per_second")
        lines.append(f"| {name} | {rate} | {middle(runs, 'sagas_per_second') / base:.2f} | {spent} |")
    return "\n".join([*lines, "", "µs: of CPU a saga."])


def millions(results: dict[str, Any]) -> str:
    run = results["ids"][0]
    each = rates(run)
    lines = [
        "## After millions",
        "",
        f"One run over {run['events']:,.0f} events that are known by their ids, with a journal row each: events/s of each million.",
        "",
        "| million | " + " | ".join(str(number) for number in range(1, len(each) + 1)) + " |",
        "|---|" + "---|" * len(each),
        "| events/s | " + " | ".join(f"{rate:,.0f}" for rate in each) + " |",
        "",
        f"The last is {each[-1] / each[0]:.2f} times the first. Resident at most: {run['resident_mib']:.0f} MiB.",
    ]
    return "\n".join(lines)


def rates(run: dict[str, float]) -> list[float]:
    """Events a second of each million."""
    return [value for key, value in run.items() if key.startswith("million_")]


def snapshot(results: dict[str, Any]) -> str:
    run = results["sequences, no journal"][0]
    rows = {
        "before": "before",
        "open": "all the time that it is open",
        "open_at_end": "the last 30 s of it",
        "after": "the 30 s after it, while what was left is cleaned up",
    }
    lines = [
        "## A transaction left open",
        "",
        f"Another session begins a transaction (repeatable read), counts the accounts, and stays open for {run['seconds']:.0f} s while the worker is at its full rate (sequences, no journal: what grows by itself would be taken for the other's doing). Meanwhile nothing that was updated can be cleaned up.",
        "",
        "| | events/s | over before |",
        "|---|---|---|",
    ]
    lines += [f"| {words} | {run[name]:,.0f} | {run[name] / run['before']:.2f} |" for name, words in rows.items()]
    return "\n".join(lines)


def growth(results: dict[str, Any], folder: Path) -> str:
    """Draws a picture an axis beside the page."""
    parts = [
        "## Growth",
        "",
        "Events a second, one thing changed at a time: sequences with a journal row each, 10,000 accounts, 4 partitions, 300 bytes, batches of 1000 and one worker where nothing else is said. Counted from a quarter of the events on, so that workers have joined their group. Places stand at equal distances; the scale begins at 0.",
    ]
    for axis, (below, head) in AXES.items():
        found = {name: runs for name, runs in results.items() if name.split()[0] == axis}
        if not found:
            continue
        dots = [dot(runs) for runs in sorted(found.values(), key=lambda runs: runs[0]["at"])]
        file = f"growth-{axis}.svg"
        (folder / file).write_text(chart.draw(f"{head}: events a second", below, dots))
        parts += ["", f"![{head}: {', '.join(f'{dot.name}: {dot.middle:,.0f}' for dot in dots)}]({file})"]
    return "\n".join(parts)


def dot(runs: Runs) -> chart.Dot:
    values = [run["events_per_second"] for run in runs]
    return chart.Dot(f"{runs[0]['at']:,.0f}", median(values), min(values), max(values))


def measured(results: dict[str, Any]) -> str:
    names = {"pace": "latency", "price": "the price of exactly-once", "restart": "crash", "ceiling": "the database alone", "sagas": "checkouts", "million": "memory"}
    names |= {"millions": "after millions", "snapshot": "a transaction left open"}
    lines = ["## What was measured when, and where", "", "| | on | rounds | machine |", "|---|---|---|---|"]
    for group, when in results.items():
        lines.append(f"| {names.get(group, group)} | {when['on']} | {when['rounds']} | {when['machine']} |")
    return "\n".join(lines)
