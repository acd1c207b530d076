"""What processes have used: seconds of CPU and resident memory, as the kernel counts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def seconds(pid: int) -> float:
    """CPU of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def family_seconds(pid: int) -> float:
    """CPU of a server that has a process a connection: those that have ended are counted with their parent."""
    spent = seconds(pid)
    for child in children(pid):
        try:
            spent += seconds(child)
        except FileNotFoundError:  # it ended meanwhile, and its parent has its seconds from the next look on
            continue
    return spent


def resident_mib(pid: int) -> float:
    """Memory at its most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


@dataclass
class Spent:
    """Seconds of CPU by who used them."""

    broker: float
    postgres: float
    worker: float

    def since(self, before: Spent) -> Spent:
        return Spent(
            self.broker - before.broker, self.postgres - before.postgres, self.worker - before.worker
        )
