"""Free ports."""

import socket

from gateway.system.ports import LOOPBACK, free_port


def test_a_free_port_can_be_bound_at_once() -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind((LOOPBACK, port))
        assert port == server.getsockname()[1]


def test_a_port_that_is_taken_is_not_free() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        taken = server.getsockname()[1]
        assert taken not in {free_port() for _ in range(50)}
