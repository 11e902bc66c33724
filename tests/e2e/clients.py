"""Mail programs that nobody here wrote, each told to send one message in one way.

Each function returns (sent, words): whether the program says that the message was taken, and what it printed.
"""

import io
import smtplib
import ssl
import subprocess
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Sending:
    """One message and how it is to go."""

    port: int
    tls: str  # "starttls", "implicit" or "none"
    ca: Path
    content: bytes
    mechanism: str = "PLAIN"  # "PLAIN", "LOGIN" or None: no AUTH
    initial: bool = True  # with an initial response
    user: str = "anna"
    password: str = "sesame"
    sender: str = "anna@example.edu"
    recipients: tuple = ("ben@example.org",)
    directory: Path = None


def with_smtplib(sending):
    words = io.StringIO()
    context = ssl.create_default_context(cafile=sending.ca)
    try:
        with redirect_stderr(words):
            smtp = connected(sending, context)
            with smtp:
                if sending.mechanism:
                    if not smtp.has_extn("auth"):  # As smtplib's own `login` looks first.
                        return False, words.getvalue()
                    smtp.user, smtp.password = sending.user, sending.password
                    exchange = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login}[sending.mechanism]
                    smtp.auth(sending.mechanism, exchange, initial_response_ok=sending.initial)
                options = ["BODY=8BITMIME"] if any(octet > 127 for octet in sending.content) else []
                refused = smtp.sendmail(sending.sender, sending.recipients, sending.content, options)
                return not refused, words.getvalue()
    except smtplib.SMTPException as error:
        return False, f"{words.getvalue()}\n{error!r}"


def connected(sending, context):
    if sending.tls == "implicit":
        smtp = smtplib.SMTP_SSL("127.0.0.1", sending.port, context=context, timeout=30)
    else:
        smtp = smtplib.SMTP("127.0.0.1", sending.port, timeout=30)
    smtp.set_debuglevel(1)
    smtp.ehlo()
    if sending.tls == "starttls":
        smtp.starttls(context=context)
        smtp.ehlo()
    return smtp


def with_curl(sending):
    scheme = "smtps" if sending.tls == "implicit" else "smtp"
    command = ["curl", "-v", "--max-time", "60", "--url", f"{scheme}://127.0.0.1:{sending.port}/client.example",
               "--cacert", sending.ca, "--mail-from", sending.sender, "--upload-file", "-"]
    for recipient in sending.recipients:
        command += ["--mail-rcpt", recipient]
    if sending.tls == "starttls":
        command.append("--ssl-reqd")
    if sending.mechanism:
        command += ["--user", f"{sending.user}:{sending.password}", "--login-options", f"AUTH={sending.mechanism}"]
        command += ["--sasl-ir"] if sending.initial else []
    return finished(command, sending.content)


def with_swaks(sending):
    content = sending.directory / "message"
    content.write_bytes(sending.content.removesuffix(b"\r\n").replace(b"\r\n", b"\n"))  # It adds the last one.
    command = ["swaks", "--server", "127.0.0.1", "--port", sending.port, "--from", sending.sender,
               "--to", ",".join(sending.recipients), "--ehlo", "client.example", "--timeout", "30",
               "--data", f"@{content}"]
    if sending.tls != "none":
        command += ["--tls" if sending.tls == "starttls" else "--tls-on-connect"]
    if sending.mechanism:
        command += ["--auth", sending.mechanism, "--auth-user", sending.user, "--auth-password", sending.password]
    return finished(command)


def with_msmtp(sending):
    secret = sending.directory / "secret"
    secret.write_text(sending.password + "\n")
    command = ["msmtp", "--debug", "--host=127.0.0.1", f"--port={sending.port}", f"--from={sending.sender}",
               "--domain=client.example", "--timeout=30", "--tls=" + ("off" if sending.tls == "none" else "on"),
               "--tls-starttls=" + ("on" if sending.tls == "starttls" else "off"), f"--tls-trust-file={sending.ca}"]
    if sending.mechanism:
        command += [f"--auth={sending.mechanism.lower()}", f"--user={sending.user}", f"--passwordeval=cat {secret}"]
    else:
        command += ["--auth=off"]
    return finished([*command, "--", *sending.recipients], sending.content.replace(b"\r\n", b"\n"))


def finished(command, content=b""):
    done = subprocess.run([str(word) for word in command], input=content, capture_output=True, timeout=90)
    return done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


CLIENTS = {"smtplib": with_smtplib, "curl": with_curl, "swaks": with_swaks, "msmtp": with_msmtp}
# Whether a client can be told to use an initial response or not; others do as they do.
CHOOSES_INITIAL = {"smtplib", "curl"}
