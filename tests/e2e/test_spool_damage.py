"""What happened to the spool's files while the server was stopped is said at the next start, and the rest is delivered."""

import os

import pytest
from mail import message
from wire import submit

MESSAGES = 6


@pytest.mark.parametrize("left", [100, 20_000])
def test_a_segment_that_was_cut_off(appliance, left):
    server = appliance(top={"cores": 1}, relay={"paused": True})
    with server:
        for number in range(MESSAGES):
            assert submit(server.port["submissions"], message(f"cut{number}")).startswith("250")
    segments = (server.directory / "spool/segments").iterdir()
    (segment,) = [path for path in segments if b"cut0" in path.read_bytes()]
    os.truncate(segment, left)
    server.settings["relay"]["paused"] = False
    server.write_config()
    with server:
        server.wait_log(r'"level":"error".*segment was cut off.*' + segment.name)
        server.wait_log(r'"event":"relay started"', times=1)
        assert submit(server.port["submissions"], message("after")).startswith("250")
        server.maildir.find("after")
    # What stood before the cut is whole.
    assert 1 <= len(server.maildir.files()) <= MESSAGES
