"""Runs of one thing as one figure: the median, and the spread."""

from __future__ import annotations

from statistics import median

Runs = list[dict[str, float]]


def spread(runs: Runs, key: str, form: str = "{:,.0f}") -> str:
    values = sorted(run[key] for run in runs)
    middle = form.format(median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(values[0])}–{form.format(values[-1])})"


def middle(runs: Runs, key: str = "events_per_second") -> float:
    return median(run[key] for run in runs)
