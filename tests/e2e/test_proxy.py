"""Who the client is when a proxy speaks for it: real HAProxy with PROXY headers of both versions, a real nginx and swaks with
XCLIENT, and headers by hand. Clients and proxies are told apart by their loopback addresses."""

import http.server
import re
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from appliance import free_port, wait_for
from mail import message
from test_tls import client_hello, sockets
from wire import Wire, plain, unverified

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TRUSTED, STRANGER = "127.0.0.2", "127.0.0.3"


def binary(command, family=0x11, rest=None, source=STRANGER):
    """A header of version 2."""
    if rest is None:
        rest = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4444, 25)
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(rest)) + rest


def text(source=STRANGER):
    return f"PROXY TCP4 {source} 127.0.0.1 4444 25\r\n".encode()


def listeners_of(server, **keys):
    for listener in server.settings["listener"]:
        listener.update(keys)
    server.write_config()


@pytest.fixture
def behind_proxy(appliance):
    """A server whose every listener wants a PROXY header from 127.0.0.1. The proxy's own network is trusted."""
    server = appliance(top={"trusted_networks": ["127.0.0.1/32", f"{TRUSTED}/32"]})
    listeners_of(server, proxy_from=["127.0.0.1"])
    with server:
        yield server


def relays(wire):
    """May this client, who has not authenticated, send to anyone? The connection is as new."""
    wire.say("EHLO client.example", "250")
    wire.say("MAIL FROM:<anna@example.edu>", "250")
    wire.send("RCPT TO:<ben@elsewhere.example>\r\n")
    reply = wire.reply()
    assert reply.startswith(("250 2.1.5", "550 5.7.1")), reply
    return reply.startswith("250")


# covers: 2.10 2.11
@pytest.mark.parametrize("header, trusted", [
    (text(TRUSTED), True),
    (text(STRANGER), False),
    (text("127.0.0.1"), True),
    (b"PROXY UNKNOWN\r\n", False),
    (b"PROXY UNKNOWN 127.0.0.2 127.0.0.1 1 2\r\n", False),
    (binary(0x21, source=TRUSTED), True),
    (binary(0x21, source=STRANGER), False),
    (binary(0x20), True),
    (binary(0x21, 0x00, b""), False),
    (binary(0x21, 0x31, b"\0" * 216), False),
    (binary(0x21, 0x11, socket.inet_aton(TRUSTED) * 2 + b"\0\1\0\2" + b"\4\0\3abc"), True),
])
def test_who_is_trusted_by_a_header(behind_proxy, header, trusted):
    """The client that the header names, never the proxy for a client that it does not name."""
    for listener in ("smtp", "smtps"):
        with Wire(behind_proxy.port[listener], greeting=False) as wire:
            wire.send(header)
            if listener == "smtps":
                wire.handshake()
            wire.expect("220 ")
            assert relays(wire) is trusted


# covers: 2.10
@pytest.mark.parametrize("listener", ["submission", "submissions"])
@pytest.mark.parametrize("start", [
    b"EHLO client.example\r\n",
    b"QUIT\r\n",
    b"PROXY\r\n",
    b"PROXY TCP4 127.0.0.2 127.0.0.1 1\r\n",
    b"PROXY UNKNOWN " + b"x" * 200,
    SIGNATURE + b"\x11\x11\0\0",
    SIGNATURE + b"\x21\x11\0\1x",
    SIGNATURE + b"\x21\x11\xff\xff",
    b"\x16\x03\x01",
])
def test_without_a_header_it_is_closed_without_a_greeting(behind_proxy, listener, start):
    with Wire(behind_proxy.port[listener], greeting=False) as wire:
        wire.send(start)
        assert wire.at_end(), "not one octet, and the end"
    behind_proxy.wait_log("no PROXY header")


# covers: 2.10
def test_a_header_that_is_late(behind_proxy):
    """Silent, half a header, and a header that never gets on: each ends by itself, without an octet."""
    wires = [Wire(behind_proxy.port[listener], greeting=False, timeout=30) for listener in ("smtp", "smtps") for _ in range(3)]
    for wire in wires[1::3]:
        wire.send(text()[:20])
    for wire in wires[2::3]:
        threading.Thread(target=drip, args=(wire,), daemon=True).start()
    for wire in wires:
        assert wire.at_end()
        wire.close()
    behind_proxy.wait_log("no PROXY header", times=len(wires))


# covers: 2.10 11.3
def test_who_is_displaced_before_the_header_is_told_and_counted(appliance):
    server = appliance(top={"cores": 1}, limits={"connections_per_core": 8, "connections_exempt_networks": []})
    listeners_of(server, proxy_from=["127.0.0.1"])
    with server:
        # Seven strangers fit; the one that has waited longest goes.
        first = Wire(server.port["smtp"], greeting=False)
        second = Wire(server.port["smtps"], greeting=False)
        others = [Wire(server.port["smtp"], greeting=False) for _ in range(7)]
        assert first.reply().startswith("421 4.3.2") and first.at_end()
        assert second.at_end(), "in the clear a client of implicit TLS is told nothing"
        server.wait_log('"event":"displaced"', times=2)
        for wire in [first, second, *others]:
            wire.close()


def drip(wire):
    """An octet a second, of a header that would take a minute."""
    try:
        for octet in b"PROXY UNKNOWN " + b"x" * 46:
            wire.send(bytes([octet]))
            threading.Event().wait(1)
    except OSError:
        pass


# covers: 2.10
def test_for_all_others_it_is_an_unknown_command(appliance):
    server = appliance()
    listeners_of(server, proxy_from=["192.0.2.1"])
    with server:
        for header in (text(TRUSTED), b"PROXY UNKNOWN\r\n"):
            with Wire(server.port["smtp"]) as wire:
                wire.send(header)
                wire.expect("500 5.5.2")
                assert not relays(wire)


# covers: 2.10
def test_the_log_tells_of_a_proxy_that_is_not_listed_where_tls_comes_first(appliance):
    server = appliance()
    listeners_of(server, proxy_from=["192.0.2.1"])
    with server:
        for told, header in enumerate((text(), binary(0x21)), start=1):
            with Wire(server.port["submissions"], greeting=False) as wire:
                wire.send(header)
                server.wait_log("a PROXY header from an address which is not in this listener's proxy_from", times=told)


# covers: 2.10 11.7
def test_a_header_in_every_split_and_with_what_follows_it(behind_proxy):
    hello = client_hello()
    for header in (text(TRUSTED), binary(0x21, source=TRUSTED)):
        for cut in range(len(header) + 1):
            with Wire(behind_proxy.port["smtp"], greeting=False) as wire:
                wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire.send(header[:cut])
                wire.send(header[cut:])
                wire.expect("220 ")
                assert relays(wire)
        with Wire(behind_proxy.port["smtps"], greeting=False) as wire:
            wire.send(header + hello)
            assert wire.socket.recv(1) == b"\x16", "the handshake in the header's own segment is answered"


# covers: 2.10 11.7
def test_a_proxy_that_goes_in_the_middle_leaves_nothing_behind(behind_proxy):
    before = sockets(behind_proxy)
    for header in (text(), binary(0x21)):
        for cut in range(len(header)):
            for reset in (False, True):
                with Wire(behind_proxy.port["smtps"], greeting=False) as wire:
                    wire.send(header[:cut])
                    if reset:
                        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: sockets(behind_proxy) <= before, 20, lambda: f"{sockets(behind_proxy)} sockets, {before} before")
    behind_proxy.no_panic()


class HAProxy:
    """Load balancers in front of `server`: `port[listener, version]`."""

    def __init__(self, directory, server, listeners):
        self.port = {(name, version): free_port() for name in listeners for version in (1, 2)}
        self.config = directory / "haproxy.cfg"
        lines = ["global", "  maxconn 100", "defaults", "  mode tcp", "  timeout connect 10s", "  timeout client 60s",
                 "  timeout server 60s"]
        for (name, version), port in self.port.items():
            send = {1: "send-proxy", 2: "send-proxy-v2"}[version]
            lines += [f"listen {name}-{version}", f"  bind 127.0.0.1:{port}",
                      f"  server penstock 127.0.0.1:{server.port[name]} {send} check inter 500 check-send-proxy"]
        self.config.write_text("\n".join(lines) + "\n")

    def __enter__(self):
        self.process = subprocess.Popen(["haproxy", "-db", "-f", self.config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for port in self.port.values():
            wait_for(lambda: answers(port), 20, "HAProxy does not listen")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=20)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


# covers: 2.10 2.11 9.11
def test_behind_haproxy(behind_proxy, directory):
    """Both versions, clear and implicit TLS: mail goes through, from whom HAProxy says; its health checks are no trouble."""
    listeners = ("submission", "submissions", "smtp")
    with HAProxy(directory, behind_proxy, listeners) as haproxy:
        for version in (1, 2):
            for listener in ("submission", "submissions"):
                tag = f"by-{listener}-{version}"
                with from_address(STRANGER, haproxy.port[listener, version], tls=listener == "submissions") as wire:
                    if listener == "submission":
                        wire.starttls()
                    wire.login()
                    assert wire.mail(message(tag)).startswith("250")
                    wire.say("QUIT", "221")
                _, content = found(behind_proxy, tag)
                assert f"([{STRANGER}])".encode() in content.split(b"\r\n\r\n")[0] or f"[{STRANGER}]".encode() in content
            for client, trusted in ((TRUSTED, True), (STRANGER, False)):
                with from_address(client, haproxy.port["smtp", version]) as wire:
                    assert relays(wire) is trusted
        behind_proxy.wait_log(rf'"client":"{STRANGER}:\d+","proxy":"127\.0\.0\.1:\d+"', times=4)
    assert "no PROXY header" not in behind_proxy.log_text()


def found(server, tag):
    content = server.maildir.find(tag)
    return None, content if isinstance(content, bytes) else content.encode()


def from_address(client, port, tls=False):
    """A connection from another loopback address."""
    wire = Wire.__new__(Wire)
    wire.socket = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(client, 0))
    wire.buffer = b""
    if tls:
        wire.handshake(unverified())
    wire.expect("220 ")
    return wire


@pytest.fixture
def with_xclient(appliance):
    """A server that lets 127.0.0.1, whose network is trusted, say XCLIENT with LOGIN on its listeners of role submission."""
    server = appliance(top={"trusted_networks": ["127.0.0.1/32", f"{TRUSTED}/32"]})
    listeners_of(server, xclient_from=["127.0.0.1"])
    for listener in server.settings["listener"]:
        listener["xclient_login"] = listener["role"] == "submission"
        if listener["name"] == "submission":
            listener["tls"] = "offered"
    server.write_config()
    with server:
        yield server


# covers: 2.10 2.11
def test_xclient_names_the_client(with_xclient):
    server = with_xclient
    for given, trusted in ((f"ADDR={TRUSTED} PORT=7", True), (f"ADDR={STRANGER}", False), ("ADDR=[UNAVAILABLE]", False),
                           ("NAME=pc.example", False), ("ADDR=127.0.0.1", True)):
        with Wire(server.port["smtp"]) as wire:
            assert "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT\n" in wire.say("EHLO proxy.example", "250") + "\n"
            wire.say(f"XCLIENT {given}", "220 ")
            assert relays(wire) is trusted, given
            wire.say("RSET", "250")
            wire.say(f"XCLIENT ADDR={TRUSTED}", "550 5.7.0")
            assert "XCLIENT" not in wire.say("EHLO client.example", "250")
    with from_address(STRANGER, server.port["smtp"]) as wire:
        assert "XCLIENT" not in wire.say("EHLO client.example", "250")
        wire.say(f"XCLIENT ADDR={TRUSTED}", "550 5.7.0")
        assert not relays(wire)


# covers: 2.10 2.11
def test_xclient_login_is_believed_where_that_is_configured(with_xclient):
    server = with_xclient
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO proxy.example", "250")
        wire.say(f"XCLIENT ADDR={STRANGER} LOGIN=anna", "550 5.7.0")
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO proxy.example", "250")
        wire.say(f"XCLIENT ADDR={STRANGER} LOGIN=a@b@c", "501 5.5.4")
        wire.say(f"XCLIENT ADDR={STRANGER} HELO=pc+2Eexample LOGIN=Anna@Example.edu", "220 ")
        wire.say("EHLO proxy.example", "250")
        assert wire.mail(message("by-login")).startswith("250")
    _, content = found(server, "by-login")
    assert re.search(rb"Received: from pc\.example \(\[127\.0\.0\.3\]\)[^:]*with ESMTPSA", content), content
    server.wait_log(r'"user":"anna"')


# covers: 2.10 11.3
def test_clients_behind_xclient_have_the_limits_of_their_addresses(appliance):
    """The proxy is not counted, its clients are, each by its own address; one who has authenticated no more."""
    server = appliance(limits={"connections_per_address": 2, "connections_exempt_networks": []},
                       top={"trusted_networks": [f"{TRUSTED}/32"]})
    listeners_of(server, xclient_from=["127.0.0.1"])
    for listener in server.settings["listener"]:
        listener["xclient_login"] = listener["role"] == "submission"
    server.write_config()

    def client(said, start="220 ", listener="smtp", tls=False):
        wire = Wire(server.port[listener], tls=tls)
        wires.append(wire)
        wire.say("EHLO proxy.example", "250")
        wire.say(f"XCLIENT {said}", start)
        return wire

    with server:
        wires = []
        for number in range(2):
            client(f"ADDR={STRANGER}")
        for listener, tls in (("smtp", False), ("smtps", True)):
            assert client(f"ADDR={STRANGER}", "421 4.7.0", listener, tls).at_end()
        server.wait_log('"event":"too many connections from this address"')
        wires.pop(0).close()
        wait_for(lambda: again(client, f"ADDR={STRANGER}"), 20, "one has gone, and there is no room")
        for number in range(4):
            client("ADDR=192.0.2.1 LOGIN=anna", listener="submissions", tls=True)
            client(f"ADDR={TRUSTED}")
        # Behind STARTTLS it is nobody again, whoever it was before.
        for address in (TRUSTED, "192.0.2.7"):
            kept = [client(f"ADDR={address}") for _ in range(2)]
            for wire in kept:
                wire.starttls()
                wire.say("EHLO client.example", "250")
            assert not relays(kept[0])
        assert client("ADDR=192.0.2.7", "421 4.7.0").at_end()
        last = client(f"ADDR={TRUSTED}")
        last.say("EHLO client.example", "250")
        last.say("STARTTLS", "220")
        last.handshake()
        assert last.reply().startswith("421 4.7.0") and last.at_end()
        for wire in wires:
            wire.close()


def again(client, said):
    try:
        client(said)
        return True
    except AssertionError:
        return False


# covers: 2.10
def test_xclient_by_swaks(with_xclient):
    done = subprocess.run(
        ["swaks", "--server", "127.0.0.1", "--port", str(with_xclient.port["smtp"]), "--from", "anna@example.edu", "--to",
         "ben@elsewhere.example", "--xclient-addr", TRUSTED, "--xclient-name", "pc.example", "--xclient-helo", "pc.example",
         "--header", "Subject: by-swaks"],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for(lambda: any(b"[127.0.0.2]" in content for content in with_xclient.maildir.contents()), 20, "no mail from 127.0.0.2")


class Nginx:
    """A mail proxy that checks passwords (by asking a service of ours) and says XCLIENT to `backend`."""

    def __init__(self, directory, backend):
        self.port, self.checks = free_port(), free_port()
        self.service = http.server.ThreadingHTTPServer(("127.0.0.1", self.checks), passwords(backend))
        self.config = directory / "nginx.conf"
        self.config.write_text(NGINX.format(directory=directory, port=self.port, checks=self.checks))

    def __enter__(self):
        threading.Thread(target=self.service.serve_forever, daemon=True).start()
        self.process = subprocess.Popen(["nginx", "-c", self.config, "-e", "stderr"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for(lambda: answers(self.port), 20, "nginx does not listen")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=20)
        self.service.shutdown()


NGINX = """\
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
master_process off;
pid {directory}/nginx.pid;
events {{ worker_connections 64; }}
mail {{
  server_name proxy.example;
  auth_http 127.0.0.1:{checks}/;
  server {{
    listen 127.0.0.1:{port};
    protocol smtp;
    smtp_auth plain login;
    smtp_capabilities PIPELINING 8BITMIME;
    xclient on;
  }}
}}
"""


def passwords(backend):
    class Passwords(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            right = self.headers["Auth-User"] == "anna" and self.headers["Auth-Pass"] == "sesame"
            self.send_response(200)
            self.send_header("Auth-Status", "OK" if right else "Invalid login or password")
            self.send_header("Auth-Server", "127.0.0.1")
            self.send_header("Auth-Port", str(backend))
            self.end_headers()

        def log_message(self, *_):
            pass

    return Passwords


# covers: 2.10 2.11
def test_behind_nginx(with_xclient, directory):
    """nginx checks the password and says who the client is; then it passes octets on, and the client cannot say it again."""
    with Nginx(directory, with_xclient.port["submission"]) as nginx:
        with from_address(STRANGER, nginx.port) as wire:
            wire.say("EHLO client.example", "250")
            wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", "235")
            wire.say(f"XCLIENT ADDR={TRUSTED} LOGIN=ben", "550 5.7.0")
            assert wire.mail(message("by-nginx")).startswith("250")
            wire.say("QUIT", "221")
        _, content = found(with_xclient, "by-nginx")
        assert b"([127.0.0.3])" in content and b"ESMTPA" in content, content
        with_xclient.wait_log(r'"client":"127\.0\.0\.3:\d+","proxy":"127\.0\.0\.1:\d+".*"user":"anna"')
        with from_address(STRANGER, nginx.port) as wire:
            wire.say("EHLO client.example", "250")
            wire.say("AUTH PLAIN AGFubmEAd3Jvbmc=", "535")


# covers: 2.10 2.11
def test_xclient_behind_a_load_balancer(appliance):
    """One address is load balancer and mail proxy at once: a client of the load balancer may not say XCLIENT for that."""
    server = appliance(top={"trusted_networks": [f"{TRUSTED}/32"]})
    listeners_of(server, proxy_from=["127.0.0.1"], xclient_from=["127.0.0.1"])
    with server:
        for header, may in ((text(STRANGER), False), (b"PROXY UNKNOWN\r\n", False), (binary(0x20), True), (text("127.0.0.1"), True)):
            with Wire(server.port["smtp"], greeting=False) as wire:
                wire.send(header)
                wire.expect("220 ")
                assert ("XCLIENT" in wire.say("EHLO client.example", "250")) is may
                wire.say(f"XCLIENT ADDR={TRUSTED}", "220 " if may else "550 5.7.0")
                assert relays(wire) is may
