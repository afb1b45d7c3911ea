"""sluicectl top: one frame for pipes, and a terminal (a pty) that is resized, sorted and left."""
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import httpx
import pytest
from harness import GOOD_BODY
from test_ctl import CTL, DONE, REFUSED, TOKEN, UNANSWERED, double, http, run

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
WHOLE = {"whole": True, "phase": "running", "models": [{"name": "one", "ready": 1, "level": 0, "cause": "none", "answers": {"model": 1000}}]}
CHANGE = {
    "whole": False, "ms": 500, "phase": "running", "level": 2, "uptime_s": 61, "loops": [{"in_flight": 3}], "p50_us": 900, "p99_us": 2000,
    "models": [{"name": "one", "ready": 1, "level": 2, "cause": "lost", "answers": {"model": 4, "cache": 1}, "failures": {"deadline": 1},
                "batches": {"idle": 2}, "rows": 5, "waiting": 7, "running": 2, "p50_us": 900, "p99_us": 2000}],
}  # fmt: skip


def events(*them):
    return STREAM + b"".join(b"event: stats\ndata: %s\n\n" % json.dumps(e).encode() for e in them)


def top(port, *words, **more):
    return run("--address", f"127.0.0.1:{port}", "top", *words, SLUICE_TOKEN=TOKEN, **more)


def test_one_frame_is_of_one_second():
    with double(events(WHOLE, CHANGE, WHOLE)) as (port, asked):
        said = top(port, "--once")
        as_json = top(port, "--once", "--json")
    assert (said.status, said.err) == (DONE, "") and asked[0].startswith("GET /live ")
    first, models = said.out.split("\n\n")
    assert first == "sluice running for 1m 1s, level 2: 12.0 requests/s, 2.0 failed/s, p50 900us, p99 2.0ms, 3 in flight, 7 rows waiting"
    head, row = models.splitlines()
    assert head.split() == "MODEL REQUESTS/S FAILED/S P50 P99 WAITING RUNNING BATCH ROWS READY LEVEL WHY".split()
    assert row.split() == "one 12.0 2.0 900us 2.0ms 7 2 2.5 1 2 lost".split()
    assert as_json.json == CHANGE and as_json.out.count("\n") == 1


def test_once_of_a_real_one(gateway):
    assert httpx.post(f"{gateway.url}/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
    said = top(gateway.admin_port, "--once")
    assert said.status == DONE and {"digits", "digits-small"} <= {line.split()[0] for line in said.out.split("\n\n")[1].splitlines()}


@pytest.mark.parametrize(
    "answer, status, why",
    [
        (http(b"{}"), REFUSED, "answered what is no stream of events"),
        (http(b'{"error":"no"}', b"401 x"), REFUSED, "refused (401): no"),
        (events({}), REFUSED, "what it told is no event of /live"),
        (events({"whole": True, "models": [3]}), REFUSED, "what it told is no event of /live"),
        (events({"whole": 1, "models": []}), REFUSED, "what it told is no event of /live"),
        (STREAM + b"data: {\n\n", REFUSED, "what it told is no event of /live"),
        (events(WHOLE), UNANSWERED, "the gateway ended before a second was over"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", UNANSWERED, "what it speaks is not HTTP"),
        (b"", UNANSWERED, "it closed the connection without an answer"),
        (None, UNANSWERED, "no answer within 0.5 s"),
    ],
    ids=lambda v: repr(v[-30:]) if isinstance(v, bytes) else "",
)
def test_answers_that_are_none(answer, status, why):
    with double(answer) as (port, _):
        said = top(port, "--once", *(["--timeout", "0.5"] if answer is None else []))
    assert (said.status, said.out) == (status, "") and why in said.err and said.err.count("\n") == 1


def test_names_move_no_terminal():
    hostile = {**CHANGE, "phase": "\x1b[2J", "models": [{**CHANGE["models"][0], "name": "a\x1b]0;x\x07\n", "cause": "\x9b"}]}
    with double(events(WHOLE, hostile)) as (port, _):
        said = top(port, "--once")
    assert said.status == DONE and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said.out) and "a?]0;x??" in said.out


def test_without_a_terminal_it_says_what_there_is():
    said = top(1)
    assert said.status == UNANSWERED and said.err == "sluicectl: top: expected a terminal; without one: --once, or --json\n"


class Terminal:
    """top on a pty; what it has written, and the screen that this makes, as far as ncurses moves on an ansi terminal."""

    def __init__(self, port, columns=110, lines=24, term="ansi"):
        try:
            self.master, slave = pty.openpty()
        except OSError as e:
            pytest.skip(f"no pty is to be had here: {e}")
        self.columns, self.lines, self.text = columns, lines, b""
        self.resize(columns, lines, tell=False)
        clean = {k: v for k, v in os.environ.items() if k not in ("LINES", "COLUMNS")}  # they would stand above the pty's size
        env = {**clean, "TERM": term, "SLUICE_TOKEN": TOKEN}
        words = [CTL, "--address", f"127.0.0.1:{port}", "top"]
        self.process = subprocess.Popen(words, env=env, stdin=slave, stdout=slave, stderr=subprocess.PIPE, start_new_session=True)
        os.close(slave)
        os.set_blocking(self.master, False)

    def resize(self, columns, lines, tell=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def wait(self, fits, what, timeout=20):
        """What was written since the last wait, once it fits."""
        until, text = time.monotonic() + timeout, b""
        while not fits(text.decode(errors="replace")):
            assert time.monotonic() < until and self.process.poll() is None, (what, text[-2000:])
            with contextlib.suppress(BlockingIOError, OSError):
                text += os.read(self.master, 65536)
            time.sleep(0.01)
        return text.decode(errors="replace")

    def end(self, timeout=20):
        until = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(BlockingIOError, OSError):
                os.read(self.master, 65536)
            time.sleep(0.01)
        assert self.process.poll() is not None, "it does not end"
        self.errors = self.process.stderr.read().decode()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        os.close(self.master)


def test_a_terminal(gateway):
    with Terminal(gateway.admin_port) as t:
        t.wait(lambda s: "digits-small" in s and "q quit" in s and "now: requests" in s, "the first frame")
        t.press("n")
        t.wait(lambda s: "name" in s, "it is sorted by name")
        t.resize(60, 8)
        seen = t.wait(lambda s: "digits" in s and "q quit" in s, "it is drawn anew for another size")
        assert "WHY" not in seen  # cut at the edge
        t.press("q")
        assert t.end() == DONE and t.errors == ""


def test_over_a_restart_of_the_gateway(start):
    sluice = start()
    with Terminal(sluice.admin_port) as t:
        t.wait(lambda s: "digits" in s, "the first frame")
        os.kill(sluice.gateway_pid(), signal.SIGKILL)
        t.wait(lambda s: "no connection" in s, "it says that nothing comes")
        t.wait(lambda s: "q quit" in s, "it goes on")
        t.process.send_signal(signal.SIGTERM)
        assert t.end() == DONE and t.errors == ""


def test_refused_on_a_terminal(gateway):
    with Terminal(gateway.port) as t:
        assert t.end() == REFUSED and "sluicectl: 127.0.0.1" in t.errors
    with Terminal(gateway.admin_port, term="no-such-terminal") as t:
        assert t.end() == UNANSWERED and "TERM names no terminal that is known" in t.errors
