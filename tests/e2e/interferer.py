"""What sits between a client and its server and means well: virus scanners, firewalls and guest networks that take STARTTLS away.

`Interferer` is a proxy on a loopback port. It keeps every octet that a client sent through it, for the test to look at.
"""

import re
import socket
import threading

from fakes import FakeHost


ANSWERS = {
    "strips": b"502 5.5.1 Command not implemented\r\n",
    "454": b"454 4.3.0 TLS not available due to local problem\r\n",
    "500": b"500 5.5.1 Command unrecognized: \"STARTTLS\"\r\n",
}


class Interferer(FakeHost):
    """Between clients and `server`, in one of these ways:

    "passes"   changes nothing: the control
    "strips"   leaves the line STARTTLS out of the reply to EHLO, and knows no such command
    "rewrites" puts XXXXXXXA in its place, and Xs in the place of the command, as some firewalls do
    "no-ehlo"  puts Xs in the place of EHLO, so that the client goes back to HELO
    "454", "500"  answers STARTTLS itself, with that code
    """

    WAYS = ("strips", "rewrites", "no-ehlo", "454", "500")

    def __init__(self, server, way):
        super().__init__()
        self.server = server
        self.way = way
        self.sent = bytearray()

    def talk(self, connection):
        with socket.create_connection(("127.0.0.1", self.server), timeout=60) as onward:
            threading.Thread(target=self.downward, args=(onward, connection), daemon=True).start()
            self.upward(connection, onward)

    def upward(self, client, server):
        """The client's commands; after STARTTLS was let through, whatever comes."""
        secured = False
        pieces = client.makefile("rb")
        while data := pieces.read1(65536) if secured else pieces.readline():
            self.sent += data
            verb = data.strip().upper()
            if not secured and verb == b"STARTTLS":
                if self.way in ANSWERS:
                    client.sendall(ANSWERS[self.way])
                    continue
                secured = self.way == "passes"
                data = b"XXXXXXXX\r\n" if self.way == "rewrites" else data
            elif not secured and self.way == "no-ehlo" and verb.startswith(b"EHLO"):
                data = b"XXXX" + data[4:]
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    def downward(self, server, client):
        """The server's replies; those of EHLO come in one piece."""
        try:
            while data := server.recv(65536):
                if self.way == "strips":
                    data = re.sub(rb"(?m)^250-STARTTLS\r\n", b"", data)
                elif self.way == "rewrites":
                    data = re.sub(rb"(?m)^250-STARTTLS\r\n", b"250-XXXXXXXA\r\n", data)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
