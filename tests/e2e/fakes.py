"""Next hops that misbehave on purpose, and one that keeps a ledger. Each is a thread on a loopback port."""

import socket
import threading
import time

from appliance import free_port


class FakeHost:
    """Accepts connections and hands each to `talk` in a thread of its own."""

    def __init__(self, port=None, host="127.0.0.1"):
        self.port = port or free_port()
        self.host = host
        self.connections = 0
        self.open = set()
        self.lock = threading.Lock()

    def __enter__(self):
        self.listener = socket.create_server((self.host, self.port), backlog=128)
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            left = list(self.open)
        for connection in left:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with self.lock:
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.talk(connection)
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(connection)

    def talk(self, connection):
        raise NotImplementedError


class Silent(FakeHost):
    """Accepts and says nothing."""

    def talk(self, connection):
        while connection.recv(4096):
            pass


class Garbled(FakeHost):
    """Speaks no SMTP."""

    def talk(self, connection):
        connection.sendall(b"\x00\xff\x01 HTTP/1.1 200 maybe\r\n\x1b[31mred\r\n" * 3)
        while connection.recv(4096):
            pass


class Sink(FakeHost):
    """A working next hop that keeps what it is given.

    `lmtp`: one reply per recipient after the dot. `replies`: what to answer instead, by command prefix ("RCPT TO:<nobody",
    "DATA", ".", "STARTTLS", "" for the greeting). `offers`: keywords of EHLO.
    """

    def __init__(self, port=None, lmtp=False, replies=None, offers=("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE"), keep=None,
                 host="127.0.0.1"):
        super().__init__(port, host)
        self.lmtp = lmtp
        self.replies = replies or {}
        self.offers = offers
        # (time, sender, recipients, content) of each message, in the order of their ends.
        self.messages = []
        self.keep = keep or (lambda *message: self.messages.append(message))

    def scripted(self, command, usual):
        """The reply to a command: the script's, if it has one."""
        for prefix, reply in self.replies.items():
            if prefix and command.upper().startswith(prefix.upper()) or command == prefix:
                return reply
        return usual

    def talk(self, connection):
        stream = connection.makefile("rb")
        say = lambda reply: connection.sendall(reply.encode() + b"\r\n")
        say(self.scripted("", "220 sink.example.net"))
        sender, recipients = None, []
        while line := stream.readline():
            command = line.decode(errors="replace").rstrip("\r\n")
            verb = command[:4].upper()
            if verb in ("EHLO", "LHLO"):
                lines = ["sink.example.net", *self.offers]
                say("\r\n".join(f"250{' ' if at == len(lines) - 1 else '-'}{line}" for at, line in enumerate(lines)))
            elif verb == "MAIL":
                reply = self.scripted(command, "250 2.1.0 Ok")
                sender = command[10:].split(">")[0].lstrip("<") if reply[0] == "2" else None
                recipients = []
                say(reply)
            elif verb == "RCPT":
                reply = self.scripted(command, "250 2.1.5 Ok") if sender is not None else "503 5.5.1 MAIL first"
                if reply[0] == "2":
                    recipients.append(command[8:].split(">")[0].lstrip("<"))
                say(reply)
            elif verb == "DATA":
                if not recipients:
                    say("503 5.5.1 No valid recipients")
                    continue
                reply = self.scripted(command, "354 Go ahead")
                say(reply)
                if reply[0] == "3":
                    self.data(stream, say, sender, recipients)
                recipients = []
            elif verb == "QUIT":
                return say("221 2.0.0 Bye")
            else:
                say(self.scripted(command, "250 2.0.0 Ok" if verb in ("RSET", "NOOP") else "502 5.5.1 What?"))

    def data(self, stream, say, sender, recipients):
        content = []
        while (line := stream.readline()) != b".\r\n":
            if not line:
                return  # The connection broke: nothing was sent.
            content.append(line[1:] if line.startswith(b".") else line)
        reply = self.scripted(".", "250 2.0.0 Ok")
        if reply == "hang up":
            raise OSError("as the script says")
        if reply[0] == "2":
            self.keep(time.monotonic(), sender, recipients, b"".join(content))
        for _ in recipients if self.lmtp else recipients[:1]:
            say(reply)
