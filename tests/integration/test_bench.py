"""The benches, in their small size: they build, run to their end, and what they measure answers rightly."""
import subprocess
import sys
import tempfile

import pytest
from harness import BUILD, PREFIX, ROOT, SANITIZED
from redis_servers import Redis

TABLES = ("The rooms alone", "Engine", "The engine beside onnxruntime", "Batching", "Closed loops", "CPU of the gateway", "Instructions of the gateway", "Memory and batches")
LEFT_OUT = {"The engine beside onnxruntime": "beside: left out", "Closed loops": "closed: left out", "CPU of the gateway": "proxy: left out", "Instructions of the gateway": "callgrind: left out",
            "Memory and batches": "memory: left out"}  # fmt: skip


@pytest.mark.load  # flow and desk on two real loops: for ThreadSanitizer too
def test_core_answers_every_request():
    words = [*PREFIX, BUILD / "bench" / "core", "2000"]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ns a request") == 3, done.stdout


def test_several_writers_of_the_prediction_log():
    """Each has a stream of its own, and all that it was told is there."""
    path = f"{tempfile.mkdtemp(prefix='sluice-bench-')}/redis"
    with Redis("--unixsocket", path) as redis:
        words = [*PREFIX, BUILD / "bench" / "predictions", "1000", f"unix:{path}", "--writers", "3"]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("3000 records of 3 writers in ") and "% of a core" in done.stdout, done.stdout
        streams = redis.keys()
        assert len(streams) == 3 and {redis.command("XLEN", s) for s in streams} == {"1000"}
        words[-1] = "100"
        refused = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300)
        assert refused.returncode == 2 and "--writers: expected 1 to 64" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED, reason="benches measure nothing under sanitizers")
def test_every_table_is_printed():
    words = [sys.executable, ROOT / "bench" / "run.py", "--small", "--build", BUILD]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in TABLES:
        assert f"## {table}" in done.stdout or LEFT_OUT.get(table, table) in done.stdout, done.stdout
