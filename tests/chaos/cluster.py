"""The services of a run: three brokers, a PostgreSQL and its standby. Started by a script, harmed from here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "dev/lib/cluster.sh"
BROKERS = (1, 2, 3)
SERVERS = (1, 2)
FULL_PAGE = b"\0" * (1 << 20)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state(pid: int) -> str:
    """The kernel's letter for what a process does; `T` is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_for(what: str, seconds: float, holds: object) -> None:
    """Looks until `holds()`; an error past the bound."""
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)


@dataclass
class Service:
    """One process of the cluster, with its volume and its log."""

    script: list[str]
    number: int
    kind: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        place = self.folder / ("pid" if self.kind == "kafka" else "data/postmaster.pid")
        try:
            pid = int(place.read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        return pid if alive(pid) else None

    def harm(self, number: signal.Signals) -> int:
        """Sends a signal; gives the process that got it."""
        pid = self.pid
        assert pid is not None, f"{self.name} does not run"
        os.kill(pid, number)
        return pid

    def end(self, number: signal.Signals) -> int:
        """Ends it at once; gives the process that has died."""
        pid = self.harm(number)
        wait_for(f"the end of {self.name}", 30, lambda: not alive(pid))
        return pid

    def launch(self) -> subprocess.Popen[bytes]:
        """Begins to start it; the script waits until it answers."""
        return subprocess.Popen([*self.script[:2], self.kind, *self.script[2:], str(self.number)])

    def start(self) -> None:
        """Starts it and waits until it answers."""
        if self.pid is None:
            code = self.launch().wait()
            assert code == 0, f"{self.name} did not start: {code}"

    def fill(self) -> Path:
        """Fills its volume to the last byte; gives the file that does."""
        ballast = self.folder / "data/ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(FULL_PAGE)
            except OSError:
                pass
        return ballast


class Cluster:
    """All five services. Ports follow from one, see the script."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.script = ["bash", str(SCRIPT), str(folder), str(port)]
        self.brokers = [Service(self.script, number, "kafka", folder / f"kafka-{number}") for number in BROKERS]
        self.servers = [Service(self.script, number, "postgres", folder / f"postgres-{number}") for number in SERVERS]
        self.primary = self.servers[0]

    def act(self, action: str, *arguments: object) -> None:
        command = [*self.script[:2], action, *self.script[2:], *map(str, arguments)]
        subprocess.run(command, check=True)

    def client_port(self, broker: Service) -> int:
        """Where the broker listens for clients; these know it by its proxy."""
        return self.port + 20 + broker.number

    def proxy_port(self, broker: Service) -> int:
        return self.port + 30 + broker.number

    def server_port(self, server: Service) -> int:
        return self.port + 40 + server.number

    def standby_port(self, server: Service) -> int:
        """Where the other server follows this one, through a proxy."""
        return self.port + 50 + server.number

    def url(self, database: str) -> str:
        """The primary's, past all proxies."""
        return f"postgres://postgres@127.0.0.1:{self.server_port(self.primary)}/{database}"

    def revive(self, services: list[Service]) -> None:
        """Starts those of them that do not run."""
        down = [service for service in services if service.pid is None]
        # Together: a broker answers only once a majority is there.
        for service, launched in [(service, service.launch()) for service in down]:
            code = launched.wait()
            assert code == 0, f"{service.name} did not start: {code}"
