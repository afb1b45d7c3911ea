"""More than can be done: who is refused, with which words, before what is read; tenants share a queue, and what is kept
for one is not given to others.
"""
import collections
import contextlib
import json
import struct
import threading
import time

import grpc
import httpx
import pytest
from h2wire import DATA, H2, WINDOW, frame, head
from harness import Wire, wait_for
from load import INFER, grpc_message
from test_reload import change, reload
from triton_double import Triton

PATH = "/v2/models/m/infer"
TENANT = 'tenant = "header:x-tenant"'


def body(value=1.0):
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [value, 2]}]}).encode()


def ask(sluice, tenant=None, client=httpx):
    fields = {"x-tenant": tenant} if tenant else {}
    return client.post(sluice.url + PATH, content=body(), headers=fields, timeout=60)


def model(rules):
    return f'model "m" {{ {rules} }}'


@contextlib.contextmanager
def full_queue(sluice, rows, tenant="flood"):
    """So many requests of m are there, and stay as long as the gateway keeps back what its worker says (sluice has doors)."""
    sluice.door("hold m")
    threads = [threading.Thread(target=ask, args=(sluice, tenant)) for _ in range(rows)]
    for t in threads:
        t.start()
    charged = lambda: sum(m["charged_rows"] for m in sluice.status_page()["models"])  # noqa: E731
    wait_for(lambda: charged() == rows, what="a full queue")
    yield
    sluice.door("release m")
    for t in threads:
        t.join()


# ---- at the head ---------------------------------------------------------------------------------------


def request_head(length, *fields):
    lines = [f"POST {PATH} HTTP/1.1", "host: sluice", f"content-length: {length}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_a_full_queue_is_told_before_the_body_is_read(start):
    with Triton("m:max_batch=1:serial=1") as triton:
        sluice = start(wait_models=("m",), addresses=[triton.address], models=model("queue { rows = 2 refuse_early = off }"), doors=True)
        with full_queue(sluice, 2):
            with Wire(sluice.port) as wire:  # 30 MB that never come: not even asked for
                wire.send(request_head(30 << 20, "expect: 100-continue")).read_until_closed()
                assert wire.data.startswith(b"HTTP/1.1 503 ") and b"100 Continue" not in wire.data and b"retry-after: " in wire.data
            with Wire(sluice.port) as wire:  # a little is read away, and the connection goes on
                wire.send(request_head(len(body())))
                (status, fields, said), *_ = wire.read_answers(1)
                assert status == 503 and b"the queue is full" in said and 1 <= int(fields["retry-after"]) <= 90
                wire.send(body() + b"GET /v2/health/live HTTP/1.1\r\nhost: sluice\r\n\r\n")
                assert wire.read_answers(2)[1][0] == 200
            with H2(sluice) as h2:  # its stream ends; the connection goes on
                fields = [(":method", "POST"), (":scheme", "http"), (":authority", "sluice"), (":path", PATH)]
                h2.send(head(1, fields, end=False))
                assert h2.until(lambda: h2.status(1) == 503) and h2.headers[1]["retry-after"]
                h2.send(head(3, [(":method", "GET"), *fields[1:3], (":path", "/v2/health/live")]))
                assert h2.until(lambda: h2.status(3) == 200) and h2.goaway is None
            sluice.settle()
            assert sluice.metric("sluice_refusals_total", model="m", reason="queue") == 3
        assert ask(sluice).status_code == 200
        lines = lambda: [line for line in sluice.access_log() if line["outcome"] == "unavailable" and line.get("model")]  # noqa: E731
        wait_for(lambda: len(lines()) == 3)
        assert all(line["model"] == "m" for line in lines())


def test_a_chain_may_answer_what_the_model_has_no_room_for(start):
    with Triton("m:max_batch=1:serial=1", "n") as triton:
        rules = model('fallback = {"n"} queue { rows = 1 refuse_early = off }')
        sluice = start(wait_models=("m", "n"), addresses=[triton.address], models=rules, doors=True)
        with full_queue(sluice, 1):
            answer = ask(sluice)
            assert answer.status_code == 200 and answer.headers["sluice-fallback"] == "m"
            with Wire(sluice.port) as wire:
                wire.send(request_head(30 << 20, "expect: 100-continue", "sluice-chain: none")).read_until_closed()
                assert wire.data.startswith(b"HTTP/1.1 503 ")


def test_grpc_is_told_in_milliseconds(start):
    with Triton("m:max_batch=1:serial=1") as triton:
        sluice = start(wait_models=("m",), addresses=[triton.address], models=model("queue { rows = 1 refuse_early = off }"), doors=True)
        with full_queue(sluice, 1), grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
            call = channel.unary_unary(INFER)
            said = set()
            for _ in range(8):
                with pytest.raises(grpc.RpcError) as e:
                    call(grpc_message("m", "x", [1, 2]), timeout=20)
                assert e.value.code() == grpc.StatusCode.UNAVAILABLE
                said.add(int(dict(e.value.trailing_metadata())["grpc-retry-pushback-ms"]))
            assert len(said) > 1 and all(20 <= ms <= 90000 for ms in said)


# ---- tenants -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def asking(sluice, tenant, clients):
    """They ask again and again; what they are told, in order."""
    told, stop = [], threading.Event()

    def loop():
        with httpx.Client() as client:
            while not stop.is_set():
                told.append(ask(sluice, tenant, client))
                stop.wait(0 if told[-1].status_code == 200 else 0.02)

    threads = [threading.Thread(target=loop) for _ in range(clients)]
    for t in threads:
        t.start()
    yield told
    stop.set()
    for t in threads:
        t.join()


def test_tenants_share_the_queue(start):
    """Alone one has all of it. When another comes, the first gets no more until it has less than its part."""
    with Triton("m:takes=0.1:max_batch=1:serial=1") as triton:
        rules = model("queue { rows = 8 refuse_early = off }")
        sluice = start(wait_models=("m",), addresses=[triton.address], models=rules, top=TENANT)
        of_m = lambda: sluice.status_page()["models"][0]  # noqa: E731
        with asking(sluice, "flood", 10) as flood:
            wait_for(lambda: of_m()["charged_rows"] == 8)
            wait_for(lambda: any(a.status_code == 503 for a in flood), what="alone it is refused for the queue alone")
            assert not any(a.status_code == 429 for a in flood)
            with asking(sluice, "honest", 1) as honest:
                wait_for(lambda: [a.status_code for a in honest[-3:]] == 3 * [200], 30, "the honest one is served")
                told = wait_for(lambda: next((a for a in flood if a.status_code == 429), None))
                assert "others want theirs" in told.json()["error"] and int(told.headers["retry-after"]) >= 1

                def by_grpc():
                    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
                        message, who = grpc_message("m", "x", [1, 2]), [("x-tenant", "flood")]
                        try:
                            channel.unary_unary(INFER)(message, timeout=20, metadata=who)
                        except grpc.RpcError as e:
                            return e.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

                wait_for(by_grpc, 20, "gRPC is told so, too")
                wait_for(lambda: of_m()["tenants"] == 2 and of_m()["tenants_most"][0]["name"] == "flood")
        sluice.settle()
        assert sluice.metric("sluice_refusals_total", model="m", reason="tenant") >= 1
        wait_for(lambda: {line.get("tenant") for line in sluice.access_log() if line.get("model")} == {"flood", "honest"})


def test_a_tenant_named_twice_is_none(start):
    """A proxy's, perhaps, and one that the client has made up."""
    with Triton("m") as triton:
        sluice = start(wait_models=("m",), addresses=[triton.address], top=TENANT)
        answer = httpx.post(sluice.url + PATH, content=body(), headers=[("x-tenant", "a"), ("x-tenant", "b")])
        assert answer.status_code == 400 and answer.json()["error"] == "x-tenant: came twice"
        assert ask(sluice).status_code == 200  # who says nothing is one of those who say nothing


def test_a_reload_tells_tenants_apart(start):
    with Triton("m") as triton:
        sluice = start(wait_models=("m",), addresses=[triton.address])
        twice = lambda: httpx.post(sluice.url + PATH, content=body(), headers=[("x-tenant", "a"), ("x-tenant", "b")]).status_code  # noqa: E731
        assert twice() == 200  # it is a field like any other
        change(sluice, ("\nloops = 2", f"\nloops = 2\n{TENANT}"))
        assert "tenant" in str(reload(sluice))
        assert twice() == 400 and ask(sluice, "a").status_code == 200
        change(sluice, (f"\n{TENANT}", ""))
        assert "tenant" in str(reload(sluice)) and twice() == 200


@pytest.mark.parametrize("shared", ["false", "true"])
def test_what_is_kept_for_one_is_not_given_to_another(start, shared):
    with Triton("m") as triton:
        rules = model(f'cache {{ ttl = "1m" shared = {shared} }}')
        sluice = start(wait_models=("m",), addresses=[triton.address], models=rules, top=TENANT)
        assert ask(sluice, "a").headers["sluice-source"] == "model"
        wait_for(lambda: ask(sluice, "a").headers["sluice-source"] == "cache")
        assert ask(sluice, "b").headers["sluice-source"] == ("cache" if shared == "true" else "model")
        assert ask(sluice).headers["sluice-source"] == ("cache" if shared == "true" else "model")


# ---- ten times too much --------------------------------------------------------------------------------

TAKES, ROWS = 0.05, 4  # eighty rows a second
HONEST, FLOOD, SECONDS = 25, 800, 4  # requests a second, and for how long
PRIORITIES = (1, 3, 5)


class Sender(H2):
    """A tenant on a connection: sends as it is told, whatever comes back, and remembers what it asked."""

    def __init__(self, sluice, tenant):
        super().__init__(sluice)
        self.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
        self.tenant, self.asked, self.stream = tenant, {}, 1

    def ask(self, priority):
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "sluice"), (":path", PATH)]
        fields += [("x-tenant", self.tenant), ("sluice-priority", str(priority))]
        self.send(head(self.stream, fields, end=False) + frame(DATA, 1, self.stream, body(self.stream)))
        self.asked[self.stream] = priority
        self.stream += 2

    def outcomes(self, priority):
        return collections.Counter(self.status(s) for s, p in self.asked.items() if p == priority)


def rows_sent(sluice):
    return sluice.metric("sluice_batch_rows_sum", model="m"), sluice.metric("sluice_batch_rows_count", model="m")


def learnt(sluice):
    """What the model takes is known: batches of one, and full ones, have been seen."""
    with Sender(sluice, "honest") as first:
        for n in (1, 1, 2, 3, 4, 8, 8, 8, 8):
            for _ in range(n):
                first.ask(1)
            assert first.until(lambda: len(first.headers) == len(first.asked), 20)
    wait_for(lambda: sluice.status_page()["models"][0]["rate_rows"] > 0, what="a rate")


def flood(sluice):
    """By the clock, so that it is as much too much where the machine is slow."""
    with Sender(sluice, "honest") as honest, Sender(sluice, "flood") as other:
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < SECONDS:
            for sender, each in ((honest, HONEST), (other, FLOOD)):
                while len(sender.asked) < each * elapsed:
                    sender.ask(PRIORITIES[len(sender.asked) % 3])
                sender.read(0.002)
            time.sleep(0.002)
        for sender in (honest, other):
            assert sender.until(lambda s=sender: len(s.headers) == len(s.asked)), len(sender.headers)
        return honest, other


def test_who_floods_takes_nothing_from_others(start):
    """Ten times what the device can do, of two tenants, one of which sends nearly all; each in three priorities."""
    with Triton(f"m:takes={TAKES}:max_batch={ROWS}:serial=1") as triton:
        rules = model('timeout = "4s"')
        sluice = start(
            wait_models=("m",), addresses=[triton.address], models=rules, top=TENANT, limits="max_streams = 4096", worker_rules="serial = true"
        )
        learnt(sluice)
        rows, batches = rows_sent(sluice)
        honest, other = flood(sluice)
        top = honest.outcomes(PRIORITIES[0])
        assert top[200] == sum(top.values()) > 25, top
        answered = sum(s.outcomes(p)[200] for s in (honest, other) for p in PRIORITIES)
        now_rows, now_batches = rows_sent(sluice)
        # Nothing was computed for nobody, and in full batches: the device did what it can.
        assert now_rows - rows == answered
        assert answered >= 0.95 * ROWS * (now_batches - batches) and answered > 200
        # The others were refused, and told so; of the flood more than of the honest one.
        refused = {s.tenant: sum(n for p in PRIORITIES for status, n in s.outcomes(p).items() if status != 200) for s in (honest, other)}
        assert refused["flood"] > 0.6 * len(other.asked), refused
        asked = {s.tenant: len(s.asked) for s in (honest, other)}
        assert refused["honest"] / asked["honest"] < refused["flood"] / asked["flood"], (refused, asked)
        wait_for(lambda: sluice.metric("sluice_refusals_total", model="m", reason="tenant") > 0.5 * refused["flood"])
