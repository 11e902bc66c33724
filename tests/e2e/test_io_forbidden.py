"""Where io_uring is forbidden, as in many containers: `auto` falls back and says so, `io_uring` refuses to start."""

from appliance import Penstock
from mail import message
from wire import submit

# Every io_uring_setup answers EPERM, as under a seccomp filter. -D keeps the server our child.
FORBIDDEN = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup",
             "-e", "inject=io_uring_setup:error=EPERM"]


def test_auto_falls_back_loudly_and_serves(directory):
    server = Penstock(directory / "penstock", io="auto")
    try:
        server.start(*FORBIDDEN)
        server.wait_log(r'"level":"warning".*falling back to epoll.*Operation not permitted')
        server.wait_log(r'"event":"listening".*"io":"epoll"')
        assert submit(server.port["submissions"], message("fallback")).startswith("250")
        server.maildir.find("fallback")
        server.stop()
    finally:
        server.kill()


def test_io_uring_by_name_refuses(directory):
    server = Penstock(directory / "penstock", io="io_uring")
    try:
        server.spawn(*FORBIDDEN)
        assert server.process.wait(20) == 1
        assert "io_uring cannot be used here" in server.log_text() and 'io = \\"auto\\"' in server.log_text()
    finally:
        server.kill()
