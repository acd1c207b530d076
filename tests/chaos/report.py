"""What a run has to show: what was done, what each fault left as proof, how long recovery took, what was found."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stage import Proof


@dataclass
class Bite:
    """One fault."""

    kind: str
    at: float
    lasted: float
    proof: Proof
    # Seconds from the healing until all that had come was read.
    recovered: float | None = None


@dataclass
class Report:
    """Of one run."""

    seed: int
    minutes: float
    bites: list[Bite] = field(default_factory=list)
    operations: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def rows(self) -> list[dict[str, object]]:
        """A row a kind of fault, with what its proofs add up to."""
        by_kind: dict[str, list[Bite]] = defaultdict(list)
        for bite in self.bites:
            by_kind[bite.kind].append(bite)
        return [self._row(kind, bites) for kind, bites in sorted(by_kind.items())]

    def _row(self, kind: str, bites: list[Bite]) -> dict[str, object]:
        sums: Counter[str] = Counter()
        for bite in bites:
            for name, proof in bite.proof.items():
                if name in ("pid", "started again as", "seconds", "records taken then", "promoted"):
                    continue
                sums[name] += proof if isinstance(proof, int) else len(proof) if isinstance(proof, list) else 1
        recovered = sorted(bite.recovered for bite in bites if bite.recovered is not None)
        return {
            "fault": kind,
            "times": len(bites),
            "proof": ", ".join(f"{name}: {count}" for name, count in sums.items()),
            "recovered": len(recovered),
            "p50": _share(recovered, 0.5),
            "p99": _share(recovered, 0.99),
        }

    def markdown(self) -> str:
        lines = [f"Seed {self.seed}, {self.minutes:g} minutes of faults, {len(self.bites)} faults.", ""]
        lines += ["| what | count |", "|---|---|"]
        lines += [f"| {name} | {count:,} |" for name, count in self.operations.items()]
        lines += ["", "| fault | times | proof | back at work, p50 | p99 |", "|---|---|---|---|---|"]
        for row in self.rows():
            lines.append(f"| {row['fault']} | {row['times']} | {row['proof']} | {row['p50']} s | {row['p99']} s |")
        if self.ends:
            lines += ["", "Programs that ended by themselves and were started again:", ""]
            lines += [f"- {count} times: {end}" for end, count in Counter(self.ends).most_common()]
        lines += ["", f"Findings: {len(self.findings) or 'none'}", ""]
        lines += [f"- {finding}" for finding in self.findings]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """As a page and as data."""
        (folder / "report.md").write_text(self.markdown())
        (folder / "report.json").write_text(json.dumps(asdict(self) | {"rows": self.rows()}, indent=1, default=str))


def _share(sorted_values: list[float], share: float) -> float | None:
    if not sorted_values:
        return None
    return round(sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))], 1)
