"""The admin listener, the metrics and the log: rows 131 to 133 of docs/hostile.md."""
import json

import httpx
import pytest
from harness import GOOD_BODY, Wire, post, wait_for
from hostile import INFER, ask, outcome
from test_hostile_h1 import SMUGGLING

pytestmark = pytest.mark.usefixtures("others_are_served")

TOKEN = "Bearer open sesame, please"


def admin(target, path="/status", method="GET", **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.request(method, f"http://127.0.0.1:{target.admin_port}{path}", headers=headers)


def test_admin_wants_the_token(target):
    """131"""
    assert admin(target, authorization=TOKEN).status_code == 200
    for wrong in ("", "Bearer", "Bearer open", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "Basic " + TOKEN[7:], "Bearer " + "x" * 5000):
        answer = admin(target, authorization=wrong)
        assert answer.status_code == 401 and "sesame" not in answer.text, wrong
    assert admin(target).status_code == 401
    assert admin(target, path="/status?token=open+sesame,+please").status_code == 401


def test_admin_is_not_for_other_origins(target):
    """131: no DNS rebinding, nothing that a page could make a browser do."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
        assert admin(target, authorization=TOKEN, host=host).status_code in (400, 403, 421)
        assert admin(target, path="/metrics", host=host).status_code == 200  # open, under any name
    for host in (f"127.0.0.1:{target.admin_port}", f"localhost:{target.admin_port}"):
        assert admin(target, authorization=TOKEN, host=host).status_code == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert admin(target, method=method, authorization=TOKEN).status_code in (404, 405)
    assert "access-control-allow-origin" not in admin(target, origin="http://evil.example", authorization=TOKEN).headers


def test_admin_is_not_on_the_public_port(target):
    for path in ("/metrics", "/status", "/healthz", "/v2/../status", "/v1/status"):
        answer = httpx.get(target.url + path, headers={"authorization": TOKEN})
        assert answer.status_code == 404 and "sluice_" not in answer.text


def test_admin_meets_hostile_bytes_too(target):
    for name in ("1 CL.TE", "5 two lengths", "29 two Hosts", "37 64 KiB method", "39 junk", "28 LF line ends"):
        statuses, closed = outcome(target.admin_port, SMUGGLING[name])
        assert closed and all(s >= 400 for s in statuses), (name, statuses)
    assert admin(target, path="/" + "a" * 20000).status_code == 414
    assert admin(target, path="/../../etc/passwd", authorization=TOKEN).status_code in (400, 404)


def test_what_metrics_tell(target):
    """132: no keys, no bodies, no names that clients made up."""
    for n in range(300):
        ask(target, GOOD_BODY, path=f"/v2/models/made-up-{n}/infer")
    text = admin(target, path="/metrics").text
    assert "made-up" not in text and "sesame" not in text
    assert len(text) < 200000
    for place in ("127.0.0.1", "unix:", ".sock", str(target.config.parent), str(target.port)):
        assert place not in text, place  # nor where things are
    status = admin(target, authorization=TOKEN).text
    assert "sesame" not in status and "made-up" not in status


def test_log_injection(target):
    """133: one line a request; CR, LF and ESC never reach it raw; long fields are cut."""
    ids = ["evil\x1b[31m", "evil" + "a" * 5000, "evil\u00e9", 'evil"},{"event":"ready"']
    for i in ids:  # an id is taken if it is visible ASCII and no longer than 128; else we make one
        with Wire(target.port) as wire:
            field = b"X-Request-Id: " + i.encode("utf-8") + b"\r\n"
            wire.send(post(fields=field)).read_until_closed(5)
            assert [a[0] for a in wire.answers()][0] in (200, 400, 431)
    ask(target, GOOD_BODY, path="/v2/models/evil%1b%5b31m/infer")
    ask(target, GOOD_BODY, path="/v2/models/" + "evil" * 1500 + "/infer")
    path = target.config.parent / "access.log"
    httpx.post(target.url + INFER.decode(), content=GOOD_BODY, headers={"x-request-id": "the-last"})
    wait_for(lambda: "the-last" in path.read_text(errors="replace"))
    for line in path.read_bytes().splitlines():
        entry = json.loads(line)
        assert isinstance(entry, dict) and all(len(v) <= 1024 for v in entry.values() if isinstance(v, str))
        assert not any(b < 0x20 or b == 0x7F for b in line)
