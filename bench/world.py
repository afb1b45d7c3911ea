"""What the benches measure and measure with: sluice, its rivals, the load client, CPU and memory.

The actors of the integration tests serve here too. CPU is what the kernel's scheduler counted for all
threads of a process and its children (/proc/PID/task/*/schedstat, nanoseconds).
"""
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import socket
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests" / "integration"))

import harness  # noqa: E402

ITEMS = 1000
NOISY_PIXELS = 16
INFER = "/v2/models/digits/infer"


class Missing(Exception):
    """A program that this table needs is not on the machine."""


def need(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        raise Missing(f"{program} is not installed")
    return found


def cores():
    """(the core of what is measured, the core of all the rest)"""
    have = sorted(os.sched_getaffinity(0))
    if len(have) < 2:
        raise Missing("two cores are needed: one for what is measured, one for all the rest")
    return have[0], have[1]


def family(pid):
    """The process and all its descendants."""
    pids = [pid]
    for task in tasks(pid):
        try:
            children = pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:
            children = []
        for child in children:
            pids += family(int(child))
    return pids


def tasks(pid):
    try:
        return [int(t) for t in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def pin(pid, core, children=True):
    for p in family(pid) if children else [pid]:
        for task in tasks(p):
            os.sched_setaffinity(task, {core})


def cpu_us(pid, children=False):
    """CPU time that the process has used, all its threads together."""
    total = 0
    for p in family(pid) if children else [pid]:
        for task in tasks(p):
            total += int(pathlib.Path(f"/proc/{p}/task/{task}/schedstat").read_text().split()[0])
    return total / 1000


# ---- requests and reference answers ----------------------------------------------------------------


def bodies():
    """ITEMS distinct digit requests: the demo samples with a few grey values one off, the same always."""
    rng, made = random.Random(20), {}
    while len(made) < ITEMS:
        row = list(harness.SAMPLES[len(made) % len(harness.SAMPLES)]["input"])
        for pixel in rng.sample(range(64), NOISY_PIXELS):
            row[pixel] = min(16, max(0, row[pixel] + rng.choice((-1, 1))))
        tensor = {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": row}
        made[json.dumps({"inputs": [tensor]}, separators=(",", ":"))] = row
    return [body.encode() for body in made]


def write_set(path):
    """Writes the file that bench/load.c reads; the references come from a sluice-worker asked directly.
    Gives one body and one whole answer, as bytes."""
    with harness.Worker() as worker, path.open("wb") as out:
        wire = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
        for body in bodies():
            wire.request("POST", INFER, body, {"content-type": "application/json"})
            answer = wire.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            row = json.loads(text)["outputs"][0]["data"]
            out.write(struct.pack("<I", len(body)) + body)
            out.write(struct.pack(f"<I{len(row)}f", len(row), *row))
        wire.close()
        worker.stop()
    return body


def load(build, port, requests, path, conns=16, streams=16, check=100, core=None, timeout=300):
    """Runs bench/load.c; its report, whatever its exit status."""
    words = [build / "bench" / "load", "-p", port, "-f", path, "-n", requests, "-c", conns, "-m", streams]
    words = [str(w) for w in words + ["-k", check, "-t", timeout, "-u", INFER]]
    before = None if core is None else lambda: os.sched_setaffinity(0, {core})
    done = subprocess.run(words, stdout=subprocess.PIPE, preexec_fn=before, text=True)
    if done.returncode not in (0, 1):
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout)


def h2load(port, requests, body_file, conns=16, streams=16, tls=False, h1=False, core=None, path=INFER):
    """(requests that succeeded, failed or errored or timed out, seconds)"""
    words = [need("h2load"), "-n", requests, "-c", conns, "-m", streams, "-d", body_file, *(["--h1"] if h1 else [])]
    words += ["-H", "content-type: application/json", f"http{'s' if tls else ''}://127.0.0.1:{port}{path}"]
    before = None if core is None else lambda: os.sched_setaffinity(0, {core})
    done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, preexec_fn=before, text=True, check=True)
    text = done.stdout
    row = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    good = int(re.search(r"status codes: (\d+) 2xx", text)[1])
    seconds = re.search(r"finished in ([0-9.]+)(us|ms|s|min)?", text)
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60}[seconds[2] or "s"]
    return min(good, int(row[1])), requests - min(good, int(row[1])), float(seconds[1]) * unit


def batch_sums(sluice):
    """(rows, batches) of all models since the start"""
    return sluice.metric("sluice_batch_rows_sum"), sluice.metric("sluice_batch_rows_count")


# ---- rivals ----------------------------------------------------------------------------------------


def certificate(directory):
    """(certificate, key): files, of a P-256 key"""
    cert, key = directory / "cert.pem", directory / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


def free_port():
    """For programs that cannot say which one they chose."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def nginx(directory, name, location, backend=1):
    """nginx with one location, by the file bench/nginx.conf; (process, port)"""
    port, path = free_port(), directory / f"{name}.conf"
    words = {"directory": directory, "name": name, "port": port, "location": location, "backend": backend}
    path.write_text((HERE / "nginx.conf").read_text().format(**words))
    return started([need("nginx"), "-p", directory, "-c", path], port), port


def nginx_backend(directory, answer):
    """nginx that answers `answer` to whatever comes; (process, port)"""
    assert "'" not in answer and "$" not in answer, answer
    return nginx(directory, "backend", f"return 200 '{answer}';")


def nginx_proxy(directory, backend, cert, key):
    """nginx that passes on, over connections that it keeps; (process, ports)"""
    location = "proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection '';"
    process, port = nginx(directory, "proxy", location, backend)
    return process, {"h1": port}


def haproxy(directory, backend, cert, key):
    """HAProxy: one thread, connections behind kept for all; (process, ports)"""
    port, path = free_port(), directory / "haproxy.cfg"
    path.write_text((HERE / "haproxy.cfg").read_text().format(port=port, backend=backend))
    with (directory / "haproxy.access.log").open("wb") as log:
        return started([need("haproxy"), "-db", "-f", path], port, stdout=log), {"h1": port}


def nghttpx(directory, backend, cert, key):
    """nghttpx: HTTP/1.1 behind, one worker; in front everything; (process, ports)"""
    port, tls = free_port(), free_port()
    words = [need("nghttpx"), f"--frontend=127.0.0.1,{port};no-tls", f"--frontend=127.0.0.1,{tls}"]
    words += [f"--backend=127.0.0.1,{backend};/;proto=http/1.1", "--workers=1", "--no-ocsp"]
    words += [f"--accesslog-file={directory}/nghttpx.access.log", "--conf=/dev/null"]
    words += [f"--errorlog-file={directory}/nghttpx.error.log", "--frontend-http2-max-concurrent-streams=128"]
    words += ["--tls-max-proto-version=TLSv1.3", key, cert]
    return started(words, port), {"h2c": port, "tls": tls, "h1": port}


def started(words, port, stdout=subprocess.DEVNULL):
    process = subprocess.Popen([str(w) for w in words], stdout=stdout, stderr=subprocess.PIPE)

    def up():
        if process.poll() is not None:
            raise AssertionError(f"{words[0]} ended:\n{process.stderr.read().decode()}")
        with harness.Wire(port, 1):
            return True

    harness.wait_for(up, 10, f"{words[0]} on port {port}")
    return process


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stderr.close()


# ---- the machine -----------------------------------------------------------------------------------


def machine():
    """One line: processor, cores, kernel, versions of what was measured and measured with."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    words = [cpu[1] if cpu else os.uname().machine, f"{os.cpu_count()} cores", f"Linux {os.uname().release}"]
    for program, option in (("gcc", "--version"), ("nghttpx", "--version"), ("nginx", "-v"), ("haproxy", "-v")):
        try:
            done = subprocess.run([need(program), option], capture_output=True, text=True)
            words.append((done.stdout + done.stderr).splitlines()[0].replace("nginx version: ", ""))
        except Missing:
            pass
    return ", ".join(words)
