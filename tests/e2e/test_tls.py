"""The edges of TLS, with `openssl s_client` and by hand. After each the server still serves."""

import contextlib
import os
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import pytest

from appliance import wait_for
from mail import message
from wire import Wire, submit, unverified


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


# covers: 9.5
@pytest.mark.parametrize("listener", ["submission", "submissions"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_versions_that_are_spoken(server, listener, version):
    words = s_client(server, listener, version)
    assert "Verify return code: 0 (ok)" in words, words
    assert {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version] in words
    assert "221 2.0.0" in words


# covers: 9.5
@pytest.mark.parametrize("listener", ["submission", "submissions"])
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_that_are_refused(server, listener, version):
    words = s_client(server, listener, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in words and "221" not in words, words
    assert "alert protocol version" in words or "alert handshake failure" in words, words


# covers: 9.10
@pytest.mark.parametrize("listener", ["smtp", "submission", "submissions"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_client_certificate_is_asked_for(server, listener, version):
    words = s_client(server, listener, version, "-msg")
    assert "ServerHello" in words and "Certificate" in words, words
    assert "CertificateRequest" not in words


# covers: 9.5
@pytest.mark.parametrize("ciphers", ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "NULL", "aNULL", "DES-CBC3-SHA", "RC4"])
def test_weak_suites_are_refused(server, ciphers):
    words = s_client(server, "submissions", "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert "221 2.0.0" not in words, words


# covers: 9.6
def test_no_renegotiation_by_the_client(server):
    """`R` alone on a line lets s_client try. (With -ign_eof it would be text.)"""
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port['submissions']}", "-tls1_2", "-crlf"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.stdin.write(b"NOOP\n")
    process.stdin.flush()
    words = b""
    while b"250 2.0.0" not in words:
        piece = process.stdout.read1(65536)
        assert piece, words
        words += piece
    process.stdin.write(b"R\n")
    process.stdin.flush()
    words += process.stdout.read()
    process.wait(30)
    assert b"RENEGOTIATING" in words and b"no renegotiation" in words, words


# covers: 8.5 9.2 9.3
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


# covers: 9.1 9.2
def test_what_was_said_in_the_clear_is_forgotten(server):
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("MAIL FROM:<anna@example.org>", "250")
        wire.starttls()
        wire.say("RCPT TO:<ben@example.edu>", "503 5.5.1")
        wire.say("MAIL FROM:<anna@example.org>", "503 5.5.1")
        assert "STARTTLS" not in wire.say("EHLO client.example", "250")
        wire.say("STARTTLS", "503 5.5.1")


# covers: 9.3 9.4 11.7
@pytest.mark.parametrize("garbage", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" * 100, b"\0" * 5000])
def test_garbage_on_the_tls_port(server, garbage):
    """Nothing in the clear answers it: at most an alert, then the end."""
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send(garbage)
        answer = drain(wire.socket)
        assert b"220" not in answer and b"ESMTP" not in answer
        assert answer[:1] in (b"", b"\x15"), answer  # 21: alert


def client_hello(maximum=ssl.TLSVersion.TLSv1_3):
    """The first flight of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = maximum
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


# covers: 9.3 11.7
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


# covers: 7.3
def test_close_notify_ends_a_session(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("QUIT", "221")
        wire.socket.unwrap()  # Fails if the server went without its own close_notify.


# covers: 9.7
@pytest.mark.parametrize("offered, selected", [
    ([], None), (["smtp"], "smtp"), (["h2", "smtp"], "smtp"), (["h2"], False), (["http/1.1"], False), (["imap", "pop3"], False),
])
@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_application_protocols(server, listener, offered, selected):
    """None, our own or a mixture goes on; only foreign ones end with alert 120."""
    context = unverified()
    if offered:
        context.set_alpn_protocols(offered)
    with Wire(server.port[listener], greeting=listener == "submission") as wire:
        if listener == "submission":
            wire.say("EHLO client.example", "250")
            wire.say("STARTTLS", "220")
        if selected is False:
            with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
                wire.handshake(context)
            server.wait_log("another protocol than SMTP")
            return
        wire.handshake(context)
        assert wire.socket.selected_alpn_protocol() == selected
        if listener == "submissions":
            wire.expect("220")
        wire.login()


# covers: 9.6
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_nothing_is_resumed_and_nothing_comes_early(server, version, directory):
    """No ticket is given, a session that a client kept is not taken up, and who was logged in is not in the next one."""
    session, early = directory / "session", directory / "early"
    early.write_text("QUIT\r\n")
    first = s_client(server, "submissions", version, "-sess_out", str(session),
                     say=b"EHLO client.example\nAUTH PLAIN AGFubmEAc2VzYW1l\nQUIT\n")
    assert "235 2.7.0" in first and "Verify return code: 0" in first, first
    assert "Session-ID: \n" in first or version == "-tls1_3", first
    assert "Max Early Data: 0" in first or "New Session Ticket" not in first, first
    assert "TLS session ticket:" not in first and "Compression: NONE" in first, first
    options = ["-sess_in", str(session)] if session.exists() else []
    if version == "-tls1_3":
        options += ["-early_data", str(early)]
    second = s_client(server, "submissions", version, *options,
                      say=b"EHLO client.example\nMAIL FROM:<anna@example.edu>\nQUIT\n")
    assert "530 5.7.0" in second and "\nReused, " not in second and "\nNew, " in second, second
    assert "Early data was accepted" not in second, second


# covers: 9.6
def test_compression_is_never_chosen(server):
    """A hello that offers DEFLATE (RFC 3749) beside none."""
    hello = client_hello(maximum=ssl.TLSVersion.TLSv1_2)
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    assert hello[at:at + 2] == b"\x01\x00", "one method, none"
    changed = hello[:at] + b"\x02\x01\x00" + hello[at + 2:]
    changed = changed[:3] + (len(changed) - 5).to_bytes(2, "big") + changed[5:6] + (len(changed) - 9).to_bytes(3, "big") + changed[9:]
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send(changed)
        answer = wire.socket.recv(4096)
        assert answer[0] == 22 and answer[5] == 2, answer  # A handshake record with a ServerHello.
        behind = 5 + 4 + 2 + 32
        behind += 1 + answer[behind] + 2
        assert answer[behind] == 0, "no compression"


# covers: 9.6
def test_a_client_without_the_extended_master_secret_is_taken(server):
    """Nothing is resumed, which is what the extension protects; old copiers do not know it."""
    hello = client_hello(maximum=ssl.TLSVersion.TLSv1_2)
    assert hello.count(b"\x00\x17\x00\x00") == 1, "the extension, empty"
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send(hello.replace(b"\x00\x17\x00\x00", b"\xfa\xfa\x00\x00"))
        answer = wire.socket.recv(4096)
        assert answer[0] == 22 and answer[5] == 2, answer  # A handshake record with a ServerHello.


@pytest.fixture
def rsa(appliance):
    """A server whose certificate has an RSA key: with it, key exchange by RSA would be possible."""
    server = appliance()
    chain, key = made_by_ca(server.directory, "rsa", ["localhost"], key=["rsa:2048"])
    server.settings["tls"] = {"certificate": chain, "key": key}
    server.write_config()
    with server:
        yield server


# covers: 9.5
@pytest.mark.parametrize("ciphers, spoken", [
    ("ECDHE-RSA-AES128-GCM-SHA256", True), ("ECDHE-RSA-CHACHA20-POLY1305", True), ("AES128-SHA", False),
    ("AES128-GCM-SHA256", False), ("DHE-RSA-AES128-GCM-SHA256", False), ("ECDHE-RSA-AES128-SHA", False),
    ("ECDHE-RSA-AES256-SHA384", False), ("NULL", False), ("aNULL", False),
])
def test_suites_with_an_rsa_certificate(rsa, ciphers, spoken):
    words = s_client(rsa, "submissions", "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert ("221 2.0.0" in words) is spoken, words
    if not spoken:
        rsa.wait_log("no cipher suite in common|no key exchange in common")


@pytest.fixture
def named(appliance):
    """A server with certificates for other names beside the one for localhost."""
    server = appliance()
    server.settings["tls.additional"] = []
    for stem, names in (("one", ["smtp.example.org", "*.dept.example.org"]), ("two", ["smtp.example.net"])):
        chain, key = made_by_ca(server.directory, stem, names)
        server.settings["tls.additional"].append({"certificate": chain, "key": key})
    server.write_config()
    with server:
        yield server


def made_by_ca(directory, stem, names, days=30, key=("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")):
    """A certificate and its key, signed by the CA of `appliance.certificate`."""
    run = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60, cwd=directory)
    (directory / "names").write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n")
    run("req", "-newkey", *key, "-nodes", "-subj", f"/CN={names[0]}", "-keyout", f"{stem}.key", "-out", "request.pem")
    run("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", str(days),
        "-extfile", "names", "-out", f"{stem}.pem")
    return directory / f"{stem}.pem", directory / f"{stem}.key"


def shown(server, name, listener="submissions"):
    """The certificate that a client is shown who asks for `name`, DER."""
    with Wire(server.port[listener], greeting=listener == "submission") as wire:
        if listener == "submission":
            wire.say("EHLO client.example", "250")
            wire.say("STARTTLS", "220")
        wire.socket = unverified().wrap_socket(wire.socket, server_hostname=name)
        return wire.socket.getpeercert(binary_form=True)


def der(path):
    return ssl.PEM_cert_to_DER_cert(path.read_text().split("-----END")[0] + "-----END CERTIFICATE-----\n")


# covers: 9.8 9.9
def test_the_name_asked_for_chooses_the_certificate(named):
    """And SIGHUP reads all of them again, or keeps all of them."""
    one, two, default = (named.directory / name for name in ("one.pem", "two.pem", "certificate.pem"))
    for listener in ("submission", "submissions"):
        for name, file in (("smtp.example.org", one), ("cs.dept.example.org", one), ("smtp.example.net", two),
                           ("localhost", default), ("other.example.org", default), ("a.cs.dept.example.org", default), (None, default)):
            assert shown(named, name, listener) == der(file), name

    old = der(two)
    made_by_ca(named.directory, "two", ["smtp.example.net"], days=0)
    one.write_text("no certificate\n")
    named.reload()
    named.wait_log("certificate not reloaded, the old one stays.*one.pem: no certificate")
    assert shown(named, "smtp.example.net") == old != der(two), "all of them or none"
    made_by_ca(named.directory, "one", ["smtp.example.org"])
    named.reload()
    named.wait_log('certificate reloaded","certificates":"?3')
    named.wait_log("two.pem: the certificate expire[sd] on")
    assert shown(named, "smtp.example.net") == der(two) and shown(named, "smtp.example.org") == der(one)
    assert shown(named, "cs.dept.example.org") == der(default)


# covers: 9.3
def test_a_failed_handshake_is_explained(server):
    """What the log says besides the cause that TLS names."""
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send("EHLO client.example\r\n")
        drain(wire.socket)
    server.wait_log("set to STARTTLS or to no encryption")
    with Wire(server.port["submission"]) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("STARTTLS", "220")
        wire.send("MAIL FROM:<anna@example.edu>\r\n")
        drain(wire.socket)
    server.wait_log("went on in the clear")
    with Wire(server.port["submissions"], greeting=False) as wire:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            wire.handshake(ssl.create_default_context())
    server.wait_log("does not know who issued our certificate")
    s_client(server, "submissions", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    server.wait_log("TLS 1.1 or older")
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send(client_hello())
        wire.socket.recv(1)  # The rest is not read, so this is a reset.
    with Wire(server.port["submissions"], greeting=False) as wire:
        wire.send(client_hello()[:-1])
        wire.socket.shutdown(socket.SHUT_WR)
        drain(wire.socket)
    server.wait_log("closed during the handshake")


# covers: 9.3 11.7
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("listener", ["submission", "submissions"])
def test_a_handshake_cut_at_every_octet(server, listener, version):
    """Everything that a client says up to its first command, cut anywhere, then closed, reset, half-closed, or gone on with
    garbage. The server goes on, and every socket comes back."""
    before = sockets(server)
    endings = ("close", "reset", "half", "garbage")
    cut, total = 0, 1
    while cut < total:
        with Wire(server.port[listener], greeting=listener == "submission") as wire:
            if listener == "submission":
                wire.say("EHLO client.example", "250")
                wire.say("STARTTLS", "220")
            total = shake_up_to(wire.socket, cut, version)
            # Steps of 3 and 1 against four endings: each ending comes at every part.
            how = endings[cut % len(endings)]
            if how == "garbage":
                # More than the longest record takes, whatever length stands in front of it.
                with contextlib.suppress(ConnectionError):
                    wire.socket.sendall(b"\xff\x00garbage\r\n" * 7000)
                answer = drain(wire.socket)
                assert b"ESMTP" not in answer and b"250" not in answer, answer
            else:
                end(wire.socket, how)
        cut += 3 if cut < total - 200 else 1
    wait_for(lambda: sockets(server) <= before, 20, lambda: f"{sockets(server)} sockets, {before} before")


def shake_up_to(connection, cut, version):
    """Shakes hands, but says only the first `cut` octets of it; how many there are in all, as far as it came."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = unverified()
    context.minimum_version = context.maximum_version = version
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    said, done = 0, False
    while True:
        try:
            tls.do_handshake()
            tls.write(b"EHLO client.example\r\n")
            done = True
        except ssl.SSLWantReadError:
            pass
        flight = outgoing.read()
        connection.sendall(flight[:max(0, cut - said)])
        said += len(flight)
        if done:
            return said
        if said >= cut:
            return said + 200
        data = connection.recv(65536)
        assert data, "the server closed a handshake that was whole so far"
        incoming.write(data)


def sockets(server):
    """How many sockets the server has open. (Files come and go with the spool's segments.)"""
    links = []
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:
            pass
    return sum(link.startswith("socket:") for link in links)


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
