"""Succeeds if a Kafka broker answers: ApiVersions, then Metadata with at least one live broker and a controller.

An open port is not enough: a broker listens before it has joined its cluster, and refuses topics until then.
"""

import socket
import struct
import sys

API_VERSIONS, METADATA = 18, 3


def ask(connection: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Sends one request and returns the answer's body."""
    client = b"dev-services"
    request = struct.pack(">hhih", api, version, api, len(client)) + client + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", receive(connection, 4))
    answer = receive(connection, length)
    (correlation,) = struct.unpack_from(">i", answer)
    if correlation != api:
        raise ValueError("answer to another request")
    return answer[4:]


def receive(connection: socket.socket, length: int) -> bytes:
    """Reads exactly so many bytes."""
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("closed by the other side")
        data += part
    return data


def controller_and_brokers(answer: bytes) -> tuple[int, int]:
    """Reads Metadata version 1: brokers (id, host, port, rack), then the controller's id."""
    (count,) = struct.unpack_from(">i", answer)
    at = 4
    for _ in range(count):
        at += 4
        (host,) = struct.unpack_from(">h", answer, at)
        at += 2 + host + 4
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)
    (controller,) = struct.unpack_from(">i", answer, at)
    return controller, count


def main() -> int:
    """Asks the broker at the given host and port."""
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as connection:
        connection.settimeout(5)
        (error,) = struct.unpack_from(">h", ask(connection, API_VERSIONS, 0, b""))
        if error:
            return 1
        controller, brokers = controller_and_brokers(ask(connection, METADATA, 1, struct.pack(">i", 0)))
        return 0 if brokers > 0 and controller >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
