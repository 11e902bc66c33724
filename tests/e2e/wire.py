"""A client that says exactly what a test wants it to say."""

import base64
import socket
import ssl


def plain(user, password):
    """The message of AUTH PLAIN, base64."""
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def unverified():
    """TLS without looking at the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Wire:
    """One connection. A reply is its lines joined by newlines, without CRLF."""

    def __init__(self, port, tls=False, greeting=True, timeout=20, source="127.0.0.1", receive_bytes=None):
        """`source`: the client's address, any of 127.0.0.0/8; `receive_bytes`: what its kernel takes for it."""
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""
        if tls:
            self.handshake()
        if greeting:
            self.expect("220 ")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def handshake(self, context=None):
        self.socket = (context or unverified()).wrap_socket(self.socket, server_hostname="localhost")

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        """The next reply; an empty string at the end of the connection."""
        lines = []
        while True:
            while b"\r\n" not in self.buffer:
                try:
                    data = self.socket.recv(65536)
                except (ConnectionResetError, ssl.SSLEOFError):
                    data = b""
                if not data:
                    assert not self.buffer, f"half a reply: {self.buffer!r}"
                    return "\n".join(lines)
                self.buffer += data
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    def expect(self, start):
        """The next reply, whose last line must start so."""
        reply = self.reply()
        assert reply.split("\n")[-1].startswith(start), f"{reply!r}, expected {start!r}"
        return reply

    def say(self, command, start):
        """Sends a command line; its reply, whose last line must start so."""
        self.send(command + "\r\n")
        return self.expect(start)

    def starttls(self):
        self.say("EHLO client.example", "250")
        self.say("STARTTLS", "220")
        assert not self.buffer, f"octets in the clear behind the 220: {self.buffer!r}"
        self.handshake()

    def login(self, user="anna", password="sesame"):
        self.say("EHLO client.example", "250")
        self.say(f"AUTH PLAIN {plain(user, password)}", "235 2.7.0")

    def mail(self, content, sender="anna@example.edu", recipients=("ben@example.org",)):
        """Sends one message; the reply to its end."""
        self.say(f"MAIL FROM:<{sender}>", "250")
        for recipient in recipients:
            self.say(f"RCPT TO:<{recipient}>", "250")
        self.say("DATA", "354")
        self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()

    def at_end(self):
        """Has the server closed?"""
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except (ConnectionResetError, ssl.SSLError):
            return True

    def close(self):
        self.socket.close()


def submit(port, content, **envelope):
    """Sends one message as anna over implicit TLS; the reply to its end."""
    with Wire(port, tls=True) as wire:
        wire.login()
        reply = wire.mail(content, **envelope)
        wire.say("QUIT", "221")
    return reply


def ask(server, content, mail="", recipients=(("ben@example.org", ""),), bdat=False):
    """Submits as anna, with parameters of MAIL and of each RCPT."""
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        wire.say(f"MAIL FROM:<anna@example.edu>{mail}", "250")
        for recipient, parameters in recipients:
            wire.say(f"RCPT TO:<{recipient}>{parameters}", "250")
        if bdat:
            wire.send(b"BDAT %d LAST\r\n" % len(content) + content)
        else:
            wire.say("DATA", "354")
            wire.send(content + b".\r\n")
        wire.expect("250")
