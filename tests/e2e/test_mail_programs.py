"""Mail libraries of many languages and the programs that people sit at send with a password, on port 587 and on port 465.

What they were given arrives the same byte for byte; of the programs that compose a message of their own, its body.
"""

import itertools

import pytest

from clients import Sending
from mail import BODIES, BODY_8BIT, MIME_8BIT, added_fields, lf, message
from mail_programs import LIBRARIES, PROGRAMS, built, with_library

WAYS = [("submission", "starttls"), ("submissions", "implicit")]
BODY = BODIES["dots"] + b"The end.\r\n"


@pytest.fixture(params=LIBRARIES)
def library(request):
    built(request.param)
    return request.param


# covers: 3.4 5.1 6.6 9.4 10.2
def test_a_library_sends(server, library):
    how = LIBRARIES[library]
    contents = {"dots": message("dots", BODY)}
    if server.settings[""]["io"] == "auto":
        contents["long-lines"] = message("long-lines", BODIES["long-lines"])
        contents["8bit"] = message("8bit", BODY_8BIT, MIME_8BIT)
    sent = []
    for (listener, tls), mechanism, (name, content) in itertools.product(WAYS, how.mechanisms, contents.items()):
        tag = f"<{tls}-{mechanism}-{name}@example.edu>".encode()
        content = content.replace(f"<{name}@example.edu>".encode(), tag)
        taken, words = with_library(library, Sending(server.port[listener], tls, server.ca, content, mechanism))
        assert taken, words[-3000:]
        sent.append((tag, content))
    arrived = server.maildir.wait(len(sent))
    for tag, content in sent:
        [found] = [one for one in arrived if tag in one]
        received = [value for field, value in added_fields(lf(content), found) if field == "received"]
        assert len(received) == 1 and "SMTPSA" in received[0], received


# covers: 10.1
def test_a_library_is_told_that_the_password_is_wrong(server, library):
    for mechanism in LIBRARIES[library].mechanisms:
        sending = Sending(server.port["submission"], "starttls", server.ca, message("wrong"), mechanism, password="not sesame")
        taken, words = with_library(library, sending)
        assert not taken and "5.7.8" in words, words[-3000:]
    assert not server.maildir.files()


# covers: 3.4 5.1 6.6 9.4 10.2
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_sends(server, program):
    send, mechanisms = PROGRAMS[program]
    sent = 0
    for (listener, tls), mechanism in itertools.product(WAYS, mechanisms):
        sending = Sending(server.port[listener], tls, server.ca, message("composed", BODY), mechanism, directory=server.directory)
        taken, words = send(sending)
        assert taken, words[-3000:]
        sent += 1
    for arrived in server.maildir.wait(sent):
        header, _, body = arrived.partition(b"\n\n")
        assert body == lf(BODY)
        assert b"with ESMTPSA" in header and b"anna@example.edu" in header


# covers: 10.1
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_is_told_that_the_password_is_wrong(server, program):
    for listener, tls in WAYS:
        sending = Sending(server.port[listener], tls, server.ca, message("wrong", BODY), password="not sesame",
                          directory=server.directory)
        taken, words = PROGRAMS[program][0](sending)
        assert not taken, words[-3000:]
        server.wait_log("authentication failed")
    assert not server.maildir.files()
