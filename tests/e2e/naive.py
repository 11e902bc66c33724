"""A relay as naive as the ones of 2023: it takes more than CRLF.CRLF for the end of a message, and passes on octets as they came.

The control of the smuggling tests: behind it one message becomes two.
"""

import re
import smtplib

from fakes import FakeHost


class NaiveRelay(FakeHost):
    """Forwards to `next_hop`. `ending`: a pattern of what it takes for the end."""

    def __init__(self, next_hop, ending=rb"\r?\n\.\r?\n"):
        super().__init__()
        self.next_hop = next_hop
        self.ending = re.compile(ending)

    def talk(self, connection):
        buffer = b""
        connection.sendall(b"220 naive.example.net\r\n")
        sender, recipients = None, []
        while True:
            while b"\n" not in buffer:
                data = connection.recv(65536)
                if not data:
                    return
                buffer += data
            line, _, buffer = buffer.partition(b"\n")
            verb = line[:4].upper()
            if verb == b"MAIL":
                sender, recipients = line.strip()[10:].strip(b"<> "), []
            elif verb == b"RCPT":
                recipients.append(line.strip()[8:].strip(b"<> "))
            elif verb == b"DATA":
                connection.sendall(b"354 Go ahead\r\n")
                while not (found := self.ending.search(buffer)):
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                self.forward(sender, recipients, buffer[: found.start()])
                buffer = buffer[found.end() :]
            elif verb == b"QUIT":
                connection.sendall(b"221 Bye\r\n")
                return
            connection.sendall(b"250 Ok\r\n")

    def forward(self, sender, recipients, content):
        smtp = smtplib.SMTP("127.0.0.1", self.next_hop, timeout=20)
        smtp.ehlo("naive.example.net")
        smtp.mail(sender.decode())
        for recipient in recipients:
            smtp.rcpt(recipient.decode())
        smtp.putcmd("data")
        smtp.getreply()
        smtp.send(content + b"\r\n.\r\n")
        smtp.getreply()
        smtp.close()  # Without QUIT: the replies may be out of step by now.
