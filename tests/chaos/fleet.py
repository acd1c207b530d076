"""The programs of a run: workers, which are started again whenever they end, the gateway, and the producer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from cluster import alive, state

WORLD = Path(__file__).resolve().parents[1] / "end_to_end"
# An orchestrator would start a program again no sooner.
RESTART_SECONDS = 0.5


@dataclass
class Program:
    """A program under supervision. Each life has a log of its own."""

    name: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    logs: Path
    lives: int = 0
    # Whether the end of this life was brought about: then its code says nothing of the program.
    harmed: bool = False
    wanted: bool = True
    # Its end is the end of its work.
    once: bool = False
    process: subprocess.Popen[bytes] | None = None
    ends: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.lives += 1
        self.harmed = False
        with (self.logs / f"{self.name}-{self.lives}.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=os.environ | self.environment, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> int:
        """Ends it with SIGKILL; gives the process that has died by it."""
        process = self.process
        assert process is not None and self.runs(), f"{self.name} does not run"
        self.harmed = True
        process.kill()
        code = process.wait(10)
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}, not killed"
        return process.pid

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while state(self.pid) != "T":
            assert time.monotonic() < deadline, f"{self.name} is not stopped"
            time.sleep(0.01)

    def thaw(self) -> None:
        if alive(self.pid):
            os.kill(self.pid, signal.SIGCONT)

    def stop(self, seconds: float) -> int | None:
        """Asks it to end and waits; its code, or nothing if it did not end in time and was killed."""
        self.wanted, self.harmed = False, True
        if not self.runs():
            return 0
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def last_words(self) -> str:
        lines = (self.logs / f"{self.name}-{self.lives}.log").read_text(errors="replace").splitlines()
        return lines[-1][:300] if lines else ""

    def logged(self, words: str) -> int:
        """How often the words stand in the logs of all lives."""
        return sum(
            (self.logs / f"{self.name}-{life}.log").read_text(errors="replace").count(words)
            for life in range(1, self.lives + 1)
        )


class Fleet:
    """Keeps programs running."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.programs: list[Program] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        threading.Thread(target=self._watch, name="fleet", daemon=True).start()

    def add(
        self, name: str, command: list[str], environment: dict[str, str], folder: Path = WORLD, *, once: bool = False
    ) -> Program:
        program = Program(name, command, environment, folder, self.logs, once=once)
        program.start()
        with self.lock:
            self.programs.append(program)
        return program

    def python(self, name: str, script: str, *arguments: str, once: bool = False) -> Program:
        """A program of the outside world."""
        command = [sys.executable, "-u", script, *arguments]
        return self.add(name, command, {"PYTHONDONTWRITEBYTECODE": "1"}, once=once)

    def remove(self, program: Program) -> None:
        program.wanted = False

    def stop(self) -> None:
        """Ends whatever still runs."""
        self.over.set()
        with self.lock:
            for program in self.programs:
                if program.runs():
                    program.thaw()
                    program.stop(1)

    def _watch(self) -> None:
        while not self.over.wait(RESTART_SECONDS):
            with self.lock:
                for program in self.programs:
                    self._tend(program)

    def _tend(self, program: Program) -> None:
        if not program.wanted or program.once or program.runs() or program.process is None:
            return
        if not program.harmed:
            code = program.process.returncode
            program.ends.append(f"{program.name} ended by itself with {code}: {program.last_words()}")
        program.start()
