"""The edges of TLS, with `openssl s_client` and by hand. After each the server still serves."""

import socket
import struct
import subprocess

import pytest

from mail import message
from wire import Wire, submit


@pytest.fixture(autouse=True)
def still_serves(server):
    yield
    server.no_panic()
    assert submit(server.port["submissions"], message("after")).startswith("250")
    with Wire(server.port["submission"]) as wire:
        wire.starttls()
        wire.login()


def s_client(server, listener, *options, say=b"QUIT\n"):
    """What `openssl s_client` prints. Level 0 lets it offer what the server must refuse."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port[listener]}", "-CAfile", str(server.ca),
               "-verify_return_error", "-crlf", "-ign_eof"]
    if listener in ("submission", "smtp"):
        command += ["-starttls", "smtp"]
    done = subprocess.run([*command, *options], input=say, capture_output=True, timeout=30)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("listener", ["submission", "submissions"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_versions_that_are_spoken(server, listener, version):
    words = s_client(server, listener, version)
    assert "Verify return code: 0 (ok)" in words, words
    assert {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version] in words
    assert "221 2.0.0" in words


@pytest.mark.parametrize("listener", ["submission", "submissions"])
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_that_are_refused(server, listener, version):
    words = s_client(server, listener, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in words and "221" not in words, words
    assert "alert protocol version" in words or "alert handshake failure" in words, words


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "NULL", "aNULL", "DES-CBC3-SHA", "RC4"])
def test_weak_suites_are_refused(server, ciphers):
    words = s_client(server, "submissions", "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert "221 2.0.0" not in words, words


def test_no_renegotiation_by_the_client(server):
    words = s_client(server, "submissions", "-tls1_2", say=b"NOOP\nR\nNOOP\nQUIT\n")
    assert words.count("250 2.0.0") < 2 or "RENEGOTIATING" not in words


@pytest.mark.parametrize("listener", ["submission", "smtp"])
def test_octets_behind_starttls_are_never_executed(server, listener):
    """CVE-2011-0411: in one segment with STARTTLS, and as an own one right behind it."""
    with Wire(server.port[listener]) as wire:
        wire.say("EHLO client.example", "250")
        wire.send("STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@example.edu>\r\n")
        reply = wire.reply()
        assert reply.startswith("554 5.5.0"), reply
        assert wire.at_end()
    with Wire(server.port[listener]) as wire:
        wire.say("EHLO client.example", "250")
        wire.send("STARTTLS\r\nNOOP")  # Half a line.
        assert wire.reply()[:3] in ("554", "220")
    with Wire(server.port[listener]) as wire:
        wire.say("EHLO client.example", "250")
        wire.send("STARTTLS\r\n")
        wire.expect("220")
        wire.send("NOOP\r\n")  # No handshake: it ends the connection, and no reply in the clear comes.
        assert b"250" not in drain(wire.socket)


def test_what_was_said_in_the_clear_is_forgotten(server):
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("MAIL FROM:<anna@example.org>", "250")
        wire.starttls()
        wire.say("RCPT TO:<ben@example.edu>", "503 5.5.1")
        wire.say("MAIL FROM:<anna@example.org>", "503 5.5.1")
        assert "STARTTLS" not in wire.say("EHLO client.example", "250")
        wire.say("STARTTLS", "503 5.5.1")


@pytest.mark.parametrize("garbage", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" * 100, b"\0" * 5000])
def test_garbage_on_the_tls_port(server, garbage):
    """Nothing in the clear answers it: at most an alert, then the end."""
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send(garbage)
        answer = drain(wire.socket)
        assert b"220" not in answer and b"ESMTP" not in answer
        assert answer[:1] in (b"", b"\x15"), answer  # 21: alert


def client_hello():
    """The first flight of a real client."""
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@pytest.mark.parametrize("ending", ["close", "reset", "half"])
def test_a_client_that_goes_in_the_middle_of_the_handshake(server, ending):
    hello = client_hello()
    for cut in (1, 5, len(hello) // 2, len(hello)):
        with Wire(server.port["submissions"], greeting=False) as wire:
            wire.send(hello[:cut])
            end(wire.socket, ending)
        with Wire(server.port["submission"]) as wire:
            wire.say("EHLO client.example", "250")
            wire.say("STARTTLS", "220")
            wire.send(hello[:cut])
            end(wire.socket, ending)


def test_a_handshake_octet_by_octet(server):
    hello = client_hello()
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in hello:
            wire.send(bytes([octet]))
        assert wire.socket.recv(1) == b"\x16"  # 22: handshake, the server's turn


def test_close_notify_ends_a_session(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("QUIT", "221")
        wire.socket.unwrap()  # Fails if the server went without its own close_notify.


def end(connection, how):
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half":
        connection.shutdown(socket.SHUT_WR)
        drain(connection)


def drain(connection):
    """All that comes until the end."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data
