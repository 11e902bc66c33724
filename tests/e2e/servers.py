"""Mail servers that nobody here wrote, each an instance of its own in a temporary directory, on loopback.

`Postfix` takes mail by SMTP, with or without STARTTLS, and puts it into a Maildir. `Dovecot` takes mail by LMTP, over TCP and a
unix socket, and shows it over IMAP. Both are stopped by asking them, or by the process id of their own master.

As another user than root, Postfix is run through `sudo -n`; the directory must be one that its user may look into.
"""

import grp
import imaplib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from appliance import certificate, free_port, wait_for
from mail import Maildir

SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


class Server:
    """Started and stopped by `with`."""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def pause(self):
        """Stops it dead (SIGSTOP), its master first, so that there are no new processes meanwhile."""
        master = self.master()
        self.kill("-STOP", [master])
        self.kill("-STOP", children(master))

    def resume(self):
        """Lets it go on from where it was."""
        master = self.master()
        self.kill("-CONT", [*children(master), master])

    def kill(self, signal_name, pids):
        # One of them may have ended by itself.
        subprocess.run([*SUDO, "kill", signal_name, *map(str, pids)], capture_output=True, timeout=30)


def children(master):
    """The process ids of those that it started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(after_name[1]) == master:
            found.append(int(status.parent.name))
    return found


class Postfix(Server):
    """A smarthost. Recipients `nobody@..` are refused with 550, `later@..` with 450.

    `logins`: the socket of a Dovecot; then it takes mail only of whoever logs in, in TLS, or shows a certificate of its CA.
    `settings`: more of main.cf."""

    def __init__(self, directory, starttls=True, port=None, logins=None, settings=None):
        self.directory = Path(directory)
        self.settings = settings or {}
        self.logins = logins
        self.port = port or free_port()
        self.log = self.directory / "log" / "postfix.log"
        self.maildir = Maildir(self.directory / "mail" / "inbox")
        self.configure(starttls)

    def configure(self, starttls):
        etc = self.directory / "etc"
        for part in (etc, self.directory / "queue", self.directory / "data", self.directory / "mail", self.log.parent):
            part.mkdir(parents=True, exist_ok=True)
        owner = pwd.getpwnam("postfix")
        # After a kill postsuper, which is not root any more, may have something to say in the log before its daemon is there.
        self.log.touch()
        for part in (self.directory / "data", self.directory / "mail", self.log.parent, self.log):
            self.give(part, owner.pw_uid, owner.pw_gid)
        settings = {
            "compatibility_level": "3.6",
            "myhostname": "smarthost.example.net",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "config_directory": etc,
            "maillog_file": self.log,
            "maillog_file_prefixes": self.directory,
            # Everything for these domains goes into one Maildir, as it came: no rewriting, no added Date or Message-ID.
            "local_header_rewrite_clients": "",
            "virtual_mailbox_domains": "example.edu example.org example.net",
            "virtual_mailbox_base": self.directory / "mail",
            "virtual_mailbox_maps": "static:inbox/",
            "virtual_minimum_uid": 1,
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_alias_maps": "",
            "alias_maps": "",
            "alias_database": "",
            "smtpd_recipient_restrictions": f"check_recipient_access inline:{{"
            "{nobody@example.org=550 5.1.1 No such user here} {later@example.org=450 4.2.1 Mailbox busy}}"
            ", permit_mynetworks, reject",
            "smtpd_tls_security_level": "may" if starttls else "none",
            "message_size_limit": 100_000_000,
            "mailbox_size_limit": 0,
            "virtual_mailbox_limit": 0,
        }
        if starttls:
            chain, key, _ = certificate(self.directory)
            settings |= {"smtpd_tls_cert_file": chain, "smtpd_tls_key_file": key, "smtpd_tls_received_header": "yes"}
        if self.logins:
            settings |= {
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_type": "dovecot",
                "smtpd_sasl_path": self.logins,
                "smtpd_sasl_authenticated_header": "yes",
                "smtpd_tls_auth_only": "yes",
                "smtpd_tls_ask_ccert": "yes",
                "smtpd_tls_CAfile": self.directory / "ca.pem",
                "smtpd_recipient_restrictions": "permit_sasl_authenticated, permit_tls_all_clientcerts, reject",
                "smtpd_relay_restrictions": "permit",
            }
        settings |= self.settings
        (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        (etc / "master.cf").write_text(MASTER_CF.format(port=self.port))

    def give(self, path, uid, gid):
        subprocess.run([*SUDO, "chown", f"{uid}:{gid}", path], check=True, timeout=30)

    def command(self, *words):
        return subprocess.run(
            [*SUDO, "postfix", "-c", str(self.directory / "etc"), *words], capture_output=True, text=True, timeout=60
        )

    def start(self):
        done = self.command("start")
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for(lambda: listens(self.port), 20, lambda: f"Postfix does not listen:\n{done.stderr}{self.log_text()}")

    def master(self):
        return int((self.directory / "queue/pid/master.pid").read_text())

    def stop(self, how="stop"):
        """Stops and waits: `postfix stop` returns when the master is gone; `abort` asks nobody."""
        done = self.command(how)
        wait_for(lambda: not listens(self.port), 20, lambda: f"Postfix still listens:\n{done.stderr}")

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
virtual   unix  - n n - - virtual
error     unix  - - n - - error
retry     unix  - - n - - error
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
tlsmgr    unix  - - n 1000? 1 tlsmgr
smtp      unix  - - n - - smtp
pickup    unix  n - n 60 1 pickup
postlog   unix-dgram n - n - 1 postlogd
"""


class Dovecot(Server):
    """Mailboxes of any user name, with the password `mailbox`; of version 2.3 or 2.4.

    `users`: those that there are, and no others, with their extra fields of a passwd-file; takes version 2.3."""

    PASSWORD = "mailbox"

    def __init__(self, directory, mechanisms="plain", users=None):
        self.directory = Path(directory)
        self.lmtp_port, self.imap_port = free_port(), free_port()
        self.lmtp_socket = self.directory / "run" / "lmtp"
        # Where another server asks about logins.
        self.login_socket = self.directory / "run" / "for-postfix"
        self.config = self.directory / "dovecot.conf"
        self.log = self.directory / "dovecot.log"
        self.process = None
        (self.directory / "run").mkdir(parents=True, exist_ok=True)
        mail = self.directory / "mail"
        mail.mkdir(exist_ok=True)
        uid, gid = mail_owner()
        if os.geteuid() == 0:
            os.chown(mail, uid, gid)
        text = CONFIG_2_3 if self.is_2_3() else CONFIG_2_4
        me = pwd.getpwuid(os.geteuid()).pw_name
        internal, login = ("dovecot", "dovenull") if os.geteuid() == 0 else (me, me)
        if users is not None:
            text = text.replace(ANYBODY_2_3, USERS_2_3)
            (self.directory / "users").write_text("".join(
                f"{user}:::::{self.directory}/mail/{user}::{fields}\n" for user, fields in users.items()))
        self.config.write_text(text.format(
            directory=self.directory, lmtp=self.lmtp_port, imap=self.imap_port, uid=uid, gid=gid,
            mechanisms=mechanisms, internal=internal, login=login, group=grp.getgrgid(os.getegid()).gr_name, password=self.PASSWORD,
        ))

    def start(self):
        self.process = subprocess.Popen(
            [*dovecot(), "-F", "-c", str(self.config)], stdin=subprocess.DEVNULL,
            stdout=open(self.log, "ab"), stderr=subprocess.STDOUT,
        )
        ready = lambda: self.process.poll() is not None or (listens(self.lmtp_port) and listens(self.imap_port))
        wait_for(ready, 20, lambda: f"Dovecot does not listen:\n{self.log_text()}")
        assert self.process.poll() is None, f"Dovecot ended:\n{self.log_text()}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def messages(self, user):
        """The user's messages, read over IMAP."""
        imap = imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=30)
        try:
            imap.login(user, self.PASSWORD)
            imap.select("INBOX", readonly=True)
            numbers = imap.search(None, "ALL")[1][0].split()
            return [imap.fetch(number, "(BODY.PEEK[])")[1][0][1] for number in numbers]
        finally:
            imap.logout()

    def wait(self, user, count, seconds=20):
        wait_for(lambda: len(self.messages(user)) >= count, seconds,
                 lambda: f"{len(self.messages(user))} of {count} messages for {user}:\n{self.log_text()[-3000:]}")
        messages = self.messages(user)
        assert len(messages) == count, f"{len(messages)} messages for {user} instead of {count}"
        return messages


    def is_2_3(self):
        version = subprocess.run([*dovecot(), "--version"], capture_output=True, text=True, timeout=30).stdout
        return version.startswith("2.3")

    def master(self):
        return self.process.pid

    def maildir(self, user):
        return Maildir(self.directory / "mail" / user)


def dovecot():
    return [shutil.which("dovecot") or "/usr/sbin/dovecot"]


def mail_owner():
    """Who owns the mail: Dovecot wants no root there."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


ANYBODY_2_3 = """\
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={directory}/mail/%n allow_all_users=yes
}}
"""

USERS_2_3 = """\
userdb {{
  driver = passwd-file
  args = {directory}/users
  default_fields = uid={uid} gid={gid}
}}
mail_plugins = quota
plugin {{
  quota = maildir:User quota
}}
"""

CONFIG_2_3 = """\
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {internal}
default_login_user = {login}
default_internal_group = {group}
auth_username_format = %Ln
auth_mechanisms = {mechanisms}
mail_location = maildir:{directory}/mail/%n
first_valid_uid = 1
first_valid_gid = 1
recipient_delimiter = +
passdb {{
  driver = static
  args = password={password}
}}
""" + ANYBODY_2_3 + """\
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service auth {{
  unix_listener for-postfix {{
    mode = 0666
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""

CONFIG_2_4 = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
auth_allow_cleartext = yes
default_internal_user = {internal}
default_login_user = {login}
default_internal_group = {group}
auth_username_format = %{{user | username | lower}}
auth_mechanisms = {mechanisms}
mail_driver = maildir
mail_path = {directory}/mail/%{{user | username}}
first_valid_uid = 1
first_valid_gid = 1
recipient_delimiter = +
passdb static {{
  password = {password}
}}
userdb static {{
  fields {{
    uid = {uid}
    gid = {gid}
    home = {directory}/mail/%{{user | username}}
  }}
  allow_all_users = yes
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service auth {{
  unix_listener for-postfix {{
    mode = 0666
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    listen = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    listen = 127.0.0.1
    port = {lmtp}
  }}
}}
"""
