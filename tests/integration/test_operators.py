"""What operators touch: the command line, /metrics, /status, /healthz, installation, going down."""
import collections
import os
import re
import socket
import stat
import subprocess

import grpc
import httpx
import prometheus
import pytest
from harness import BUILD, GOOD_BODY, MODELS, ROOT, SAMPLES, SLUICE, WORKER, Sluice, Wire, configuration, infer_body, post, wait_for
from tritonclient.grpc import service_pb2

ROWS = [s["input"] for s in SAMPLES]
INFER = "/v2/models/digits/infer"
LISTEN = 'listen "public" { address = "127.0.0.1:0" }\n'
GOOD_WORKER = 'worker "w" { command = {"sluice-worker", "--repository", "models"} }\n'


def run(*words, **more):
    """(status, standard output, standard error)"""
    more.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run([str(w) for w in words], stderr=subprocess.PIPE, text=True, timeout=60, **more)
    return done.returncode, done.stdout, done.stderr


# ---- the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [SLUICE, WORKER], ids=["sluice", "worker"])
def test_version_and_help(program):
    version = re.search(r'SLUICE_VERSION "(.*)"', (ROOT / "base/version.h").read_text())[1]
    assert run(program, "--version") == (0, f"{program.name} {version}\n", "")
    status, text, errors = run(program, "--help")
    assert status == 0 and not errors and program.name in text
    for option in ("-c FILE", "-t", "--version") if program == SLUICE else ("--repository", "--listen", "--threads"):
        assert option in text
    with open("/dev/full", "w") as full:
        assert run(program, "--help", stdout=full)[0] != 0  # nobody was helped


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "sluice: no configuration: -c FILE is missing; see sluice --help\n"),
        (["--frob"], 'sluice: unknown option "--frob"; see sluice --help\n'),
        (["gateway.conf"], 'sluice: unknown option "gateway.conf"; see sluice --help\n'),
        (["-c"], "sluice: -c needs a file; see sluice --help\n"),
        (["-c", "a", "-c", "b"], "sluice: -c stands twice; see sluice --help\n"),
    ],
    ids=range(5),
)
def test_wrong_usage_of_sluice(words, said):
    assert run(SLUICE, *words) == (2, "", said)


def test_wrong_usage_of_the_worker():
    repository = ["--repository", MODELS, "--listen", "127.0.0.1:0"]
    for words, said in [
        ([], "--repository"),
        (["--repository", MODELS], "--listen"),
        ([*repository, "--device", "abacus"], 'got "abacus"'),
        ([*repository, "--threads", "many"], 'got "many"'),
        ([*repository, "--threads", "-1"], 'got "-1"'),
        ([*repository, "--max-batch", "99999999999"], "--max-batch"),
        ([*repository, "--frob"], "frob"),
        ([*repository, "more"], "unexpected argument: more"),
        (["--repository", MODELS, "--listen", "nonsense"], "nonsense"),
    ]:
        status, out, errors = run(WORKER, *words)
        assert status == 2 and out == "" and said in errors, (words, status, errors)


CHECKS = [
    ("", " no listen section: nobody could reach the gateway"),
    (LISTEN + "loops = 257\n", '2: loops: expected a whole number from 0 to 256, got "257"'),
    (LISTEN + 'limits {\n  max_body = "64 parsecs"\n}\n', '3: max_body: expected a size such as "64MiB" from 1KiB to 4GiB, got "64 parsecs"'),
    (LISTEN + 'log { sample = "101%" }\n', '2: sample: expected a share such as "12.5%" from 0% to 100%, got "101%"'),
    (LISTEN + "models = some\n", '2: models: expected one of all|listed, got "some"'),
    (LISTEN + "lops = 1\n", '2: unknown key "lops" at the top of the file; did you mean "loops"?'),
]


@pytest.mark.parametrize("text, line", CHECKS, ids=range(len(CHECKS)))
def test_check_says_line_key_expected_and_got(tmp_path, text, line):
    path = tmp_path / "bad.conf"
    path.write_text(text + GOOD_WORKER)
    status, out, errors = run(SLUICE, "-t", "-c", path)
    assert status == 1 and out == ""
    assert f"{path}:{line}" in errors.split("\n"), errors


def test_check_tells_all_errors_at_once(tmp_path):
    path = tmp_path / "bad.conf"
    path.write_text('loops = x\nlisten "a" { address = "here" }\nlimits { max_body = 1 max_streams = 0 }\n' + GOOD_WORKER)
    status, _, errors = run(SLUICE, "-t", "-c", path)
    lines = [int(n) for n in re.findall(rf"^{re.escape(str(path))}:(\d+): ", errors, re.M)]
    assert status == 1 and lines == [1, 2, 3, 3], errors


def test_check_of_good_files(tmp_path):
    """The sample as it stands; and nothing is opened, so that a running gateway's file can be checked."""
    assert run(SLUICE, "-t", "-c", "config/gateway.conf", cwd=ROOT) == (0, "config/gateway.conf: ok\n", "")
    with socket.create_server(("127.0.0.1", 0)) as s:
        path = tmp_path / "good.conf"
        path.write_text(LISTEN.replace(":0", f":{s.getsockname()[1]}") + GOOD_WORKER)
        assert run(SLUICE, "-t", "-c", path) == (0, f"{path}: ok\n", "")


def test_install(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    # -o all: what is tested is what was built, be it with a sanitizer's flags
    words = ["make", "-s", "-o", "all", "install", f"B={BUILD}", f"DESTDIR={tmp_path}", "PREFIX=/opt/x"]
    status, _, errors = run(*words, cwd=ROOT, env=env)
    assert status == 0, errors
    files = {str(p.relative_to(tmp_path)): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()}
    assert files["opt/x/bin/sluice"] == files["opt/x/bin/sluice-worker"] == 0o755
    assert files["opt/x/share/doc/sluice/gateway.conf"] == files["opt/x/share/doc/sluice/README.md"] == 0o644
    assert all(name.startswith("opt/x/") for name in files)
    where = tmp_path / "opt/x"
    done = run(where / "bin/sluice", "-t", "-c", where / "share/doc/sluice/gateway.conf", env={"PATH": ""}, cwd=tmp_path)
    assert done[0] == 0, done  # finds the worker beside itself


# ---- /metrics ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ops(tmp_path_factory):
    """A gateway whose counts nobody else changes."""
    limits = 'max_body = "32KiB" body_timeout = "1s"'
    with Sluice(configuration(tmp_path_factory.mktemp("ops"), limits=limits), wait_models=("digits", "digits-small")) as s:
        yield s
        assert s.stop() == 0, s.text


def page(sluice):
    answer = httpx.get(f"http://127.0.0.1:{sluice.admin_port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return prometheus.read(answer.text)


def requests(sluice):
    """{(model, status, source): count}"""
    found = page(sluice)["sluice_requests_total"].values()
    return {tuple(dict(k)[n] for n in ("model", "status", "source")): v for k, v in found.items()}


HEAD = "# HELP a_total A.\n# TYPE a_total counter\n"
HIST = "# HELP h H.\n# TYPE h histogram\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "a_total 1",
        "a_total 1\n",
        HEAD + "b_total 1\n",
        HEAD + HEAD,
        HEAD + 'a_total{x="1"} 1\na_total{x="1"} 2\n',
        HEAD + 'a_total{x="a"b"} 1\n',
        HEAD + 'a_total{x="a\\t"} 1\n',
        HEAD + 'a_total{x="1",x="2"} 1\n',
        HEAD + "a_total -1\n",
        HEAD + "a_total one\n",
        HEAD.replace("_total", ""),
        HIST + 'h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
        HIST + 'h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
        HIST + 'h_bucket{le="2"} 1\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
        HIST + 'h_bucket{le="+Inf"} 2\nh_sum 1\nh_count 1\n',
        HIST + 'h_bucket{le="+Inf"} 1\nh_count 1\n',
    ],
    ids=range(16),
)
def test_the_reader_is_strict(text):
    with pytest.raises(ValueError):
        prometheus.read(text)


def test_metrics_are_well_formed(ops):
    httpx.post(ops.url + INFER, content=GOOD_BODY)
    families = page(ops)
    wanted = {
        "counter": ["requests", "batches", "events", "accepted", "handed_over", "accept_paused", "log_dropped", "log_errors"],
        "gauge": ["queue_rows", "running_rows", "ready_replicas", "worker_connections", "connections", "streams", "in_flight", "draining"],
        "histogram": ["latency_seconds", "batch_rows", "loop_delay_seconds"],
    }
    for kind, names in wanted.items():
        for name in names:
            assert families["sluice_" + name + "_total" * (kind == "counter")].kind == kind
    stages = {dict(k)["stage"] for k in families["sluice_latency_seconds"].values("_count")}
    assert stages == {"total", "parse", "queue", "compute"}
    states = families["sluice_worker_connections"].values()
    assert {dict(k)["state"]: v for k, v in states.items()} == {"down": 0, "connecting": 0, "asking": 0, "ready": 2}
    assert all(f.help.endswith(".") for f in families.values())


def grpc_infer(sluice, model, times):
    q = service_pb2.ModelInferRequest(model_name=model)
    q.inputs.add(name="input", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend(ROWS[0])
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        for _ in range(times):
            assert call(q, timeout=30).model_name == model


def test_counts_agree_with_what_was_sent(ops):
    wait_for(lambda: ops.metric("sluice_in_flight") == 0)
    before = requests(ops)
    lines = int(sum(before.values()))
    wait_for(lambda: len(ops.access_log()) == lines)  # the log thread comes a little later
    late, large = infer_body(ROWS[:1], parameters={"timeout": 1}), b" " * 40000
    small = "/v2/models/digits-small/infer"
    sent = [
        (7, 200, ("digits", "ok", "model"), INFER, GOOD_BODY),
        (3, 200, ("digits-small", "ok", "model"), small, GOOD_BODY),
        (2, 504, ("digits", "deadline", "none"), INFER, late),
        (4, 400, ("", "bad_request", "none"), INFER, b"{"),
        (2, 400, ("digits-small", "bad_request", "none"), small, infer_body([[1, 2]])),
        (5, 404, ("", "not_found", "none"), "/v2/models/nobody/infer", GOOD_BODY),
        (3, 413, ("", "too_large", "none"), INFER, large),
        (6, 200, ("", "ok", "none"), "/v2", None),
        (1, 405, ("", "method", "none"), INFER, None),
    ]
    want = dict(before)
    for http2 in (False, True):
        with httpx.Client(base_url=ops.url, http1=not http2, http2=http2) as client:
            for count, status, key, path, body in sent:
                for _ in range(count):
                    answer = client.get(path) if body is None else client.post(path, content=body)
                    assert answer.status_code == status, (key, answer.text)
                want[key] = want.get(key, 0) + count
    grpc_infer(ops, "digits", 4)
    want["digits", "ok", "model"] += 4
    with Wire(ops.port) as slow, Wire(ops.port) as left:
        left.send(post()[:-5]).socket.close()
        assert slow.send(post()[:-5]).read_answers(1)[0][0] == 408
    want["", "client_gone", "none"] = want.get(("", "client_gone", "none"), 0) + 1
    want["", "slow_client", "none"] = want.get(("", "slow_client", "none"), 0) + 1
    wait_for(lambda: sum(requests(ops).values()) >= sum(want.values()))
    assert requests(ops) == want
    new = sum(want.values()) - sum(before.values())
    log = wait_for(lambda: len(ops.access_log()) >= lines + new and ops.access_log())[lines:]
    counted = collections.Counter()
    for key, n in want.items():
        counted[key[1:]] += int(n - before.get(key, 0))
    assert collections.Counter((e["outcome"], e.get("source", "none")) for e in log) == +counted


def test_histograms_count_what_a_model_answered(ops):
    families = page(ops)
    answered = {k[0]: v for k, v in requests(ops).items() if k[1] == "ok" and k[0]}
    for labels, count in families["sluice_latency_seconds"].values("_count").items():
        assert count == answered[dict(labels)["model"]]
    for labels, count in families["sluice_batch_rows"].values("_count").items():
        reasons = families["sluice_batches_total"].values()
        assert count == sum(v for k, v in reasons.items() if dict(k)["model"] == dict(labels)["model"])
