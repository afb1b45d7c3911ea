"""The admin listener: who may see what, what /status tells, and that it answers when the rest cannot."""
import contextlib
import json
import os
import signal

import httpx
import pytest
from harness import GOOD_BODY, Sluice, Wire, configuration, infer_body, post, wait_for
from load import Load

INFER = "/v2/models/digits/infer"
TOKEN = {"authorization": "Bearer open sesame, please"}


def ask(sluice, path, method="GET", http2=False, **headers):
    with httpx.Client(http1=not http2, http2=http2, timeout=30) as client:
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        return client.request(method, f"http://127.0.0.1:{sluice.admin_port}{path}", headers=fields)


# ---- who may -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_pages(gateway, http2):
    types = {"/metrics": "text/plain; version=0.0.4; charset=utf-8", "/healthz": "application/json", "/status": "application/json"}
    for path, type_ in types.items():
        whole = ask(gateway, path, http2=http2, **TOKEN)
        assert whole.status_code == 200 and whole.headers["content-type"] == type_
        assert whole.headers["cache-control"] == "no-store"
        head = ask(gateway, path, "HEAD", http2=http2, **TOKEN)
        assert head.status_code == 200 and not head.content and int(head.headers["content-length"]) > 0
    assert ask(gateway, "/healthz", http2=http2).json() == {"healthy": True}


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_refusals_say_what_was_expected(gateway, http2):
    answer = ask(gateway, "/status", http2=http2)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {"error": "authorization: expected the admin token"}
    answer = ask(gateway, "/status", http2=http2, authorization="bearer open sesame, please")
    assert answer.status_code == 200  # the scheme's case does not matter (RFC 9110 11.1)
    answer = ask(gateway, "/metrics", "POST", http2=http2)
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD"
    answer = ask(gateway, "/nothing", http2=http2, **TOKEN)
    assert answer.status_code == 404 and "/metrics, /healthz, /status, /events" in answer.json()["error"]
    answer = ask(gateway, "/status", http2=http2, host="example.org", **TOKEN)
    assert answer.status_code == 403 and "host" in answer.json()["error"]


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_open_pages_answer_under_any_host(gateway, path, http2):
    """Scrapers and probes name the service, not an address: sluice:9090."""
    for host in ("sluice:9090", "sluice.prod.svc.cluster.local", "localhost.example"):
        assert ask(gateway, path, http2=http2, host=host).status_code == 200


@pytest.mark.parametrize(
    "host, status",
    [
        (b"127.0.0.1", 200),
        (b"127.0.0.1:1", 200),
        (b"[::1]:9090", 200),
        (b"localhost", 200),
        (b"localhost:9090", 200),
        (b"localhost.example", 403),
        (b"10.0.0.7", 200),
        (b"10.0.0.7.nip.io", 403),
        (b"0x7f000001", 403),
        (b"sluice", 403),
        (b"", 400),
    ],
    ids=lambda v: v.decode() if isinstance(v, bytes) else None,
)
def test_hosts(gateway, host, status):
    with Wire(gateway.admin_port) as wire:
        octets = b"GET /status HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nConnection: close\r\n\r\n"
        octets %= (host, TOKEN["authorization"].encode())
        got = wire.send(octets).read_until_closed().answers()[0][0]
    assert got == status or (got, status) == (403, 400)


def test_without_a_token_file_the_page_is_closed(tmp_path):
    path = configuration(tmp_path)
    path.write_text(path.read_text().replace(f'token_file = "{tmp_path}/token"', ""))
    with Sluice(path) as sluice:
        for token in ({}, TOKEN, {"authorization": "Bearer x"}):
            answer = ask(sluice, "/status", **token)
            assert answer.status_code == 401 and "token_file is not set" in answer.json()["error"]
        assert ask(sluice, "/metrics").status_code == 200
        assert sluice.stop() == 0


# ---- what /status tells ------------------------------------------------------------------------------


def test_status_has_every_loop_desk_worker_and_pool(start):
    sluice = start(replicas=2, wait_models=("digits", "digits-small"))
    wait_for(lambda: sluice.metric("sluice_ready_replicas") == 4)
    page = sluice.status_page()
    assert page["phase"] == "running" and page["generation"] == 0 and page["pid"] == sluice.gateway_pid()
    assert [e["index"] for e in page["loops"]] == [0, 1]
    for loop in page["loops"]:
        assert loop["turns"] > 0 and loop["in_flight"] == loop["zombies"] == 0
    models = {m["name"]: m for m in page["models"]}
    assert set(models) == {"digits", "digits-small"}
    for m in models.values():
        assert m["home"] in (0, 1) and m["ready_replicas"] == 2 and m["max_batch"] == 64
        assert m["waiting_rows"] == m["running_rows"] == m["charged_rows"] == m["charged_bytes"] == 0
        assert m["queue_limit_rows"] == 4096
    assert [w["name"] for w in page["workers"]] == ["w/0", "w/1"]
    connected = lambda: all(w["connections"] == ["ready", "ready"] for w in sluice.status_page()["workers"])
    wait_for(connected, what="a connection of each loop to each worker")
    (listener,) = page["listeners"]
    assert listener["name"] == "public" and listener["accepting"] and not listener["tls"]
    assert 0 <= page["bytes_leased"] <= page["bytes_limit"] and page["bytes_limit"] > 0


def test_status_has_what_each_loop_shows(start):
    """Desks, flow, connections to workers and blocks, printed by the loop that holds them."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3', models='model "digits" { batch { policy = fixed max_rows = 2 } }')
    pid = sluice.worker_pid()
    wait_for(lambda: sluice.metric("sluice_worker_connections", state="ready") == 2)

    def held():
        page = sluice.status_page()
        assert all(e["answered"] for e in page["loops"]) and '"wrong"' not in json.dumps(page)
        return [e["holds"] for e in page["loops"]]

    def desk():
        (one,) = [d for h in held() for d in h["desks"] if d["model"] == "digits"]
        return one

    for h in held():
        (worker,) = h["workers"]
        assert (worker["name"], worker["state"], worker["connects"], worker["losses"]) == ("w/0", "ready", 1, 0)
        assert sorted(worker["models"]) == ["digits", "digits-small"]
        assert h["flow"] == {"live": 0, "zombies": 0, "deadlines": 0, "shadows": 0}
    (replica,) = desk()["replicas"]
    assert replica["up"] and not replica["differs"] and replica["versions"] == ["1"]
    body = infer_body([[0.5] * 64] * 2)
    wires = [Wire(sluice.port, 60) for _ in range(5)]
    os.kill(pid, signal.SIGSTOP)
    try:
        for wire in wires:
            wire.send(post(body))
        seen = wait_for(lambda: desk()["waiting_requests"] == 3 and desk())
        assert (seen["waiting_rows"], seen["running_rows"]) == (6, 4)
        assert [(r["batches"], r["rows"]) for r in seen["replicas"]] == [(2, 4)]
        assert sum(h["flow"]["live"] for h in held()) == sum(h["flow"]["deadlines"] for h in held()) == 5
        assert sum(w["in_flight"] for h in held() for w in h["workers"]) == 2
        wires.pop().socket.close()
        wait_for(lambda: desk()["waiting_requests"] == 2)
    finally:
        os.kill(pid, signal.SIGCONT)
    for wire in wires:
        assert wire.read_answers(1, 30)[0][0] == 200
        wire.socket.close()
    wait_for(lambda: all(h["blocks"] == 0 and h["flow"]["live"] == 0 for h in held()))


def test_status_of_many_at_once_and_of_those_that_leave(start):
    sluice = start()
    ask_it = b"GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer open sesame, please\r\n\r\n"
    wires = [Wire(sluice.admin_port).send(ask_it * 4) for _ in range(20)]
    for wire in wires[::2]:
        wire.socket.close()
    for wire in wires[1::2]:
        assert [a[0] for a in wire.read_answers(4)] == [200] * 4
        wire.socket.close()
    assert all(e["answered"] for e in sluice.status_page()["loops"])


def test_status_while_requests_wait(start):
    """What is held is told: by its loop, its model and the pools; afterwards all of it is given back."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3', models='model "digits" { batch { policy = fixed max_rows = 2 } }')
    pid = sluice.worker_pid()
    body = infer_body([[0.5] * 64] * 2)
    wires = [Wire(sluice.port, 60) for _ in range(8)]
    os.kill(pid, signal.SIGSTOP)
    try:
        for wire in wires:
            wire.send(post(body))

        def digits():
            return next(m for m in sluice.status_page()["models"] if m["name"] == "digits")

        wait_for(lambda: digits()["charged_rows"] == 16)
        seen = wait_for(lambda: digits()["running_rows"] == 4 and digits())
        assert seen["waiting_rows"] == 12 and seen["charged_bytes"] >= 16 * 64 * 4  # two batches are out: pipeline
        page = sluice.status_page()
        assert sum(e["in_flight"] for e in page["loops"]) == 8 == page["listeners"][0]["connections"]
        assert page["bytes_leased"] > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    for wire in wires:
        assert wire.read_answers(1, 30)[0][0] == 200
        wire.socket.close()
    wait_for(lambda: digits()["charged_rows"] == digits()["charged_bytes"] == digits()["running_rows"] == 0)
    wait_for(lambda: sum(e["in_flight"] + e["connections"] for e in sluice.status_page()["loops"]) == 0)


def test_streams_are_told(start):
    """HTTP/2 streams that are open, whatever carries them; HTTP/1.1 requests are none."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3')
    pid = sluice.worker_pid()
    loads = [Load(sluice.port, h1=0, h2=2, streams=5), Load(sluice.port, h1=3)]
    os.kill(pid, signal.SIGSTOP)
    try:
        with loads[0], loads[1]:
            wait_for(lambda: sluice.metric("sluice_in_flight") == 13)
            assert sluice.metric("sluice_streams") == 10 == sum(e["streams"] for e in sluice.status_page()["loops"])
            os.kill(pid, signal.SIGCONT)
            for load in loads:
                load.wait(20)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: sluice.metric("sluice_streams") == 0)
    with httpx.Client(base_url=sluice.url, http1=False, http2=True) as client:
        for path in ("/v2", "/nowhere", "/v2/models/digits"):
            client.get(path)
    wait_for(lambda: sluice.metric("sluice_streams") == 0)


def test_status_of_a_worker_that_is_away(start):
    sluice = start(health='interval = "50ms" timeout = "200ms" failures = 2')
    sluice.wait_workers()
    first = sluice.worker_pid()
    os.kill(first, signal.SIGSTOP)
    wait_for(lambda: "ready" not in sluice.status_page()["workers"][0]["connections"])
    sluice.wait_event("worker_hangs")  # it is killed, and another one started
    sluice.wait_event("worker_listening", count=2)
    wait_for(lambda: sluice.status_page()["workers"][0]["connections"] == ["ready", "ready"])
    assert sluice.metric("sluice_worker_connections", state="ready") == 2


def test_a_gateway_that_came_back_says_so(start):
    sluice = start()
    first = sluice.gateway_pid()
    os.kill(first, signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    page = wait_for(sluice.status_page)
    assert page["generation"] == 1 and page["pid"] != first
    assert sluice.metric("sluice_gateway_restarts_total") == 1


# ---- going down --------------------------------------------------------------------------------------


def test_readiness_goes_first(start):
    """In drain_delay new requests are served, told to go elsewhere next; the end is 0."""
    sluice = start()
    config = sluice.config.read_text()
    assert sluice.stop() == 0
    sluice.config.write_text(config.replace("drain_delay = 0", 'drain_delay = "5s"'))
    with Sluice(sluice.config) as slow, httpx.Client(base_url=slow.url) as client, httpx.Client(base_url=slow.url) as before:
        assert before.get("/v2/health/ready").status_code == 200
        slow.kill(signal.SIGTERM)
        slow.wait_event("draining")
        assert slow.status_page()["phase"] == "draining" and slow.metric("sluice_draining") == 1
        assert ask(slow, "/healthz").json() == {"healthy": False}
        for path in ("/v2/health/ready", "/v2/models/digits/ready"):
            answer = client.get(path)
            assert answer.status_code == 503 and answer.headers["connection"] == "close"
        assert client.get("/v2/health/live").status_code == 200
        for c in (client, before):  # a fresh connection, and one from before
            answer = c.post(INFER, content=GOOD_BODY)
            assert answer.status_code == 200 and answer.headers["connection"] == "close"
        assert slow.wait() == 0


def test_an_idle_gateway_ends_at_once_with_open_connections(start):
    """Nothing runs: neither HTTP/1.1 nor HTTP/2 clients that sit there keep it."""
    sluice = start()
    with httpx.Client(base_url=sluice.url) as a, httpx.Client(base_url=sluice.url, http1=False, http2=True) as b:
        assert a.post(INFER, content=GOOD_BODY).status_code == b.post(INFER, content=GOOD_BODY).status_code == 200
        assert sluice.stop() == 0
        assert not sluice.find("cut")


# ---- actions -----------------------------------------------------------------------------------------


def act(sluice, path, body=None, **headers):
    url = f"http://127.0.0.1:{sluice.admin_port}{path}"
    return httpx.post(url, content=body, headers={**TOKEN, **headers}, timeout=30)


def test_actions_want_the_token_and_post(gateway):
    for path in ("/v1/reload", "/v1/drain", "/v1/loglevel"):
        url = f"http://127.0.0.1:{gateway.admin_port}{path}"
        assert httpx.post(url).status_code == 401
        assert httpx.post(url, headers={**TOKEN, "host": "example.org"}).status_code == 403
        assert httpx.put(url, headers=TOKEN).status_code == 405
    assert ask(gateway, "/v1/drain", **TOKEN).headers["allow"] == "POST"
    assert ask(gateway, "/v1/loglevel", "DELETE", **TOKEN).headers["allow"] == "GET, HEAD, POST"
    assert ask(gateway, "/v1/loglevel").status_code == 401
    assert gateway.status_page()["phase"] == "running"


@pytest.mark.parametrize(
    "body, why",
    [
        (b"", "body: expected"),
        (b"debug", "body: expected"),
        (b"{}", "body: expected"),
        (b'{"level": 3}', "body: expected"),
        (b'{"level": "debug"', "body: expected"),
        (b'{"level": "debug"} {}', "body: expected"),
        (b'{"level": "debug", "for": "ever"}', "body: expected"),
        (b'{"level": "DEBUG"}', 'level: expected debug, info, warn or error, got "DEBUG"'),
        (b'{"level": "%s"}' % (b"x" * 900), '"' + "x" * 64 + '"'),
    ],
    ids=lambda v: str(v[:20]),
)
def test_bad_levels(gateway, body, why):
    answer = act(gateway, "/v1/loglevel", body)
    assert answer.status_code == 400 and why in answer.json()["error"]
    assert ask(gateway, "/v1/loglevel", **TOKEN).json() == {"level": "info", "before": "info"}


def test_a_body_that_no_page_takes(gateway):
    assert act(gateway, "/v1/loglevel", b" " * 5000).status_code == 413
    answer = act(gateway, "/v1/drain", b"{}")
    assert answer.status_code == 400 and answer.json() == {"error": "body: expected none"}
    assert gateway.status_page()["phase"] == "running"


def test_the_level_changes_while_requests_run(start):
    """On every loop, in the keeper, and for the gateway that comes after a crash."""
    sluice = start(loops=2)
    infer = lambda: httpx.post(sluice.url + INFER, content=GOOD_BODY).status_code
    level = lambda name: act(sluice, "/v1/loglevel", json.dumps({"level": name})).json()
    assert infer() == 200 and not sluice.find("batch")
    assert level("debug") == {"level": "debug", "before": "info"}
    assert infer() == 200
    assert sluice.wait_event("batch")["level"] == "debug" and sluice.find("batch")[0]["rows"] == 1
    done = sluice.wait_event("done", model="digits")
    assert done["rows"] == 1 and done["took_us"] > 0
    sluice.wait_event("log_level", now="debug", before="info", client="127.0.0.1", level="info")
    assert level("warn") == {"level": "warn", "before": "debug"}
    sluice.wait_event("log_level", now="warn")
    assert sluice.status_page()["log_level"] == "warn"
    told = len(sluice.find("done"))
    assert infer() == 200
    os.kill(sluice.gateway_pid(), signal.SIGKILL)  # and nobody says that another one started
    sluice.wait_event("gateway_exited")
    assert wait_for(sluice.status_page)["log_level"] == "warn"
    assert len(sluice.find("gateway_started", generation=1)) == 0 and len(sluice.find("done")) == told
    assert level("info") == {"level": "info", "before": "warn"}
    sluice.wait_event("log_level", now="info", before="warn")
    assert sluice.stop() == 0
    sluice.wait_event("stopped", timeout=5)


def test_level_of_the_file(tmp_path):
    path = configuration(tmp_path)
    path.write_text(path.read_text().replace("log {", "log { level = debug"))
    with Sluice(path) as sluice:
        assert httpx.post(sluice.url + INFER, content=GOOD_BODY).status_code == 200
        sluice.wait_event("batch", reason="idle")
        assert ask(sluice, "/v1/loglevel", **TOKEN).json()["level"] == "debug"
        assert sluice.stop() == 0


def test_drain_by_an_operator(start):
    """As SIGTERM to the keeper: what runs is answered, the end is 0; a second word does not cut."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3')
    pid = sluice.worker_pid()
    sluice.wait_workers()
    os.kill(pid, signal.SIGSTOP)
    try:
        with Wire(sluice.port, 60) as wire:
            wire.send(post())
            wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
            answer = act(sluice, "/v1/drain")
            assert answer.status_code == 202
            assert answer.json() == {"already": False, "pid": sluice.gateway_pid(), "delay_ms": 0, "timeout_ms": 60000}
            sluice.wait_event("draining", why="an operator's word")  # the keeper, and then the gateway by its word
            sluice.wait_event("draining", why="the keeper says so")
            again = act(sluice, "/v1/drain")
            assert again.status_code == 200 and again.json()["already"]
            assert sluice.status_page()["phase"] != "running" and not sluice.find("cut")
            sluice.kill(signal.SIGTERM)  # whoever stops the service behind the operator is in no hurry either
            sluice.wait_event("told_again", why="SIGTERM")
            os.kill(pid, signal.SIGCONT)
            assert wire.read_answers(1, 30)[0][0] == 200
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert sluice.wait() == 0
    assert sluice.find("drain_asked", client="127.0.0.1") and not sluice.find("cut")


def test_drain_of_a_gateway_that_was_told_alone(start):
    """A signal to the gateway's process alone makes the keeper start another; what an operator says does not."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3')
    sluice.wait_workers()
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with Wire(sluice.port, 60) as wire:
            wire.send(post())
            wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
            os.kill(sluice.gateway_pid(), signal.SIGTERM)
            sluice.wait_event("draining", why="SIGTERM")
            answer = act(sluice, "/v1/drain")
            assert answer.status_code == 200 and answer.json()["already"]
            sluice.wait_event("draining", why="an operator's word")
            os.kill(pid, signal.SIGCONT)
            assert wire.read_answers(1, 30)[0][0] == 200
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert sluice.wait() == 0 and not sluice.find("cut") and not sluice.find("gateway_started", generation=1)


def test_a_keeper_that_does_not_listen(start):
    """Words to it have a bounded place: past it nothing is done by halves, and it is told so."""
    sluice = start()
    client = httpx.Client(base_url=f"http://127.0.0.1:{sluice.admin_port}", headers=TOKEN, timeout=30)
    os.kill(sluice.pid, signal.SIGSTOP)
    try:
        for n in range(20000):
            wish = ("debug", "warn")[n % 2]
            answer = client.post("/v1/loglevel", content=json.dumps({"level": wish}))
            if answer.status_code != 200:
                break
        assert answer.status_code == 503 and answer.json() == {"error": "the keeper could not be told: nothing has changed"}
        assert client.get("/v1/loglevel").json()["level"] != wish
        assert client.post("/v1/drain").status_code == 503 and client.get("/status").json()["phase"] == "running"
        assert httpx.post(sluice.url + INFER, content=GOOD_BODY).status_code == 200
    finally:
        os.kill(sluice.pid, signal.SIGCONT)
    wait_for(lambda: client.post("/v1/loglevel", content=b'{"level": "info"}').status_code == 200)
    assert client.post("/v1/drain").status_code == 202
    assert sluice.wait() == 0 and sluice.wait_event("draining", why="an operator's word")
