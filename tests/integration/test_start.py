"""What stands in the way of a start is told precisely, with a status of its own; what can serve, serves."""
import os
import signal
import socket
import subprocess

import httpx
import pytest
from harness import GOOD_BODY, MODELS, PREFIX, SLUICE, UNPRIVILEGED, WORKER, Program, Sluice, configuration, copy_model, gone, wait_for, worker_command

LISTEN = 'listen "public" { address = "127.0.0.1:0" }\n'
GOOD_WORKER = f'worker "w" {{ command = {{{worker_command(MODELS)}}} }}\n'


def run(*words, timeout=60):
    """(status, what it said)"""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, errors="replace", timeout=timeout)
    return done.returncode, done.stderr + done.stdout


def run_text(tmp_path, text, *more, before=()):
    path = tmp_path / "gateway.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, said = run(*before, SLUICE, "-c", path, *more)
    return status, said.replace(str(path), "FILE")


# ---- the configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words",
    [
        ('loops = 1\nlisten "a" { adress = "127.0.0.1:0" }\n', ['FILE:2: unknown key "adress"', 'did you mean "address"?']),
        (LISTEN + "foo = 3\n" + GOOD_WORKER, ['FILE:2: unknown key "foo"']),
        (LISTEN + GOOD_WORKER + 'worker "w" { command = {"x"} }\n', ['FILE:3: worker "w" stands twice (first on line 2)']),
        (LISTEN + "loops = 1\nloops = 2\n" + GOOD_WORKER, ["FILE:3: ", "loops", "twice"]),
        (LISTEN + 'loops = "many"\n' + GOOD_WORKER, ["FILE:2: ", "loops", "whole number"]),
        (LISTEN + "loops = 100000\n" + GOOD_WORKER, ["FILE:2: ", "loops", "256"]),
        (LISTEN + 'limits { max_body = "64 parsecs" }\n' + GOOD_WORKER, ["FILE:2: ", "max_body", "size"]),
        (LISTEN + 'limits { header_timeout = "-1s" }\n' + GOOD_WORKER, ["FILE:2: ", "header_timeout", "duration"]),
        ('listen "a" { address = "nonsense" }\n' + GOOD_WORKER, ["FILE:1: ", "address"]),
        (GOOD_WORKER, ["listen"]),
        (LISTEN, ["worker"]),
        (LISTEN + 'worker "w" { command = {"x"} addresses = {"grpc://h:1"} }\n', ["FILE:2: "]),
        (LISTEN + GOOD_WORKER + 'model "m" { worker = "nobody" }\n', ["FILE:3: ", "nobody"]),
        (LISTEN + GOOD_WORKER + 'model "../../etc" { }\n', ["FILE:3: "]),
        (LISTEN + 'worker "w" { addresses = {"file:///etc/passwd"} }\n', ["FILE:2: "]),
        (LISTEN + 'worker "w" { addresses = {"gopher://h:1"} }\n', ["FILE:2: "]),
        ("a { " * 10000, ["FILE:1: "]),
        (LISTEN + 'worker "w" { command = {"x"', ["FILE:2: "]),
        (LISTEN + 'worker "w', ["FILE:2: "]),
        (b"\xff\xfe\x00", ["FILE:1: "]),
        (b"#" * (10 << 20), ["larger than 1MiB"]),
        ("", ["listen"]),
    ],
    ids=range(22),
)
@pytest.mark.parametrize("check", [True, False])
def test_a_configuration_is_refused_with_its_line(tmp_path, text, words, check):
    """Row 122."""
    status, said = run_text(tmp_path, text, *["-t"] * check)
    assert status == 1
    for word in words:
        assert word in said, said[:600]
    assert len(said) < 20000


def test_check_starts_nothing(tmp_path):
    assert run_text(tmp_path, LISTEN + GOOD_WORKER, "-t") == (0, "FILE: ok\n")


def test_files_that_are_no_configuration(tmp_path):
    assert run(SLUICE, "-c", tmp_path / "none.conf") == (1, f"{tmp_path}/none.conf: No such file or directory\n")
    status, said = run(SLUICE, "-c", tmp_path)
    assert status == 1 and "not a regular file" in said
    closed = tmp_path / "closed.conf"
    closed.write_text(LISTEN + GOOD_WORKER)
    closed.chmod(0)
    assert run(*UNPRIVILEGED, SLUICE, "-c", closed) == (1, f"{closed}: Permission denied\n")
    link = tmp_path / "link.conf"  # what it names when it is opened is read, once
    link.symlink_to(tmp_path / "none.conf")
    assert run(SLUICE, "-c", link) == (1, f"{link}: No such file or directory\n")
    link.unlink()
    link.symlink_to("/dev/zero")
    status, said = run(SLUICE, "-c", link)
    assert status == 1 and "not a regular file" in said


def test_usage():
    for words in ([], ["-c"], ["--what"], ["-c", "a", "-c", "b"]):
        status, said = run(SLUICE, *words)
        assert status == 2 and "--help" in said
    assert run(SLUICE, "--help")[0] == 0 and run(SLUICE, "--version")[1].startswith("sluice ")
    assert run(WORKER)[0] == 2 and "--repository" in run(WORKER)[1]
    assert run(WORKER, "--help")[0] == 0 and run(WORKER, "--version")[0] == 0


# ---- what the configuration names --------------------------------------------------------------------


@pytest.mark.parametrize("who", ["listen", "admin"])
def test_a_port_in_use(tmp_path, who):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        taken = f'address = "127.0.0.1:{port}"'
        text = f'listen "public" {{ {taken} }}\n' if who == "listen" else LISTEN + f"admin {{ {taken} }}\n"
        status, said = run_text(tmp_path, text + GOOD_WORKER)
        assert status == 1
        name = 'listen \\"public\\"' if who == "listen" else "admin"
        assert f"{name}: listen 127.0.0.1:{port}: port in use" in said, said
        assert "worker_started" not in said


def test_a_port_in_use_by_another_than_the_worker():
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = f"127.0.0.1:{s.getsockname()[1]}"
        status, said = run(WORKER, "--repository", MODELS, "--device", "cpu", "--listen", address)
        assert status == 1 and f"cannot listen: listen {address}: port in use" in said, said


def test_a_socket_in_use(start, tmp_path):
    """One that a living process listens on is not taken away; one that a dead one has left is."""
    path = f"/tmp/sluice-test-{os.getpid()}.sock"
    first = start(top=f'listen "local" {{ address = "unix:{path}" }}')
    status, said = run_text(tmp_path, f'listen "local" {{ address = "unix:{path}" }}\n' + GOOD_WORKER)
    assert status == 1 and f'listen \\"local\\": listen unix:{path}: in use by another process' in said, said
    first.kill(signal.SIGKILL)
    first.wait()
    wait_for(lambda: gone(first.gateway_pid()))
    assert os.path.exists(path)
    again = start(top=f'listen "local" {{ address = "unix:{path}" }}')
    with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
        assert client.get("http://x/v2/health/live").status_code == 200
    assert again.stop() == 0 and not os.path.exists(path)


def test_a_second_sluice_on_the_same_port(start, tmp_path):
    """SO_REUSEPORT must not let two share one port by mistake."""
    first = start()
    status, said = run_text(tmp_path, f'listen "public" {{ address = "127.0.0.1:{first.port}" }}\n' + GOOD_WORKER)
    assert status == 1 and "port in use" in said


def test_a_missing_program(tmp_path):
    status, said = run_text(tmp_path, LISTEN + 'worker "w" { command = {"no-such-program"} }\n')
    assert status == 1
    assert 'worker "w"' in said and '"no-such-program" not found' in said.replace('\\"', '"')


def pem(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"]
    assert run(*words)[0] == 0
    return cert, key


def tls_text(cert, key):
    return f'listen "tls" {{ address = "127.0.0.1:0" certificate = "{cert}" key = "{key}" }}\n' + GOOD_WORKER


def test_the_check_looks_for_the_log(tmp_path):
    """-t says what the start would die of, and makes nothing."""
    closed, there, pipe = tmp_path / "closed", tmp_path / "there.log", tmp_path / "pipe"
    closed.mkdir()
    closed.chmod(0o500)
    os.mkfifo(pipe)
    there.write_text("a line\n")
    rows = [
        (tmp_path / "none" / "access.log", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (there / "access.log", "Not a directory"),
        (closed / "access.log", "Permission denied"),
        (pipe, "No such device or address"),
    ]
    text = lambda path: LISTEN + GOOD_WORKER + f'log {{ access = "{path}" }}\n'  # noqa: E731
    for path, why in rows:
        status, said = run_text(tmp_path, text(path), "-t", before=UNPRIVILEGED)
        assert (status, said) == (1, f"FILE: log: access: {path}: {why}\n")
    for path in (there, tmp_path / "new.log", "-", "off"):
        assert run_text(tmp_path, text(path), "-t") == (0, "FILE: ok\n")
    assert there.read_text() == "a line\n" and not (tmp_path / "new.log").exists()


def test_certificates_that_cannot_be_used(tmp_path):
    cert, key = pem(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_key = pem(tmp_path / "other")
    junk, half = tmp_path / "junk.pem", tmp_path / "half.pem"
    junk.write_text("junk\n")
    half.write_text(cert.read_text()[:200])
    rows = [
        (tmp_path / "none.pem", key, ["none.pem", "No such file"]),
        (cert, tmp_path / "none.pem", ["none.pem", "No such file"]),
        (junk, key, ["junk.pem"]),
        (half, key, ["half.pem"]),
        (cert, junk, ["junk.pem"]),
        (cert, other_key, ["key"]),
        (tmp_path, key, [str(tmp_path)]),
    ]
    for check in ([], ["-t"]):  # the check finds what the start would
        for c, k, words in rows:
            status, said = run_text(tmp_path, tls_text(c, k), *check)
            assert status == 1 and 'listen "tls": ' in said, said
            for word in words:
                assert word in said, (word, said)
            assert "PRIVATE" not in said
        for closed in (key, cert):
            closed.chmod(0)
            status, said = run_text(tmp_path, tls_text(cert, key), *check, before=UNPRIVILEGED)
            assert status == 1 and f"{closed.name}: Permission denied" in said, said
            closed.chmod(0o600)
    assert run_text(tmp_path, tls_text(cert, key), "-t") == (0, "FILE: ok\n")
    status, said = run_text(tmp_path, LISTEN.replace(" }", f' certificate = "{cert}" }}') + GOOD_WORKER)
    assert status == 1 and "key" in said


@pytest.mark.parametrize("token", ["", "short\n", "x" * 5000])
def test_tokens_that_cannot_be_used(tmp_path, token):
    (tmp_path / "token").write_text(token)
    admin = f'admin {{ address = "127.0.0.1:0" token_file = "{tmp_path}/token" }}\n'
    for check in ([], ["-t"]):
        status, said = run_text(tmp_path, LISTEN + admin + GOOD_WORKER, *check)
        assert status == 1 and f"{tmp_path}/token" in said
        assert "xxxx" not in said and "short\n" not in said


# ---- models ----------------------------------------------------------------------------------------------


def test_a_missing_model_directory(tmp_path):
    status, said = run(WORKER, "--repository", tmp_path / "none", "--device", "cpu", "--listen", "127.0.0.1:0")
    assert status == 1 and f"repository {tmp_path}/none: No such file or directory" in said
    with Sluice(configuration(tmp_path, repository=tmp_path / "none"), wait_models=()) as sluice:
        sluice.wait_event("worker_exited", count=2)
        answer = httpx.post(sluice.url + "/v2/models/digits/infer", content=GOOD_BODY, timeout=30)
        assert answer.status_code == 503 and "retry-after" in answer.headers
        assert httpx.get(sluice.url + "/v2/health/live").status_code == 200
        assert httpx.get(sluice.url + "/v2/health/ready").status_code == 503
        assert sluice.stop() == 0


def test_models_that_may_not_be_read(tmp_path):
    """A repository that is closed to us ends the start; a model that is closed is refused, and the others serve."""
    repository = tmp_path / "models"
    for name in ("digits", "closed", "hidden"):
        copy_model(MODELS / "digits" / "1" / "model.onnx", repository, name)
    (repository / "closed" / "1" / "model.onnx").chmod(0)
    (repository / "hidden").chmod(0)
    try:
        with Sluice(configuration(tmp_path / "gw", repository=repository), limits=UNPRIVILEGED) as sluice:
            for name in ("closed", "hidden"):
                assert "Permission denied" in sluice.wait_event("model_refused", model=name)["why"]
            assert httpx.post(sluice.url + "/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
            assert httpx.post(sluice.url + "/v2/models/closed/infer", content=GOOD_BODY).status_code == 404
            assert sluice.stop() == 0
        repository.chmod(0)
        status, said = run(*UNPRIVILEGED, WORKER, "--repository", repository, "--device", "cpu", "--listen", "127.0.0.1:0")
        assert status == 1 and f"repository {repository}: Permission denied" in said, said
    finally:
        repository.chmod(0o755)
        (repository / "hidden").chmod(0o755)


def onnx_with_unknown_op():
    """A model of one node, by hand: field numbers of onnx.proto."""

    def field(number, octets):
        return bytes([number << 3 | 2, len(octets)]) + octets

    def tensor_info(name):
        dims = b"".join(field(1, d) for d in (field(2, b"n"), b"\x08\x04"))
        return field(1, name) + field(2, field(1, b"\x08\x01" + field(2, dims)))

    node = field(1, b"x") + field(2, b"y") + field(3, b"the-node") + field(4, b"Frobnicate")
    graph = field(1, node) + field(2, b"g") + field(11, tensor_info(b"x")) + field(12, tensor_info(b"y"))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


def test_broken_models_and_an_unknown_op(tmp_path):
    """Each is refused with its reason; the others go on serving."""
    repository = tmp_path / "models"
    copy_model(MODELS / "digits" / "1" / "model.onnx", repository, "digits")
    whole = (MODELS / "digits" / "1" / "model.onnx").read_bytes()
    broken = {
        "junk": b"junk",
        "nothing": b"",
        "half": whole[: len(whole) // 2],
        "zeros": bytes(10000),
        "frob": onnx_with_unknown_op(),
        "deep": b"\x3a\x7f" * 60000,
    }
    for name, octets in broken.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.onnx").write_bytes(octets)
    (repository / "empty").mkdir()
    (repository / "no_file" / "1").mkdir(parents=True)
    (repository / "dir" / "1" / "model.onnx").mkdir(parents=True)
    (repository / "link" / "1").mkdir(parents=True)
    (repository / "link" / "1" / "model.onnx").symlink_to("/dev/zero")
    copy_model(MODELS / "digits" / "1" / "model.onnx", repository, "cfg")
    (repository / "cfg" / "config.json").write_text("{ not json")
    with Sluice(configuration(tmp_path / "gw", repository=repository)) as sluice:
        for name in broken:
            event = sluice.wait_event("model_refused", model=name)
            assert event["why"], event
        assert "Frobnicate" in sluice.wait_event("model_refused", model="frob")["why"]
        assert sluice.wait_event("model_refused", model="empty")["why"].startswith("it has no version")
        for name in ("no_file", "dir", "link"):  # row 118: a link that leads out is not followed
            assert sluice.wait_event("model_refused", model=name)["why"].startswith("model.onnx: ")
        assert sluice.wait_event("model_config_ignored", model="cfg")["why"]
        answer = httpx.post(sluice.url + "/v2/models/digits/infer", content=GOOD_BODY)
        assert answer.status_code == 200
        assert httpx.post(sluice.url + "/v2/models/frob/infer", content=GOOD_BODY).status_code == 404
        assert len(sluice.find("worker_started")) == 1
        assert sluice.stop() == 0


def test_a_crash_loop_backs_off(tmp_path):
    """Row 136: a worker that dies at once is started ever more slowly."""
    path = configuration(tmp_path, repository=tmp_path / "none")
    with Sluice(path, wait_models=()) as sluice:
        wait_for(lambda: len(sluice.find("worker_exited")) >= 5, 30, "five deaths")
        pauses = [e["restart_in_us"] for e in sluice.find("worker_exited")]
        assert pauses[0] == 0 and pauses[4] > pauses[1], pauses
        assert sluice.stop() == 0


@pytest.mark.parametrize("after", ["listening", "worker_started", "gateway_started", "ready"])
def test_ctrl_c_at_any_time_of_the_start(tmp_path, after):
    """A terminal sends it to the whole group: also to a child that has not left the group yet."""
    config = configuration(tmp_path)
    for _ in range(8):
        words = [*PREFIX, SLUICE, "-c", config]
        p = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
        said = []
        while f'"event":"{after}"'.encode() not in (said or [b""])[-1]:
            said.append(p.stderr.readline())
            assert said[-1], said
        os.killpg(p.pid, signal.SIGINT)
        said += p.stderr.read().splitlines()
        assert p.wait(30) == 0, b"\n".join(said).decode()
