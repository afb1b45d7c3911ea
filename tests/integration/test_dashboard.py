"""The dashboard's side of the wire: the page and what it is sent with, who may ask, and /live, which it draws. What a browser makes
of it: tests/browser."""
import base64
import gzip
import hashlib
import json
import re
import socket
import struct

import httpx
import pytest
from harness import GOOD_BODY, infer_body, wait_for
from h2wire import H2, WINDOW, frame, head
from test_chains import ask as ask_digits
from test_chains import chain  # noqa: F401 (a fixture)
from test_chains import lose

TOKEN = {"authorization": "Bearer open sesame, please"}


def get(sluice, path="/", http2=False, encoding="identity", method="GET", **fields):
    with httpx.Client(http1=not http2, http2=http2, timeout=30) as client:
        headers = {"accept-encoding": encoding, **{k.replace("_", "-"): v for k, v in fields.items()}}
        with client.stream(method, f"http://127.0.0.1:{sluice.admin_port}{path}", headers=headers) as answer:
            return answer.status_code, answer.headers, b"".join(answer.iter_raw())


# ---- the page ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_the_page_is_open_and_compressed_for_who_takes_it(gateway, http2):
    status, plain, page = get(gateway, http2=http2)
    assert status == 200 and plain["content-type"] == "text/html; charset=utf-8" and "content-encoding" not in plain
    status, small, packed = get(gateway, http2=http2, encoding="deflate, gzip;q=0.5, br")
    assert status == 200 and small["content-encoding"] == "gzip" and gzip.decompress(packed) == page
    assert len(packed) < 150 << 10 and int(small["content-length"]) == len(packed)
    assert plain["etag"] != small["etag"] and plain["vary"] == small["vary"] == "accept-encoding"
    assert b"<title>Sluice</title>" in page and b"dygraphs is MIT-licenced" in page
    status, head, nothing = get(gateway, http2=http2, method="HEAD")
    assert status == 200 and nothing == b"" and int(head["content-length"]) == len(page)
    assert get(gateway, host="sluice.example", http2=http2)[0] == 200  # it holds nothing; its questions are refused there


@pytest.mark.parametrize(
    "encoding, packed",
    [
        ("gzip", True),
        ("GZIP", True),
        ("br,gzip ; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, identity", False),
        ("xgzip, gzipped", False),
        ("", False),
    ],
)
def test_encodings(gateway, encoding, packed):
    assert ("content-encoding" in get(gateway, encoding=encoding)[1]) == packed


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_who_has_it_is_told_so(gateway, http2):
    for encoding in ("identity", "gzip"):
        _, first, page = get(gateway, http2=http2, encoding=encoding)
        for tags in (first["etag"], f'"other", W/{first["etag"]}', "*"):
            status, headers, body = get(gateway, http2=http2, encoding=encoding, if_none_match=tags)
            assert (status, body, headers["etag"]) == (304, b"", first["etag"])
        assert get(gateway, http2=http2, encoding=encoding, if_none_match='"other"')[2] == page
    with httpx.Client(http1=not http2, http2=http2) as client:  # and the connection goes on behind it
        for status in (200, 304, 304, 200):
            tag = {"if-none-match": first["etag"]} if status == 304 else {}
            answer = client.get(f"http://127.0.0.1:{gateway.admin_port}/", headers={"accept-encoding": "gzip", **tag})
            assert answer.status_code == status


def test_the_policy_lets_nothing_run_but_what_is_in_the_page(gateway):
    _, headers, page = get(gateway)
    policy = dict(re.match(r"(\S+) ?(.*)", part).groups() for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'" and policy["img-src"] == "data:"
    text = page.decode()
    hash_of = lambda part: f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
    for tag in ("script", "style"):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert parts and policy[f"{tag}-src"].split() == [hash_of(p) for p in parts]
    assert not re.search(r"<script\s|<link [^>]*stylesheet|\son\w+=\"", text)
    # It names no other host: what is loaded is here, what is asked is ours.
    markup = re.sub(r"<(script|style)>.*?</\1>|<pre.*?</pre>", "", text, flags=re.S)
    assert not re.search(r"(src|href)=\"(?!#|data:)", markup)
    for name, value in (
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ):
        assert headers[name] == value


def test_other_paths_are_not_the_page(gateway):
    assert get(gateway, "/index.html")[0] == get(gateway, "/v1")[0] == 404
    status, headers, _ = get(gateway, "/", method="POST")
    assert status == 405 and headers["allow"] == "GET, HEAD"


# ---- who may ask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin, status",
    [
        (None, 200),
        ("http://{host}", 200),
        ("https://{host}", 200),  # TLS ended before us
        ("http://evil.example", 403),
        ("http://{host}.evil.example", 403),
        ("http://localhost:1", 403),
        ("http://{host}/", 403),
        ("ftp://{host}", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_browsers_other_pages_are_refused(gateway, origin, status):
    """Even with the token: whoever got it there does not get in."""
    fields = {} if origin is None else {"origin": origin.format(host=f"127.0.0.1:{gateway.admin_port}")}
    for path in ("/status", "/live", "/v1/levels"):
        with httpx.stream("GET", f"http://127.0.0.1:{gateway.admin_port}{path}", headers={**TOKEN, **fields}) as answer:
            assert answer.status_code == status
    refused = httpx.post(f"http://127.0.0.1:{gateway.admin_port}/v1/levels", content=b"{}", headers={**TOKEN, **fields})
    assert refused.status_code == (400 if status == 200 else 403)
    assert get(gateway, "/metrics", **fields)[0] == get(gateway, "/", **fields)[0] == 200  # open to everybody


# ---- /live ---------------------------------------------------------------------------------------------


class Live:
    """A reader of /live: each event as it comes."""

    def __init__(self, sluice, **fields):
        self.socket = socket.create_connection(("127.0.0.1", sluice.admin_port), 20)
        self.file = self.socket.makefile("rb")
        words = {"host": "localhost", **TOKEN, **fields}
        lines = "".join(f"{k}: {v}\r\n" for k, v in words.items())
        self.socket.sendall(f"GET /live HTTP/1.1\r\n{lines}\r\n".encode())
        self.status = int(self.file.readline().split()[1])
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.text = b""

    def next(self):
        """The next event; None: it has ended as an answer ends."""
        while b"\n\n" not in self.text:
            size = int(self.file.readline(), 16)
            if size == 0:
                return None
            self.text += self.file.read(size)
            self.file.readline()
        event, self.text = self.text.split(b"\n\n", 1)
        name, data = event.split(b"\ndata: ")
        assert name == b"event: stats"
        return json.loads(data)

    def until(self, fits, what, most=20):
        for _ in range(most):
            event = self.next()
            if fits(event):
                return event
        raise AssertionError(what)

    def close(self):
        self.file.close()
        self.socket.close()


def model(event, name):
    return next((m for m in event["models"] if m["name"] == name), None)


@pytest.fixture
def live(start):
    def one(sluice, **more):
        readers.append(Live(sluice, **more))
        return readers[-1]

    readers = []
    yield one
    for reader in readers:
        reader.close()


def infer(sluice, name="digits", n=1, status=200):
    for _ in range(n):
        assert httpx.post(f"{sluice.url}/v2/models/{name}/infer", content=GOOD_BODY).status_code == status


def test_first_all_and_then_what_changes(start, live):
    sluice = start(wait_models=("digits", "digits-small"))
    sluice.wait_workers()
    infer(sluice, n=3)
    reader = live(sluice)
    whole = reader.next()
    page = sluice.status_page()
    assert whole["whole"] and whole["phase"] == page["phase"] == "running" and whole["level"] == 0
    assert len(whole["loops"]) == len(page["loops"]) == 2 and whole["bytes_limit"] == page["bytes_limit"]
    assert {m["name"] for m in whole["models"]} == {m["name"] for m in page["models"]} == {"digits", "digits-small"}
    for told, held in ((model(whole, m["name"]), m) for m in page["models"]):
        assert (told["ready"], told["max_batch"], told["queue_limit"]) == (held["ready_replicas"], 64, held["queue_limit_rows"])
        assert (told["level"], told["share_ppm"], told["pinned"]) == (0, 1000000, False)
    digits = model(whole, "digits")
    assert digits["answers"] == {"model": 3} and sum(digits["batches"].values()) == sum(digits["sizes"]) == digits["rows"] == 3
    assert 0 < digits["p50_us"] <= digits["p99_us"] and "answers" not in model(whole, "digits-small")
    infer(sluice, n=2)
    change = reader.until(lambda e: (model(e, "digits") or {}).get("answers"), "two answers are told")
    seen = change["models"][0]["answers"]["model"]
    if seen < 2:  # a second ended between them
        seen += reader.until(lambda e: (model(e, "digits") or {}).get("answers"), "the other one is")["models"][0]["answers"]["model"]
    assert seen == 2 and not change["whole"] and change["ms"] > 0 and change["p99_us"] > 0
    quiet = reader.until(lambda e: not e["models"], "nothing happens, and no model is told of")
    assert "p50_us" not in quiet and "variants" not in quiet
    again = live(sluice).next()
    assert again["whole"] and model(again, "digits")["answers"] == {"model": 5}
    assert model(again, "digits")["answers"]["model"] == sluice.metric("sluice_requests_total", model="digits", source="model")


def test_failures_and_levels(start, live):
    sluice = start()
    reader = live(sluice)
    reader.next()
    infer(sluice, "nobody", status=404)
    bad = httpx.post(f"{sluice.url}/v2/models/digits/infer", content=infer_body([[0.5] * 63]))
    assert bad.status_code == 400
    change = reader.until(lambda e: (model(e, "digits") or {}).get("failures"), "the failure is told")
    assert model(change, "digits")["failures"] == {"bad_request": 1}
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/levels"
    wish = {"model": "digits", "level": 2, "for_s": 60, "why": "a test"}
    assert httpx.post(url, json=wish, headers=TOKEN).status_code == 200
    change = reader.until(lambda e: (model(e, "digits") or {}).get("level") == 2, "the level is told")
    assert model(change, "digits")["pinned"] is True


def test_who_answered_for_whom(chain, live):  # noqa: F811
    sluice = chain()
    reader = live(sluice)
    lose(sluice, "w")
    wait_for(lambda: ask_digits(sluice).headers.get("sluice-fallback") == "digits", 20, "digits-small answers")
    change = reader.until(lambda e: (model(e, "digits") or {}).get("by"), "the other model is told")
    assert set(model(change, "digits")["by"]) == {"digits-small"}
    whole = model(live(sluice).next(), "digits")
    assert whole["by"]["digits-small"] == sluice.metric("sluice_answered_by_total", model="digits", by="digits-small") > 0
    assert sluice.metric("sluice_fallbacks_total", model="digits") >= whole["by"]["digits-small"]


def test_experiments_are_counted(start, live):
    sections = """experiment "e" { model = "ab" key = "header:x-user"
  variant "control" { model = "digits" weight = 50% } variant "treatment" { model = "digits-small" weight = 50% } }"""
    sluice = start(wait_models=("digits", "digits-small"), models=sections)
    reader = live(sluice)
    assert [(v["variant"], v["requests"]) for v in reader.next()["variants"]] == [("control", 0), ("treatment", 0)]
    for user in range(8):
        answer = httpx.post(f"{sluice.url}/v2/models/ab/infer", content=GOOD_BODY, headers={"x-user": str(user)})
        assert answer.status_code == 200
    counted = lambda e: sum(v["requests"] for v in e.get("variants", []))
    last = reader.until(lambda e: counted(e) == 8, "all eight are told")
    held = {v["name"]: v["requests"] for v in sluice.status_page()["experiments"][0]["variants"]}
    assert {v["variant"]: v["requests"] for v in last["variants"]} == held
    assert all(v["errors"] == v["fallbacks"] == 0 and v["p99_us"] >= v["p50_us"] for v in last["variants"])


def test_models_that_come_and_go(start, live):
    sluice = start(models='model "late" { }')
    reader = live(sluice)
    assert model(reader.next(), "late")["ready"] == 0
    sluice.config.write_text(sluice.config.read_text().replace('model "late" { }', 'model "later" { }'))
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/reload"
    assert httpx.post(url, headers=TOKEN, timeout=30).status_code == 200
    seen = []
    reader.until(lambda e: seen.append(e) or ("late" in e["gone"]), "the model that is gone is named")
    assert any(model(e, "later") for e in seen + [reader.next()])


def test_who_may(gateway, live):
    assert live(gateway, authorization="Bearer no").status == 401
    assert live(gateway, host="example.org").status == 403
    assert live(gateway, origin="http://example.org").status == 403


def test_as_many_as_may(start, live):
    sluice = start()
    readers = [live(sluice) for _ in range(64)]
    assert all(r.status == 200 and r.next()["whole"] for r in readers)
    assert live(sluice).status == 503
    readers[0].close()
    wait_for(lambda: live(sluice).status == 200, what="there is room again")


def test_it_ends_with_the_gateway(start, live):
    sluice = start()
    reader = live(sluice)
    assert reader.next()["whole"]
    assert sluice.stop() == 0
    while (event := reader.next()) is not None:
        assert not event["whole"]


def test_one_that_is_too_slow_gets_all_again(start, live):
    """Not what it missed: nothing is queued for it, and nobody else waits."""
    sluice = start()
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/live"), *TOKEN.items()]
    with H2(type("Target", (), {"port": sluice.admin_port}), settings=struct.pack(">HI", 4, 100)) as slow:
        slow.send(head(1, fields))
        assert slow.until(lambda: len(slow.bodies.get(1, b"")) == 100)  # its window is shut in the middle of the first one
        quick = live(sluice)
        assert quick.next()["whole"]
        infer(sluice)
        quick.until(lambda e: (model(e, "digits") or {}).get("answers"), "the answer is told")
        assert not quick.next()["whole"] and len(slow.bodies[1]) == 100
        slow.send(frame(WINDOW, 0, 1, struct.pack(">I", 1 << 20)))
        assert slow.until(lambda: slow.bodies[1].count(b"\n\n") >= 3)
        events = [json.loads(e.split(b"data: ")[1]) for e in slow.bodies[1].split(b"\n\n")[:3]]
        assert [e["whole"] for e in events] == [True, True, False]
        assert "answers" not in model(events[0], "digits") and model(events[1], "digits")["answers"] == {"model": 1}
