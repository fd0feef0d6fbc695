"""deploy/kafka/healthy.sh: the broker answers Kafka's protocol, a listening port is not enough."""

import socket
import subprocess
import threading

import pytest

from tests.support.services import REPOSITORY, KafkaServer, free_port

pytestmark = pytest.mark.service


def asked(port: int) -> int:
    command = ["bash", str(REPOSITORY / "deploy" / "kafka" / "healthy.sh"), "127.0.0.1", str(port)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def test_a_broker_that_answers_is_healthy(kafka_server: KafkaServer) -> None:
    assert asked(kafka_server.port) == 0


def test_nothing_that_listens_is_not() -> None:
    assert asked(free_port()) != 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_speaks_otherwise_is_not(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        speaker = threading.Thread(target=speak)
        speaker.start()
        assert asked(listener.getsockname()[1]) != 0
        speaker.join()
