"""The gateway keeps what a doer owes for each effect of the router (tests/conformance/contracts.h): on its own loops,
before workers that answer, refuse, hang and take no bytes. The simulator's world is held to the same
(tests/unit/router_contracts.c). SLUICE_PROGRAM=sluice-contracts has any other test watched as well."""
import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
from harness import SLUICE_CONTRACTS, DooredSluice, configuration, wait_for
from load import Load
from redis_servers import Redis
from test_evidence import FAST, ask, large_binary, light_model, own_worker, wait_replicas
from triton_double import Triton

COLUMNS = 1 << 18  # of the model whose requests fill a socket
HEALTH = 'interval = "100ms" timeout = "400ms" failures = 2'
# What that makes of a hang: interval + (failures + 4) x timeout; and a busy machine's share on top.
BOUNDS = "5000 5000 12000 12000 5000"  # turn, wake, call, probe, close


class Watched(DooredSluice):
    def __init__(self, config, bounds=BOUNDS, **more):
        super().__init__(config, program=SLUICE_CONTRACTS, env={"SLUICE_CONTRACTS": bounds}, **more)


def post_large(sluice, rows, timeout_us):
    content, fields = large_binary(rows, COLUMNS, timeout_us)
    return httpx.post(f"{sluice.url}/v2/models/big/infer", content=content, headers=fields, timeout=60).status_code


def all_is_well(sluice):
    """Messages, batches, wakes, and what comes of each."""
    with Load(sluice.port, h1=3, h2=1, grpc=2, streams=4, ask=FAST) as load:
        load.wait(200)


def asks_the_store(sluice, redis):
    """It answers, answers late, and is away."""
    stored = lambda what: sluice.metric("sluice_store_answers_total", outcome=what)  # noqa: E731
    asked = lambda: ask(sluice, "kept").status_code == 200  # noqa: E731
    wait_for(lambda: asked() and stored("missed") + stored("found") > 2, 10, "it answers")
    redis.pause()
    before = stored("late")
    wait_for(lambda: asked() and stored("late") > before + 10, 10, "it does not")
    redis.go_on()
    redis.stop()
    assert asked()


def is_overloaded(sluice, t):
    """It refuses, is probed, and answers."""
    probes = t.calls("ServerLive")
    with Load(sluice.port, h1=2, grpc=1, ask=FAST) as load:
        load.wait(20)
        t.overload("grpc 14", 0.3)
        wait_for(lambda: t.calls("ServerLive") > probes + 2, 10, "probes")
        load.wait(50)


def computes_nothing(sluice, t):
    """It answers probes only: what is late is called back, which makes us doubt it, and what came then is lost at once."""
    t.mute("ModelInfer")
    with ThreadPoolExecutor(4) as pool:
        hurried = [pool.submit(ask, sluice, "fast", timeout_us=1500000) for _ in range(4)]
        wait_for(lambda: sluice.metric("sluice_running_rows", model="fast") >= 3, what="nearly all of them aboard")  # in three batches at most
        patient = [pool.submit(ask, sluice, "fast", timeout_us=25000000) for _ in range(2)]
        sluice.wait_event("replica_ejected", timeout=20)
        t.mute()
        assert {f.result().status_code for f in hurried} <= {503, 504}
        assert {f.result().status_code for f in patient} == {200}
    wait_replicas(sluice, "fast", 1)


def takes_no_bytes(sluice, worker):
    """Stopped behind a full socket: no cancel can leave, and no batch comes back but by the end of its connection."""
    worker.kill(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(post_large, sluice, 8, 60000 + 10000 * i) for i in range(8)]
            assert {a.result() for a in asked} <= {503, 504}
        wait_replicas(sluice, "big", 0)
    finally:
        worker.kill(signal.SIGCONT)
    wait_for(lambda: post_large(sluice, 1, 10000000) == 200, 30, "an answer")


def test_the_gateway_keeps_what_it_owes_for_each_effect(tmp_path):
    light_model(tmp_path / "models", "big", COLUMNS)
    with own_worker(tmp_path / "models", tmp_path / "w.sock") as worker, Triton("fast:takes=0.005:max_batch=2", "kept") as t, Redis() as redis:
        top = f'store {{ redis = "redis://127.0.0.1:{redis.port}" }}'
        kept = 'model "kept" { cache { ttl = "1us" } }'
        config = configuration(tmp_path, addresses=[t.address, f"unix:{tmp_path}/w.sock"], health=HEALTH, top=top, models=kept)
        with Watched(config, wait_models=("fast", "big", "kept")) as sluice:
            sluice.wait_workers()
            all_is_well(sluice)
            asks_the_store(sluice, redis)
            is_overloaded(sluice, t)
            computes_nothing(sluice, t)
            takes_no_bytes(sluice, worker)
            all_is_well(sluice)
            assert sluice.stop() == 0
            kept = sluice.find("contracts")[-1]
    counts = {name: n for name, n in kept.items() if name not in ("event", "doer")}
    assert len(counts) == 12 and all(counts.values()), kept


def test_a_contract_that_is_broken_is_noticed(tmp_path):
    """A door makes the gateway forget its cancels: it says so, and ends."""
    health = 'interval = "60s" timeout = "60s" failures = 3'
    with Triton("fast") as t:
        sluice = Watched(configuration(tmp_path, addresses=[t.address], health=health), "1000 1000 100 60000 1000", wait_models=("fast",))
        try:
            sluice.wait_workers()
            sluice.door("hold fast")
            sluice.door("drop-cancels w on")
            for _ in range(20):  # whatever comes to the desk makes it look
                with contextlib.suppress(httpx.TransportError):
                    ask(sluice, "fast", timeout_us=50000)
            assert "contract broken by the gateway: FX_CANCEL" in sluice.text
        finally:
            sluice.kill(signal.SIGKILL)
            sluice.wait()
