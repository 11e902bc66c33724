"""Many idle TLS sessions cost little memory: their buffers go back to the pool."""

import resource
import selectors
import socket
import ssl
import time

import pytest

SESSIONS = 5000
RSS_MIB_MAX = 90


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def greeted(port, context):
    """A session after its handshake, greeting and EHLO; non-blocking from here on."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=30)
    session = context.wrap_socket(raw, server_hostname="localhost")
    assert session.recv(4096).startswith(b"220 ")
    session.sendall(b"EHLO idle\r\n")
    assert b"250 " in session.recv(4096)
    return session


@pytest.mark.slow
def test_five_thousand_idle_tls_sessions(appliance, io):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < SESSIONS + 500:
        pytest.skip(f"needs {SESSIONS + 500} descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with appliance(limits={"connections_per_core": SESSIONS, "idle_timeout_s": 3600, "stranger_timeout_s": 3600, "login_timeout_s": 3600}) as server:
        context = ssl.create_default_context(cafile=server.ca)
        before = resident_mib(server.process.pid)
        sessions = [greeted(server.port["submissions"], context) for _ in range(SESSIONS)]
        # Buffers go back within two ticks of the sweeper.
        time.sleep(2)
        idle = resident_mib(server.process.pid)
        print(f"measured: {io}, {before:.0f} MiB before, {idle:.0f} MiB with {SESSIONS} idle TLS sessions, "
              f"{(idle - before) * 1024 / SESSIONS:.1f} KiB each")
        assert idle < RSS_MIB_MAX
        # They are alive, all of them.
        for session in sessions:
            session.sendall(b"NOOP\r\n")
        with selectors.DefaultSelector() as waiting:
            for session in sessions:
                waiting.register(session, selectors.EVENT_READ)
            answered = set()
            deadline = time.monotonic() + 60
            while len(answered) < SESSIONS and time.monotonic() < deadline:
                for key, _ in waiting.select(1):
                    assert key.fileobj.recv(100) == b"250 2.0.0 Ok\r\n"
                    waiting.unregister(key.fileobj)
                    answered.add(key.fd)
        assert len(answered) == SESSIONS
        for session in sessions:
            session.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
