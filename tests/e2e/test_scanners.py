"""What the tools of those who look for weak servers say of this one: sslscan, nmap's smtp scripts, testssl.sh."""

import re
import subprocess

import pytest

from servers import Postfix

MODERN = re.compile(r"TLS_(AES|CHACHA20|AKE_WITH)|(TLS_)?ECDHE[-_].*(GCM|CHACHA20|POLY1305)")


def words_of(*command, seconds=280):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=seconds)
    return done.stdout + done.stderr


def sslscan(port, *options):
    return words_of("sslscan", "--no-colour", *options, f"127.0.0.1:{port}")


def nmap(scripts, *ports):
    """`+` runs a script whatever port it is."""
    return words_of("nmap", "-Pn", "-n", "-p", ",".join(map(str, ports)), "--script", ",".join(f"+{script}" for script in scripts),
                    "127.0.0.1")


# covers: 9.5 9.6
@pytest.mark.parametrize("listener, options", [("submissions", ()), ("submission", ("--starttls-smtp",))])
def test_sslscan(server, listener, options):
    words = sslscan(server.port[listener], *options)
    for old in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
        assert re.search(rf"{re.escape(old)} +disabled", words), words
    assert re.search(r"TLSv1\.3 +enabled", words), words
    assert "Session renegotiation not supported" in words or "Secure session renegotiation supported" in words, words
    assert "Compression disabled" in words or "does not support compression" in words, words
    assert "vulnerable to heartbleed" not in words.replace("not vulnerable to heartbleed", ""), words
    suites = re.findall(r"(?:Preferred|Accepted) +TLSv\S+ +\d+ bits +(\S+)", words)
    assert suites and all(MODERN.match(suite) for suite in suites), suites


# covers: 9.5
def test_nmap_grades_the_ciphers(server):
    words = nmap(["ssl-enum-ciphers"], server.port["submissions"])
    assert "least strength: A" in words, words
    assert not re.search(r"SSLv|TLSv1\.[01]:", words), words
    suites = re.findall(r"(TLS_\S+) \(\S+\) - \w", words)
    assert suites and all(MODERN.match(suite) for suite in suites), words


# covers: 4.4 4.5 7.5
def test_nmap_finds_no_open_relay_and_no_users(server):
    for listener in ("smtp", "submission"):
        words = nmap(["smtp-open-relay", "smtp-enum-users", "smtp-ntlm-info"], server.port[listener])
        assert re.search("doesn't seem to be an open relay|isn't an open relay", words), words
        assert re.search("Couldn't (find any accounts|perform user enumeration)|smtp-enum-users: *$|did not", words), words
        assert "ntlm" not in words.replace("smtp-ntlm-info", "").lower(), words
    assert not server.maildir.files()


# covers: 3.3 3.5 4.2
def test_nmap_reads_what_is_offered(server):
    words = nmap(["smtp-commands"], server.port["smtp"], server.port["submission"])
    for line in re.findall(r"smtp-commands: (.*)", words):
        offered = {keyword.split()[0] for keyword in line.split(", ")}
        assert offered >= {"STARTTLS", "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8", "SIZE"}, line
        assert not offered & {"AUTH", "REQUIRETLS", "VRFY", "EXPN", "ETRN"}, line
    assert words.count("smtp-commands: ") == 2, words


# covers: 1.9
def test_nmap_finds_no_known_weakness(server):
    vulnerable = ["smtp-vuln-cve2010-4344", "smtp-vuln-cve2011-1720", "smtp-vuln-cve2011-1764"]
    words = nmap(vulnerable, server.port["smtp"])
    assert "VULNERABLE" not in words.replace("NOT VULNERABLE", ""), words
    server.no_panic()


TESTSSL = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--openssl-timeout", "10", "--nodns", "none", "--ip", "127.0.0.1"]
WEAKNESSES = {"-H": "Heartbleed", "-I": "CCS", "-R": "Secure Renegotiation", "-W": "SWEET32", "-F": "FREAK", "-4": "RC4"}


# covers: 9.5 9.6
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_testssl(server):
    if server.settings[""]["io"] != "auto":
        return  # TLS is the same code on both; a run takes a minute.
    words = words_of(*TESTSSL, "-p", "-s", *WEAKNESSES, "-t", "smtp", f"127.0.0.1:{server.port['submission']}", seconds=380)
    for protocol in ("SSLv2", "SSLv3", "TLS 1", r"TLS 1\.1", "NULL ciphers.*", "Anonymous NULL Ciphers.*", "Export ciphers.*", "LOW:.*",
                     "Triple DES Ciphers.*", "Obsolete CBC ciphers.*"):
        assert re.search(rf"(?m)^ {protocol} +not offered", words), (protocol, words)
    for protocol in (r"TLS 1\.2", r"TLS 1\.3", "Strong encryption.*"):
        assert re.search(rf"(?m)^ {protocol} +offered \(OK\)", words), (protocol, words)
    for weakness in WEAKNESSES.values():
        assert re.search(rf"(?m)^ {weakness}.*\(OK\)", words), (weakness, words)


def test_control_the_tools_see_a_weak_server(directory):
    """The same tools find an open relay with old suites, which Postfix is here on purpose."""
    postfix = Postfix(directory / "postfix")
    with open(postfix.directory / "etc" / "main.cf", "a") as settings:
        settings.write("smtpd_tls_ciphers = low\n")  # It relays for all of 127.0.0.0/8 anyway.
    with postfix:
        suites = re.findall(r"(?:Preferred|Accepted) +TLSv\S+ +\d+ bits +(\S+)", sslscan(postfix.port, "--starttls-smtp"))
        assert suites and not all(MODERN.match(suite) for suite in suites), suites
        words = nmap(["smtp-open-relay"], postfix.port)
        assert "is an open relay" in words, words
