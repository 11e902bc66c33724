"""TLS conversations that no good client has, led by tlslite-ng, which can be made to say anything: each gets its alert, and others are
served as before.

The alert's numbers are those of RFC 8446 section 6.
"""

import socket

import pytest
from tlslite.constants import CipherSuite, ContentType
from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert
from tlslite.handshakesettings import HandshakeSettings
from tlslite.messages import Alert, ApplicationData, ChangeCipherSpec, ClientHello, Heartbeat, Message
from tlslite.tlsconnection import TLSConnection

from mail import message
from wire import submit

UNEXPECTED_MESSAGE, HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, DECODE_ERROR, PROTOCOL_VERSION = 10, 40, 47, 50, 70
NO_RENEGOTIATION = 100


@pytest.fixture(autouse=True)
def still_serves(server):
    yield
    server.no_panic()
    assert submit(server.port["submissions"], message("after")).startswith("250")


def settings(lowest, highest, **more):
    wanted = HandshakeSettings()
    wanted.minVersion, wanted.maxVersion = lowest, highest
    for name, value in more.items():
        setattr(wanted, name, value)
    return wanted


SSL3, TLS10, TLS11, TLS12, TLS13 = (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)


def connected(server, listener="submissions"):
    raw = socket.create_connection(("127.0.0.1", server.port[listener]), timeout=20)
    if listener == "submission":
        stream = raw.makefile("rb")
        stream.readline()
        raw.sendall(b"EHLO odd.example\r\n")
        while stream.readline()[3:4] == b"-":
            pass
        raw.sendall(b"STARTTLS\r\n")
        assert stream.readline().startswith(b"220")
    return raw


def shaken(server, listener, wanted):
    """A connection whose handshake is done, and the greeting or nothing."""
    connection = TLSConnection(connected(server, listener))
    connection.handshakeClientCert(settings=wanted, serverName="localhost")
    return connection


def said(connection, command):
    connection.write(command + b"\r\n")
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.split(b"\r\n")[-2][3:4] == b" "):
        piece = connection.read(min=1, max=16384)
        assert piece, "closed"
        reply += bytes(piece)
    return reply


def alert_after(connection, *messages):
    """Sends messages as they are; the number of the alert that ends it all, or None for an end without."""
    try:
        for one in messages:
            for _ in connection._sendMsg(one):
                pass
        while connection.read(min=1, max=16384):
            pass
    except TLSRemoteAlert as alert:
        return alert.description
    except (TLSAbruptCloseError, ConnectionResetError, BrokenPipeError):
        return None
    return 0  # close_notify


BOTH = pytest.mark.parametrize("listener", ["submissions", "submission"])


# covers: 9.5
@BOTH
@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_control_a_good_conversation(server, listener, version):
    connection = shaken(server, listener, settings(version, version))
    if listener == "submissions":
        assert bytes(connection.read(min=1, max=4096)).startswith(b"220 ")
    assert said(connection, b"EHLO odd.example").startswith(b"250-")
    assert connection.version == version
    assert said(connection, b"QUIT").startswith(b"221")


# covers: 9.5
@BOTH
@pytest.mark.parametrize("version", [SSL3, TLS10, TLS11])
def test_an_old_version(server, listener, version):
    with pytest.raises(TLSRemoteAlert) as refusal:
        shaken(server, listener, settings(version, version))
    assert refusal.value.description in (PROTOCOL_VERSION, HANDSHAKE_FAILURE)


# covers: 9.5
@pytest.mark.parametrize("weak", [
    {"cipherNames": ["rc4"]}, {"cipherNames": ["3des"]}, {"cipherNames": ["aes128", "aes256"]},
    {"keyExchangeNames": ["rsa"]}, {"keyExchangeNames": ["dhe_rsa"]}, {"keyExchangeNames": ["ecdh_anon"]},
], ids=str)
def test_a_weak_suite_alone(server, weak):
    wanted = settings(TLS12, TLS12, **weak)
    with pytest.raises((TLSRemoteAlert, ValueError)) as refusal:
        shaken(server, "submissions", wanted)
    assert refusal.type is TLSRemoteAlert and refusal.value.description == HANDSHAKE_FAILURE, refusal.value


# covers: 9.6
@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_no_renegotiation(server, version):
    """A second ClientHello: an alert, and nothing is run behind it."""
    connection = shaken(server, "submissions", settings(version, version))
    again = ClientHello().create((3, 3), bytearray(32), bytearray(0), [CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256])
    assert alert_after(connection, again) in (UNEXPECTED_MESSAGE, NO_RENEGOTIATION)


# covers: 9.6
def test_no_ticket_and_no_early_data(server):
    connection = shaken(server, "submissions", settings(TLS13, TLS13))
    connection.read(min=1, max=4096)
    said(connection, b"EHLO odd.example")
    assert not connection.tickets


ODD = {
    "heartbeat": lambda: Heartbeat().create(1, b"", 16384),
    "change-cipher-spec": lambda: ChangeCipherSpec().create(),
    "unknown-type": lambda: Message(99, bytearray(b"odd")),
    "half-an-alert": lambda: Message(ContentType.alert, bytearray([2])),
    "key-update-of-nothing": lambda: Message(ContentType.handshake, bytearray([24, 0, 0, 1, 9])),
    "finished-again": lambda: Message(ContentType.handshake, bytearray([20, 0, 0, 12]) + bytearray(12)),
    "endless-handshake-message": lambda: Message(ContentType.handshake, bytearray([1, 255, 255, 255]) + bytearray(100)),
}


# covers: 9.3 11.7
@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_record_in_a_session(server, odd, version):
    """An alert that says whose fault it was, and the end. A command behind it gets no answer."""
    connection = shaken(server, "submissions", settings(version, version))
    connection.read(min=1, max=4096)
    for _ in connection._sendMsg(ODD[odd]()):
        pass
    try:
        said(connection, b"NOOP")
        assert False, "it was answered"
    except TLSRemoteAlert as alert:
        assert alert.description in (UNEXPECTED_MESSAGE, ILLEGAL_PARAMETER, DECODE_ERROR), alert
    except (TLSAbruptCloseError, OSError):
        pass  # The alert was lost behind what the server did not read any more.


# covers: 9.3
@pytest.mark.parametrize("octets, alert", [
    (b"\x16\x03\x01\x00\x00", None),  # An empty handshake record.
    (b"\x17\x03\x03\x00\x05hello", UNEXPECTED_MESSAGE),  # Data before any handshake.
    (b"\x16\x03\x01\x48\x01" + bytes(0x4801), None),  # More than a record may hold.
    (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", None),  # A ServerHello to a server.
    (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", None),  # A ClientHello of one octet.
    (b"\x80\x2e\x01\x00\x02" + bytes(43), None),  # SSL 2.
    (b"\x15\x03\x01\x00\x02\x02\x28", None),  # A fatal alert at once.
], ids=lambda value: value[:8].hex() if isinstance(value, bytes) else str(value))
@BOTH
def test_an_odd_first_record(server, listener, octets, alert):
    """At most an alert answers, and then the end."""
    with connected(server, listener) as raw:
        raw.sendall(octets)
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := raw.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
        assert answer == b"" or (answer[0] == 21 and len(answer) == 7), answer
        if alert:
            assert answer[6:] == bytes([alert]), answer


# covers: 9.2 11.7
@BOTH
def test_a_fatal_alert_of_the_client_ends_the_session(server, listener):
    connection = shaken(server, listener, settings(TLS12, TLS13))
    for _ in connection._sendMsg(Alert().create(HANDSHAKE_FAILURE, 2)):
        pass
    assert alert_after(connection, ApplicationData().create(bytearray(b"NOOP\r\n"))) in (None, 0)
