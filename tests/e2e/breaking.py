"""A next hop that is well but for one fault, at one step of one conversation. What it takes, it counts.

    connect half-banner banner hello half-hello starttls handshake secured auth authenticated
        mail rcpt-1 rcpt-2 .. data 354 body dot taken half-reply replied quit
        bdat half-chunk (then dot and on)
        reply-2 .. (LMTP: before the second reply to the content)

A fault is a function of the connection; it happens the first time that its step is reached, and never again. What was
taken and not answered to the end of the reply is in RFC 1047's window, and may come again: `windows`.
"""

import collections
import contextlib
import re
import select
import socket
import ssl
import struct

from fakes import FakeHost
from mail import lf

# Longer than any time-out of the tests.
PATIENCE_S = 20


class Cut(Exception):
    """The connection is of no more use."""


class Instead(Exception):
    """What was to be answered is answered already."""


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(connection)


def close(connection):
    connection.close()
    raise Cut


def half_close(connection):
    """Says no more and reads on, until the client has closed."""
    connection.shutdown(socket.SHUT_WR)
    silent(connection)


def silent(connection):
    """Reads on and says nothing, until the client has closed."""
    connection.settimeout(PATIENCE_S)
    # What it says is no matter; below TLS, so that a fault in a handshake is the same.
    while socket.socket.recv(connection, 65536):
        pass
    raise Cut


def deaf(connection):
    """Neither reads nor says anything, until the client has given up."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
    poll.poll(PATIENCE_S * 1000)
    raise Cut


def says(octets):
    """A fault: says this, and goes on as if nothing were."""
    return lambda connection: connection.sendall(octets)


def instead(octets):
    """A fault: says this in place of the reply to the command."""
    def fault(connection):
        connection.sendall(octets)
        raise Instead
    return fault


class Breaking(FakeHost):
    """`step`, `fault`: see above. `offers`: keywords of EHLO. `refuses`: replies to RCPT by local part."""

    def __init__(self, step=None, fault=None, lmtp=False, offers=("PIPELINING", "8BITMIME", "SIZE"), refuses=None, tls=None, port=None):
        super().__init__(port)
        self.step, self.fault = step, fault
        self.fired = 0
        self.lmtp, self.offers, self.refuses, self.tls = lmtp, offers, refuses or {}, tls
        # Of each recipient and message: how often it was taken, and how often of those without an answer.
        self.taken = collections.Counter()
        self.windows = collections.Counter()
        # The recipients of each MAIL, in their order; all commands in the clear.
        self.transactions = []
        self.clear = []

    def talk(self, connection):
        conversation = Conversation(self, connection)
        try:
            conversation.run()
        except Cut:
            pass
        finally:
            conversation.close()


class Conversation:
    """One connection to a [`Breaking`]."""

    def __init__(self, host, connection):
        self.host, self.connection = host, connection
        self.unread = b""
        self.secured = False
        self.sender, self.recipients = None, []
        self.rcpts = 0
        # What was taken and is not answered yet.
        self.open = []

    def at(self, step):
        host = self.host
        with host.lock:
            fires = step == host.step and not host.fired and host.fault is not None
            host.fired += fires
        if not fires:
            return
        try:
            host.fault(self.connection)
        except OSError as error:
            raise Cut from error

    def close(self):
        with self.host.lock:
            self.host.windows.update(self.open)
        self.connection.close()

    def say(self, *lines):
        code = lines[0][:3]
        texts = [line[4:] for line in lines]
        reply = "".join(f"{code}{' ' if at == len(texts) - 1 else '-'}{text}\r\n" for at, text in enumerate(texts))
        self.connection.sendall(reply.encode())

    def more(self):
        data = self.connection.recv(65536)
        if not data:
            raise Cut
        self.unread += data

    def octets(self, count):
        while len(self.unread) < count:
            self.more()
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def line(self):
        while b"\n" not in self.unread:
            self.more()
        return self.octets(self.unread.index(b"\n") + 1)

    def command(self):
        line = self.line().rstrip(b"\r\n").decode(errors="replace")
        if not self.secured:
            self.host.clear.append(line)
        return line

    def run(self):
        self.at("connect")
        self.connection.sendall(b"220 break")
        self.at("half-banner")
        self.connection.sendall(b"ing.example.net ESMTP\r\n")
        self.at("banner")
        while True:
            command = self.command()
            verb = command.split(" ")[0].upper()
            act = {"EHLO": self.hello, "LHLO": self.hello, "STARTTLS": self.starttls, "AUTH": self.auth, "MAIL": self.mail,
                   "RCPT": self.rcpt, "DATA": self.data, "BDAT": self.bdat, "QUIT": self.quit}.get(verb)
            if act:
                with contextlib.suppress(Instead):
                    act(command)
            else:
                self.say("250 2.0.0 Ok" if verb in ("RSET", "NOOP") else "502 5.5.1 What?")

    def offered(self):
        return list(self.host.offers)

    def hello(self, _):
        self.at("hello")
        offers = self.offered()
        if self.host.tls and not self.secured:
            offers.append("STARTTLS")
        if self.secured:
            offers.append("AUTH PLAIN")
        self.connection.sendall(b"250-breaking.example.net\r\n250-X")
        self.at("half-hello")
        self.connection.sendall(b"YZ\r\n")
        self.say(*(f"250 {offer}" for offer in offers))

    def starttls(self, _):
        self.at("starttls")
        self.say("220 2.0.0 Go")
        self.handshake()

    def handshake(self):
        self.connection.recv(1, socket.MSG_PEEK)
        self.at("handshake")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.host.tls)
        try:
            self.connection = context.wrap_socket(self.connection, server_side=True)
        except (ssl.SSLError, OSError) as error:
            raise Cut from error
        self.secured, self.unread = True, b""
        self.at("secured")

    def auth(self, _):
        self.at("auth")
        self.say("235 2.7.0 Known")
        self.at("authenticated")

    def mail(self, command):
        self.sender, self.recipients, self.rcpts = command, [], 0
        self.host.transactions.append([])
        self.at("mail")
        self.say("250 2.1.0 Ok")

    def rcpt(self, command):
        self.rcpts += 1
        recipient = re.search("<(.*?)>", command)[1]
        self.host.transactions[-1].append(recipient)
        self.at(f"rcpt-{self.rcpts}")
        refusal = self.host.refuses.get(recipient.split("@")[0])
        if not refusal:
            self.recipients.append(recipient)
        self.say(refusal or "250 2.1.5 Ok")

    def data(self, _):
        self.at("data")
        if not self.recipients:
            return self.say("554 5.5.1 No valid recipients")
        self.say("354 Go ahead")
        self.at("354")
        content = []
        while (line := self.line()) != b".\r\n":
            content.append(line.removeprefix(b"."))
            if len(content) == 20:
                self.at("body")
        # A lone dot, from whom we have told that nobody is taken (RFC 2920 section 3.1).
        if not content:
            return self.say("554 5.6.0 There is nothing in it")
        self.take(b"".join(content))

    def bdat(self, command):
        _, size, *last = command.split(" ")
        self.at("bdat")
        content = self.octets(int(size) // 2)
        self.at("half-chunk")
        content += self.octets(int(size) - len(content))
        assert last, "the client sends one chunk"
        self.take(content)

    def take(self, content):
        self.at("dot")
        message = re.search(rb"(?m)^Message-ID: <(.*?)@", lf(content))[1].decode()
        self.open = [(message, recipient) for recipient in self.recipients]
        with self.host.lock:
            self.host.taken.update(self.open)
        self.at("taken")
        for number in range(len(self.recipients) if self.host.lmtp else 1):
            self.at(f"reply-{number + 1}")
            self.connection.sendall(b"250-2.0.0 I have\r\n250 2.0.0 ")
            self.at("half-reply")
            self.connection.sendall(b"taken it\r\n")
            self.open = self.open[1:] if self.host.lmtp else []
        self.at("replied")

    def quit(self, _):
        self.at("quit")
        self.say("221 2.0.0 Bye")
        raise Cut
