"""Messages between the parent and a worker."""

from __future__ import annotations

import threading

import pytest

from sidecar.server.channel import Channel, Follow, Followed
from sidecar.settings import parse


def test_messages_come_whole_and_in_order() -> None:
    rules = [{"name": f"rule-{number}", "paths": ["/" + "x" * 1000]} for number in range(1000)]
    sent = [Followed(is_done=True), Follow(parse({"rules": rules}), tells=False), Follow(None, tells=True)]
    parent, worker = Channel.pair()

    def send() -> None:  # more than a socket takes at once
        for message in sent:
            parent.send(message)
        parent.close()

    sending = threading.Thread(target=send)
    sending.start()
    received = [worker.receive() for _ in sent]
    sending.join()
    assert received == sent
    with pytest.raises(EOFError):
        worker.receive()
    worker.close()


def test_where_nobody_is_at_the_other_end_nothing_is_sent() -> None:
    parent, worker = Channel.pair()
    worker.close()
    with pytest.raises(OSError, match="Broken pipe"):
        parent.send(Followed(is_done=True))
    parent.close()
