"""The harness's own tests, without any service: python -m unittest, from this folder."""

from __future__ import annotations

import socket
import threading
import unittest

from proxy import Cut, Loop, Proxy
from report import Bite, Report

STARTUP = (12).to_bytes(4) + b"protocol"
COMMIT = b"Q" + (11).to_bytes(4) + b"commit\0"
SELECT = b"Q" + (13).to_bytes(4) + b"select 1\0"


class Server:
    """Takes one connection and answers each chunk with `done`."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.heard = b""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            try:
                while chunk := connection.recv(4096):
                    self.heard += chunk
                    connection.sendall(b"done")
            except ConnectionError:
                pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Wires(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.wire = Proxy(Loop(), free_port(), self.server.port, postgres=True)
        self.client = socket.create_connection(("127.0.0.1", self.wire.port), timeout=10)
        self.addCleanup(self.server.socket.close)
        self.addCleanup(self.client.close)
        self.say(STARTUP)

    def say(self, message: bytes) -> bytes:
        """What comes back; nothing, if the connection is cut."""
        try:
            self.client.sendall(message)
            return self.client.recv(4096)
        except ConnectionError:
            return b""

    def end(self) -> bytes:
        """All that the server has heard."""
        self.client.close()
        self.server.thread.join(10)
        return self.server.heard

    def test_a_commit_that_is_cut_before_does_not_arrive(self) -> None:
        self.wire.plan.append(Cut.BEFORE)
        self.assertEqual((self.say(SELECT), self.say(COMMIT)), (b"done", b""))
        self.assertEqual((self.end(), self.wire.counts[Cut.BEFORE.value]), (STARTUP + SELECT, 1))

    def test_a_commit_that_is_cut_during_arrives_in_part(self) -> None:
        self.wire.plan.append(Cut.DURING)
        self.assertEqual(self.say(COMMIT), b"")
        self.assertEqual((self.end(), self.wire.counts[Cut.DURING.value]), (STARTUP + COMMIT[:6], 1))

    def test_a_commit_that_is_cut_after_arrives_and_its_answer_does_not(self) -> None:
        self.wire.plan.append(Cut.AFTER)
        self.assertEqual(self.say(COMMIT), b"")
        self.assertEqual((self.end(), self.wire.counts[Cut.AFTER.value]), (STARTUP + COMMIT, 1))

    def test_what_is_not_planned_passes(self) -> None:
        self.assertEqual((self.say(COMMIT), self.say(SELECT)), (b"done", b"done"))
        self.assertEqual(self.wire.cut(), 1)
        self.assertEqual(self.say(SELECT), b"")


class Table(unittest.TestCase):
    def test_a_row_adds_up_its_proofs_and_shows_the_slowest(self) -> None:
        report = Report(1, 3)
        report.bites = [Bite("cut", float(at), 1.0, {"cut": 2, "pids": [7, 8]}, float(at)) for at in range(10)]
        (row,) = report.rows()
        self.assertEqual((row["times"], row["proof"]), (10, "cut: 20, pids: 20"))
        self.assertEqual((row["p50"], row["p99"]), (5.0, 9.0))


if __name__ == "__main__":
    unittest.main()
