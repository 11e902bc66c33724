"""What clients do that mean harm or know no better. Each attack is bounded in count, octets and time, and holds its sockets until it is
told to let go, so that a test can look at the server in between.

Attackers come from addresses in 127.66.0.0/16, a few connections from each; honest clients come from 127.0.0.1.
"""

import contextlib
import random
import socket
import ssl
import struct

from wire import unverified

PATIENCE_S = 20
MIB = 1 << 20


class Attackers:
    """The sockets of one attack, closed at the end of `with`."""

    def __init__(self, server, seed=1):
        self.server = server
        self.open = []
        self.made = 0
        self.random = random.Random(seed)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.open:
            connection.close()
        self.open = []

    def connect(self, listener):
        """A connection that has read nothing yet."""
        self.made += 1
        source = f"127.66.{self.made // 20 % 256}.{self.made // 5120 + 1}"
        connection = socket.create_connection(("127.0.0.1", self.server.port[listener]), timeout=PATIENCE_S, source_address=(source, 0))
        self.open.append(connection)
        return connection

    def at(self, phase, listener="smtp"):
        """A connection that has got as far as `phase`."""
        connection = self.connect("submissions" if phase.startswith("tls") else listener)
        if phase.startswith("tls-") and phase != "tls-raw" or phase == "tls":
            self.open.remove(connection)
            connection = unverified().wrap_socket(connection, server_hostname="localhost")
            self.open.append(connection)
        if phase not in ("connected", "tls-raw"):
            read_reply(connection)
        for line in PHASES[phase]:
            connection.sendall(line + b"\r\n")
            read_reply(connection)
        if phase.endswith("bdat"):
            connection.sendall(b"BDAT 300000\r\nhalf a chunk")
        return connection


PLAIN = b"AUTH PLAIN AGFubmEAc2VzYW1l"  # anna, sesame
ENVELOPE = [b"MAIL FROM:<stranger@example.org>", b"RCPT TO:<ben@example.edu>"]
# How far a session has got, by what was said in it.
PHASES = {
    "connected": [],
    "greeted": [],
    "hello": [b"EHLO attacker.example"],
    "mail": [b"EHLO attacker.example", *ENVELOPE],
    "data": [b"EHLO attacker.example", *ENVELOPE, b"DATA"],
    "bdat": [b"EHLO attacker.example", *ENVELOPE],
    "starttls": [b"EHLO attacker.example", b"STARTTLS"],
    "tls-raw": [],
    "tls": [b"EHLO attacker.example"],
    "tls-auth": [b"EHLO attacker.example", b"AUTH LOGIN"],
    "tls-data": [b"EHLO attacker.example", PLAIN, *ENVELOPE, b"DATA"],
    "tls-bdat": [b"EHLO attacker.example", PLAIN, *ENVELOPE],
}


def read_reply(connection):
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.split(b"\r\n")[-2][3:4] == b" "):
        piece = connection.recv(65536)
        if not piece:
            return reply
        reply += piece
    return reply


def reset(connection):
    """Closes with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until_closed(connection, octets_max=64 * MIB):
    """Reads until the server closes; fails if it does not."""
    total = 0
    with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):
        while piece := connection.recv(65536):
            total += len(piece)
            assert total < octets_max, "it talks without end"


def shove(connection, data):
    """Sends what the server will take; its closing the connection is an answer too."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError, TimeoutError):
        connection.sendall(data)


def slow_clients(attackers):
    """Four hundred that send a command an octet at a time and never end it, in every phase."""
    phases = [phase for phase in PHASES if phase != "connected"]
    for number in range(400):
        attackers.at(phases[number % len(phases)])
    for octet in b"NOOP":
        for connection in attackers.open:
            shove(connection, bytes([octet]))


def never_reading_clients(attackers):
    """Fifty that ask for as much as the server will say, and read nothing: it may stop reading, or end them."""
    for number in range(50):
        connection = attackers.at("tls" if number % 2 else "hello")
        connection.settimeout(0.1)
        shove(connection, b"EHLO attacker.example\r\n" * 40_000)


def connections_and_resets(attackers):
    """A thousand connections, each reset at once or after one step."""
    phases = ["connected", "connected", "connected", "greeted", "data", "starttls", "tls", "tls-data"]
    for number in range(1000):
        connection = attackers.at(phases[number % len(phases)])
        if number % 3 == 0:
            shove(connection, b"HELO x\r\nMAIL FROM:<a@example.org>\r\nDATA\r\nx")
        attackers.open.remove(connection)
        reset(connection)


def half_closes(attackers):
    """The client has said all that it will: the server ends every session."""
    for phase in PHASES:
        if phase.startswith("tls") and phase != "tls-raw":
            connection = attackers.at(phase)
            raw = socket.socket(fileno=connection.detach())  # Under TLS, without its close_notify.
            attackers.open.remove(connection)
            attackers.open.append(raw)
            raw.settimeout(PATIENCE_S)
            connection = raw
        else:
            connection = attackers.at(phase)
            if phase == "hello":
                connection.sendall(b"NOOP\r\nNO")
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)


def long_lines(attackers):
    """Lines of 8 MiB without an end, as a command, as an answer in AUTH, as content, in a size and in a handshake's place."""
    for phase, front in (("hello", b""), ("hello", b"NOOP "), ("hello", b"MAIL FROM:<"), ("hello", b"BDAT "), ("mail", b"BDAT 1"),
                         ("greeted", b"EHLO "), ("tls-auth", b""), ("tls", b"AUTH PLAIN "), ("starttls", b"")):
        connection = attackers.at(phase)
        shove(connection, front + b"9" * 8 * MIB + b"\r\n")
        shove(connection, b"QUIT\r\n")
        until_closed(connection)
    for phase in ("data", "tls-data"):
        connection = attackers.at(phase)
        connection.sendall(b"Subject: long\r\n\r\n" + b"9" * 8 * MIB + b"\r\n.\r\n")
        assert read_reply(connection)[:3] in (b"250", b"554", b"500", b"552", b"550")
        connection.sendall(b"QUIT\r\n")
        assert read_reply(connection).startswith(b"221")


def garbage(attackers):
    """Random octets in every phase, then the end of the client's side."""
    for phase in PHASES:
        for size in (1, 3, 100, 5000, 200_000):
            for line_ends in (False, True):
                connection = attackers.at(phase)
                octets = attackers.random.randbytes(size)
                if line_ends:
                    octets = octets.replace(b"\0", b"\r\n")
                shove(connection, octets)
                if isinstance(connection, ssl.SSLSocket):
                    attackers.open.remove(connection)
                    connection.close()
                else:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                    until_closed(connection)


def garbage_under_tls(attackers):
    """Records that no handshake made: behind a good one, in clear octets, on the same connection."""
    for phase in ("tls", "tls-auth", "tls-data"):
        for octets in (b"NOOP\r\n" * 100, b"\x17\x03\x03\x00\x20" + bytes(32), b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x03\xff\xff" * 50):
            connection = attackers.at(phase)
            raw = socket.socket(fileno=connection.detach())
            attackers.open.remove(connection)
            attackers.open.append(raw)
            raw.settimeout(PATIENCE_S)
            shove(raw, octets)
            until_closed(raw)


def cut_handshakes(attackers):
    """Handshakes that end at every octet of the client's two flights, closed or reset in turn."""
    for listener in ("submissions", "smtp"):
        first, second = flights(attackers, listener)
        for cut in range(len(first) + len(second) + 1):
            connection = attackers.at("tls-raw") if listener == "submissions" else attackers.at("starttls")
            handshake = Handshake()
            hello = handshake.flight()
            shove(connection, hello[: cut])
            if cut > len(first):
                handshake.answered(connection)
                shove(connection, handshake.flight()[: cut - len(first)])
            attackers.open.remove(connection)
            reset(connection) if cut % 2 else connection.close()


class Handshake:
    """A client's side of TLS without a socket."""

    def __init__(self):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = unverified().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def flight(self):
        """What the client says next."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def answered(self, connection):
        """Reads the server's flight: until the client has something to say."""
        while not self.outgoing.pending:
            self.incoming.write(connection.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                return


def flights(attackers, listener):
    connection = attackers.at("tls-raw") if listener == "submissions" else attackers.at("starttls")
    handshake = Handshake()
    first = handshake.flight()
    connection.sendall(first)
    handshake.answered(connection)
    return first, handshake.flight()


ATTACKS = [slow_clients, never_reading_clients, connections_and_resets, half_closes, long_lines, garbage, garbage_under_tls, cut_handshakes]
