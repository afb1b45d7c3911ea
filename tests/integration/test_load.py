"""A load of two loops: everything is answered, in batches, rightly, and nothing is left behind.

Under ThreadSanitizer (make tsan) the same load is smaller and asks for the same.
"""
import shutil
import subprocess

import pytest
from harness import GOOD_BODY, SANITIZED, memory_kib, wait_for
from load import Load

REQUESTS = 4000 if SANITIZED else 20000
CONNS, STREAMS = 16, 16
BATCH_ROWS = 2  # the mean is above it
BURST_KIB = 4096  # a part of what a thousand requests in flight need: about 10 KiB each
QUEUES = ("waiting_rows", "running_rows", "charged_rows", "charged_bytes")

pytestmark = pytest.mark.load


def h2load(sluice, body_file, requests, conns=CONNS):
    """The lines that h2load prints: its words on how the requests ended, by name."""
    program = shutil.which("h2load")
    if not program:
        pytest.skip("h2load is not on this machine")
    words = [program, "-n", requests, "-c", conns, "-m", STREAMS, "-d", body_file]
    words += ["-H", "content-type: application/json", f"{sluice.url}/v2/models/digits/infer"]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(line.split(":", 1) for line in done.stdout.splitlines() if ": " in line)
    return {name: {what: int(n) for n, what in map(str.split, rows[name].split(","))}
            for name in ("requests", "status codes")}  # fmt: skip


def left_behind(sluice):
    """What is still on its way somewhere, by place; empty when all is at rest."""
    page = sluice.status_page()
    found = {f"loop {lp['index']} {k}": lp[k] for lp in page["loops"] for k in ("in_flight", "zombies") if lp[k]}
    found.update({f"{m['name']} {k}": m[k] for m in page["models"] for k in QUEUES if m[k]})
    found.update({k: v for k, v in sluice.metrics().items() if k.startswith(("sluice_in_flight", "sluice_queue")) and v})
    return found


def test_two_loops_under_load_answer_everything_in_batches(start, tmp_path):
    sluice = start(loops=2)
    body = tmp_path / "digit.json"
    body.write_bytes(GOOD_BODY)
    with Load(sluice.port, h1=2, h2=2) as watched:  # checks each of its answers while h2load pushes
        ended = h2load(sluice, body, REQUESTS)
        watched.wait(100)
    assert ended["requests"]["succeeded"] == REQUESTS, ended
    assert ended["requests"]["failed"] + ended["requests"]["errored"] + ended["requests"]["timeout"] == 0, ended
    assert ended["status codes"]["2xx"] == REQUESTS, ended
    assert set(watched.outcomes) == {200} and watched.wrong == [], (watched.outcomes, watched.wrong[:3], watched.errors)

    rows, batches = sluice.metric("sluice_batch_rows_sum"), sluice.metric("sluice_batch_rows_count")
    assert rows >= REQUESTS + watched.outcomes[200], (rows, watched.outcomes)
    assert rows / batches > BATCH_ROWS, (rows, batches)

    wait_for(lambda: left_behind(sluice) == {} or None, 10, "an empty house")
    busy = [lp["messages"] for lp in sluice.status_page()["loops"]]
    assert len(busy) == 2 and min(busy) > 0, busy
    assert sluice.metric("sluice_log_dropped_total") == 0


@pytest.mark.skipif(SANITIZED, reason="sanitizers keep freed memory back")
def test_memory_of_a_burst_goes_back_to_the_system(start, tmp_path):
    sluice = start(loops=2)
    body = tmp_path / "digit.json"
    body.write_bytes(GOOD_BODY)
    pid = sluice.gateway_pid()
    h2load(sluice, body, REQUESTS, conns=64)
    wait_for(lambda: memory_kib(pid) < memory_kib(pid, "VmHWM") - BURST_KIB, 10, f"{BURST_KIB} KiB back")


def test_what_was_logged_is_what_was_asked(start, tmp_path):
    sluice = start(loops=2)
    body = tmp_path / "digit.json"
    body.write_bytes(GOOD_BODY)
    h2load(sluice, body, 1000)
    lines = wait_for(lambda: log_of(sluice, 1000), 10, "a thousand lines of access log")
    assert {line["status"] for line in lines} == {200}
    assert len({line["id"] for line in lines}) == 1000


def log_of(sluice, count):
    lines = [line for line in sluice.access_log() if line["path"].endswith("/infer")]
    return lines if len(lines) == count else None
