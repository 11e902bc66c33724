"""Real mail programs send, a Maildir receives, and the content is the same byte for byte but for added header fields."""

import itertools

import pytest

from clients import CHOOSES_INITIAL, CLIENTS, Sending
from mail import BODIES, BODY_8BIT, MIME_8BIT, added_fields, lf, message
from wire import Wire, plain, submit

LISTENERS = {"starttls": ["submission", "smtp"], "implicit": ["submissions", "smtps"]}


def ways():
    """Every client, TLS mode, mechanism and form of initial response."""
    for client, tls, mechanism in itertools.product(CLIENTS, LISTENERS, ("PLAIN", "LOGIN")):
        for initial in (True, False) if client in CHOOSES_INITIAL else (True,):
            yield pytest.param(client, tls, mechanism, initial, id=f"{client}-{tls}-{mechanism}-{'ir' if initial else 'no-ir'}")


@pytest.mark.parametrize("client, tls, mechanism, initial", ways())
def test_a_mail_program_sends(server, client, tls, mechanism, initial):
    # Under epoll the content is no other than under io_uring; one body shows that it passes.
    bodies = BODIES if server.settings[""]["io"] == "auto" else {"dots": BODIES["dots"]}
    sent = {f"{listener}-{name}": (listener, body) for listener in LISTENERS[tls] for name, body in bodies.items()}
    for tag, (listener, body) in sent.items():
        sending = Sending(server.port[listener], tls, server.ca, message(tag, body), mechanism, initial,
                          directory=server.directory)
        taken, words = CLIENTS[client](sending)
        assert taken, words[-3000:]
    server.maildir.wait(len(sent))
    for tag, (listener, body) in sent.items():
        content = message(tag, body)
        fields = added_fields(lf(content), server.maildir.find(f"<{tag}@example.edu>"))
        received = [value for name, value in fields if name == "received"]
        assert len(received) == 1 and "with ESMTPSA" in received[0] and "by localhost" in received[0], fields


@pytest.mark.parametrize("client", CLIENTS)
def test_eight_bit_content(server, client):
    content = message("8bit", BODY_8BIT, MIME_8BIT)
    sending = Sending(server.port["submissions"], "implicit", server.ca, content, directory=server.directory)
    taken, words = CLIENTS[client](sending)
    assert taken, words[-3000:]
    added_fields(lf(content), server.maildir.wait(1)[0])


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_wrong_password_is_refused(server, client, mechanism):
    sending = Sending(server.port["submission"], "starttls", server.ca, message("wrong"), mechanism,
                      password="not sesame", directory=server.directory)
    taken, words = CLIENTS[client](sending)
    assert not taken
    assert "5.7.8" in words or "535" in words, words[-3000:]
    unknown, words = CLIENTS[client](Sending(**{**sending.__dict__, "user": "nobody"}))
    assert not unknown and ("5.7.8" in words or "535" in words), words[-3000:]
    assert not server.maildir.files()


def test_unknown_user_and_wrong_password_get_the_same_reply(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO client.example", "250")
        replies = set()
        for user, password in (("anna", "wrong"), ("nobody", "wrong"), ("nobody", "sesame")):
            wire.send(f"AUTH PLAIN {plain(user, password)}\r\n")
            replies.add(wire.reply())
        assert replies == {"535 5.7.8 Authentication credentials invalid"}
        wire.login()


@pytest.mark.parametrize("client", CLIENTS)
def test_no_secret_is_sent_in_the_clear(server, client):
    """AUTH is not offered outside TLS, so that no program sends its password there; nothing is sent either."""
    sending = Sending(server.port["smtp"], "none", server.ca, message("clear"), directory=server.directory)
    taken, words = CLIENTS[client](sending)
    assert not taken, words[-3000:]
    assert "AGFubmEAc2VzYW1l" not in words and "c2VzYW1l" not in words
    assert not server.maildir.files()


def test_auth_in_the_clear_is_refused(server):
    with Wire(server.port["smtp"]) as wire:
        assert "AUTH" not in wire.say("EHLO client.example", "250")
        wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", "538 5.7.11")
        wire.say("AUTH LOGIN", "538 5.7.11")
    with Wire(server.port["submission"]) as wire:
        assert "AUTH" not in wire.say("EHLO client.example", "250")
        wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", "530 5.7.0 Must issue a STARTTLS command first")
        wire.say("MAIL FROM:<anna@example.edu>", "530 5.7.0 Must issue a STARTTLS command first")


@pytest.mark.parametrize("client", CLIENTS)
def test_relaying_without_auth_is_refused(server, client):
    """On role smtp strangers reach local domains only, and learn it in exactly these words."""
    for tls, listener in (("none", "smtp"), ("starttls", "smtp"), ("implicit", "smtps")):
        sending = Sending(server.port[listener], tls, server.ca, message("relay"), None, directory=server.directory)
        taken, words = CLIENTS[client](sending)
        assert not taken, words[-3000:]
        if client != "curl":  # It tells the code only.
            assert "5.7.1 Relaying denied. Authentication required." in words, words[-3000:]
    local = Sending(server.port["smtp"], "none", server.ca, message("local"), None, recipients=("ben@example.edu",),
                    directory=server.directory)
    taken, words = CLIENTS[client](local)
    assert taken, words[-3000:]
    added_fields(lf(local.content), server.maildir.wait(1)[0])


def test_submission_without_auth_is_refused(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO client.example", "250")
        for recipient in ("ben@example.org", "ben@example.edu"):
            wire.say("MAIL FROM:<anna@example.edu>", "530 5.7.0 Authentication required")
            wire.say(f"RCPT TO:<{recipient}>", "530 5.7.0 Authentication required")


def test_missing_date_and_message_id_are_added_on_submission(server):
    bare = b"From: anna@example.edu\r\nSubject: bare\r\n\r\nHi.\r\n"
    submit(server.port["submissions"], bare)
    fields = dict(added_fields(lf(bare), server.maildir.wait(1)[0]))
    assert set(fields) >= {"received", "date", "message-id"}, fields
    assert fields["message-id"].startswith("<") and fields["message-id"].endswith(">")


def test_two_recipients_one_message_each(server):
    content = message("two")
    reply = submit(server.port["submissions"], content, recipients=["ben@example.org", "cleo@example.net"])
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    for arrived in server.maildir.wait(2):
        added_fields(lf(content), arrived)


def test_the_queue_id_of_the_reply_is_in_the_received_field_and_in_the_log(server):
    reply = submit(server.port["submissions"], message("trace"))
    queue_id = reply.split()[-1]
    fields = dict(added_fields(lf(message("trace")), server.maildir.wait(1)[0]))
    assert f"id {queue_id}" in fields["received"]
    server.wait_log(queue_id)


def test_no_secret_and_nothing_raw_in_the_log(server):
    submit(server.port["submissions"], message("quiet"))
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO \u202eevil\\u001b[31m", "500 5.5.2")
        wire.say("EHLO evil\\u001b[31m", "250")
        wire.say("AUTH PLAIN AGFubmEAc2VzYW1l", "538")
        wire.send(b"NOOP \x1b[31m\r\n")
        wire.expect("500 5.5.2")
    server.maildir.wait(1)
    log = server.log.read_bytes()
    for secret in (b"sesame", b"AGFubmEAc2VzYW1l", b"c2VzYW1l", b"\x1b["):
        assert secret not in log
