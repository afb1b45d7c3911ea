"""TLS at the front: what is spoken, what is refused, and sessions that outlive loops and processes."""
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading

import grpc
import httpx
import pytest
from harness import GOOD_BODY, SAMPLES, SANITIZED, SLUICE_DOORS, UNPRIVILEGED, Sluice, Wire, configuration, infer_body, port_of, post, wait_for
from raw_worker import RawWorker, answer_well, speak_h2
from tritonclient.grpc import service_pb2, service_pb2_grpc

INFER = "/v2/models/digits/infer"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def certificate(directory, *, curve="prime256v1", rsa=False):
    directory.mkdir(parents=True, exist_ok=True)
    cert, key = directory / "cert.pem", directory / "key.pem"
    kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", f"ec_paramgen_curve:{curve}"]
    words = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:other.example,IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


def tls_sluice(directory, rsa=False, limits_before=(), program=None, **more):
    cert, key = certificate(directory / "pki", rsa=rsa)
    top = f'listen "tls" {{ address = "127.0.0.1:0" certificate = "{cert}" key = "{key}" }}'
    sluice = Sluice(configuration(directory, top=top, **more), limits=limits_before, **(program or {}))
    sluice.cert = cert
    sluice.tls_port = port_of(sluice.wait_event("listening", name="tls")["address"])
    return sluice


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    with tls_sluice(tmp_path_factory.mktemp("tls"), limits='header_timeout = "3s"') as sluice:
        yield sluice
        assert sluice.stop() == 0, sluice.text


@pytest.fixture(scope="module")
def rsa(tmp_path_factory):
    """With an RSA key the old ciphers could be spoken, were they not refused."""
    with tls_sluice(tmp_path_factory.mktemp("rsa"), rsa=True) as sluice:
        yield sluice


def context(sluice, alpn=(), low=ssl.TLSVersion.TLSv1_2, high=ssl.TLSVersion.TLSv1_3, ciphers=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(sluice.cert)
    if ciphers:
        c.set_ciphers(ciphers)
    c.minimum_version, c.maximum_version = low, high
    if alpn:
        c.set_alpn_protocols(list(alpn))
    return c


def connect(sluice, c, host="localhost", session=None):
    s = socket.create_connection(("127.0.0.1", sluice.tls_port), 60)
    try:
        return c.wrap_socket(s, server_hostname=host, session=session)
    except BaseException:
        s.close()
        raise


def live(s):
    """One request over it; its status line's code."""
    s.sendall(GET)
    return int(s.recv(65536).split()[1])


def assert_alive(sluice):
    assert live(connect(sluice, context(sluice))) == 200
    assert len(sluice.find("ready")) == 1


# ---- to workers --------------------------------------------------------------------------------------


def over_tls(talk, cert, key):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(cert, key)
    c.set_alpn_protocols(["h2"])

    def wrapped(s, n):
        with c.wrap_socket(s, server_side=True) as t:
            talk(t, n)

    return wrapped


def test_a_worker_behind_tls(tmp_path):
    cert, key = certificate(tmp_path / "pki")
    heads = []
    with RawWorker(over_tls(speak_h2(answer_well, heads=heads), cert, key)) as raw:
        config = configuration(tmp_path, addresses=[f"grpcs://localhost:{raw.port}"])
        with Sluice(config, wait_models=("good",), env={"SSL_CERT_FILE": str(cert)}) as sluice:
            tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]}
            answer = httpx.post(f"{sluice.url}/v2/models/good/infer", json={"inputs": [tensor]})
            assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [3, 5]
            assert sluice.stop() == 0
    assert {h[":scheme"] for h in heads} == {"https"}


def test_a_worker_whose_certificate_nobody_vouches_for(tmp_path):
    cert, key = certificate(tmp_path / "pki")
    heads = []
    with RawWorker(over_tls(speak_h2(answer_well, heads=heads), cert, key)) as raw:
        config = configuration(tmp_path, addresses=[f"grpcs://localhost:{raw.port}"])
        with Sluice(config, wait_models=()) as sluice:
            why = sluice.wait_event("worker_unreachable", worker="w/0")["why"]
            assert "certificate" in why
            wait_for(lambda: raw.connections >= 3)
            assert sluice.stop() == 0
    assert heads == []


# ---- spoken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True])
def test_httpx(tls, http2):
    with httpx.Client(verify=context(tls), http1=not http2, http2=http2) as client:
        for _ in range(20):
            answer = client.post(f"https://127.0.0.1:{tls.tls_port}{INFER}", content=GOOD_BODY)
            assert answer.status_code == 200 and answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")


@pytest.mark.parametrize("words, version", [(["--http1.1"], "1.1"), (["--http2"], "2"), (["--no-alpn"], "1.1")])
def test_curl(tls, words, version):
    url = f"https://127.0.0.1:{tls.tls_port}{INFER}"
    words = [*words, "--cacert", tls.cert, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", url, "-d", GOOD_BODY.decode()]
    done = subprocess.run(["curl", "-sS", *words], capture_output=True, text=True, timeout=30)
    assert done.stdout == f"200 {version}", done.stderr


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_and_alpn(tls, version):
    for alpn, chosen in ([("h2", "http/1.1"), "h2"], [("http/1.1",), "http/1.1"], [("http/1.1", "h2"), "h2"], [(), None], [("what", "http/1.1"), "http/1.1"]):
        with connect(tls, context(tls, alpn, version, version)) as s:
            assert s.selected_alpn_protocol() == chosen and s.version() == version.name.replace("v1_", "v1.")
            if chosen != "h2":
                assert live(s) == 200


def test_an_unknown_alpn_is_an_alert(tls):
    """Row 126."""
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        connect(tls, context(tls, ("h3",)))
    assert_alive(tls)


def test_a_long_answer_and_a_long_body(tls):
    """Many records both ways."""
    body = GOOD_BODY[:-1] + b" " * 3000000 + GOOD_BODY[-1:]
    with httpx.Client(verify=context(tls), http2=True) as client:
        assert client.post(f"https://127.0.0.1:{tls.tls_port}{INFER}", content=body).status_code == 200


# ---- refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions(tls, version):
    """Row 125."""
    with pytest.warns(DeprecationWarning):
        v = ssl.TLSVersion[version]
        c = context(tls, low=v, high=v, ciphers="ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(tls, c)
    assert_alive(tls)


WEAK = ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "NULL-SHA256", "ADH-AES128-SHA", "ECDHE-RSA-NULL-SHA"]


@pytest.mark.parametrize("cipher", WEAK)
def test_weak_ciphers(rsa, cipher):
    """Rows 125, 126: no key exchange without forward secrecy, no CBC, no NULL; so h2 never meets one either."""
    c = context(rsa, ("h2",), high=ssl.TLSVersion.TLSv1_2)
    try:
        c.set_ciphers(f"{cipher}:@SECLEVEL=0")
    except ssl.SSLError:
        pytest.skip(f"this OpenSSL cannot offer {cipher}")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(rsa, c)
    assert_alive(rsa)


def hello_of(*suites):
    """A ClientHello of TLS 1.2 by hand: no library offers what is tested here any more."""
    u16 = lambda n: n.to_bytes(2, "big")
    vector = lambda octets: u16(len(octets)) + octets
    extension = lambda kind, octets: u16(kind) + vector(octets)
    more = extension(10, vector(u16(23) + u16(29))) + extension(11, b"\x01\x00")  # groups, point formats
    more += extension(13, vector(b"".join(u16(n) for n in (0x0403, 0x0401, 0x0804, 0x0201))))  # signatures
    body = b"\x03\x03" + os.urandom(32) + b"\x00" + vector(b"".join(u16(n) for n in suites)) + b"\x01\x00" + vector(more)
    body = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + vector(body)


OBSOLETE = {
    "RC4": (0x0004, 0x0005, 0xC007, 0xC011),
    "export": (0x0003, 0x0006, 0x0008, 0x000B, 0x0014, 0x0017, 0x0062, 0x0064),
    "NULL": (0x0000, 0x0001, 0x0002, 0x003B, 0xC006, 0xC010),
    "DES": (0x0009, 0x000A, 0x0015, 0x0016, 0xC008, 0xC012),
    "anonymous": (0x0018, 0x001B, 0x0034, 0x003A, 0x00A6, 0xC018),
    "no forward secrecy": (0x002F, 0x0035, 0x003C, 0x009C, 0x009D),
    "CBC": (0xC009, 0xC013, 0xC023, 0xC027),
}


def first_record(sluice, octets):
    with Wire(sluice.tls_port) as wire:
        wire.send(octets)
        while len(wire.data) < 7 and wire.take(10):
            pass
        return wire.data


@pytest.mark.parametrize("name", OBSOLETE)
def test_obsolete_suites(rsa, tls, name):
    """Row 125: an alert, handshake_failure, whichever key the certificate has."""
    for sluice in (rsa, tls):
        record = first_record(sluice, hello_of(*OBSOLETE[name]))
        assert record[:1] + record[5:7] == b"\x15\x02\x28"
    assert first_record(rsa, hello_of(*OBSOLETE[name], 0xC02F))[:1] == b"\x16"  # with a good one among them


@contextlib.contextmanager
def s_client(sluice, *words):
    """openssl s_client, connected: type_(octets), and what it has said so far."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{sluice.tls_port}", "-servername", "localhost", *words]
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = bytearray()
    reader = threading.Thread(target=lambda: [said.extend(c) for c in iter(lambda: p.stdout.read1(4096), b"")], daemon=True)
    reader.start()

    def type_(octets, until):
        """False: it has ended before it said that."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            p.stdin.write(octets)
            p.stdin.flush()
        wait_for(lambda: until() or not reader.is_alive(), what=f"{octets[:20]}: {said[-600:]}")
        return until()

    try:
        wait_for(lambda: b"Verify return code" in said)
        yield type_, said
    finally:
        p.kill()
        p.wait()
        reader.join(5)


def test_renegotiation_by_the_client(tls):
    """Row 124."""
    with s_client(tls, "-tls1_2") as (type_, said):
        type_(b"R\n", lambda: b"no renegotiation" in said)
        assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said[-600:]
        assert not type_(GET + b"\n", lambda: b"200 OK" in said)
    assert_alive(tls)


def key_updates(sluice, most):
    """How many s_client could send, one by one, and whether it was answered behind them."""
    with s_client(sluice, "-tls1_3") as (type_, said):
        for n in range(most):
            if not type_(b"k\n", lambda n=n: said.count(b"KEYUPDATE") > n):
                break
        type_(GET, lambda: b"200 OK" in said)
        return said.count(b"KEYUPDATE"), b"200 OK" in said


def test_a_flood_of_key_updates(tls):
    """Row 127: a few are fine, more than a connection's bytes can want are cut; nobody else is harmed."""
    assert key_updates(tls, 5) == (5, True)
    sent, is_answered = key_updates(tls, 200)
    assert sent < 200 and not is_answered
    assert_alive(tls)
    wait_for(lambda: tls.metric("sluice_connections", listener="tls") == 0)


def test_no_early_data(tls):
    """Row 127: what could be replayed is not taken."""
    with s_client(tls, "-tls1_3") as (type_, said):
        assert type_(GET + b"\n", lambda: b"200 OK" in said and b"Max Early Data: 0" in said), said[-800:]


def test_records_of_one_byte(tls):
    with connect(tls, context(tls)) as s:
        for octet in GET:
            s.sendall(bytes([octet]))
        assert s.recv(65536).split()[1] == b"200"


def test_a_record_that_is_too_long(tls):
    """Row 127: 16 KiB + 1 and beyond what encryption may add."""
    with Wire(tls.tls_port) as wire:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        o = context(tls).wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                o.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.send(outgoing.read())
                seen = len(wire.data)
                assert wire.take(10)
                incoming.write(wire.data[seen:])
        wire.send(outgoing.read() + b"\x17\x03\x03\x41\x01" + bytes(16641))
        assert wire.read_until_closed().closed
    assert_alive(tls)


# ---- peers that speak something else, or nothing ---------------------------------------------------------


NO_TLS = "this port speaks TLS, and the request came without: use https, or grpc with TLS"
LARGE = infer_body([SAMPLES[0]["input"]] * 3000)


@pytest.mark.parametrize("octets", [GET, post(close=False), post(LARGE), GET.replace(b"GET", b"OPTIONS"), GET.replace(b" HTTP/1.1", b" HTTP/1.0")])
def test_plain_http_to_the_tls_port(tls, octets):
    """Told in words, in plain; nothing is served, not even a second request; the connection ends."""
    before = tls.metric("sluice_plain_on_tls_total", listener="tls")
    with Wire(tls.tls_port) as wire:
        status, fields, body = wire.send(octets + octets).read_answers(1)[0]
        assert (status, fields["connection"], json.loads(body)) == (400, "close", {"error": NO_TLS})
        assert wire.read_until_closed().closed and len(wire.answers()) == 1
    wait_for(lambda: tls.metric("sluice_plain_on_tls_total", listener="tls") == before + 1)
    wait_for(lambda: any(line.get("why") == NO_TLS for line in tls.access_log()))
    assert_alive(tls)


def test_plain_http2_and_grpc_to_the_tls_port(tls):
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.post(f"http://127.0.0.1:{tls.tls_port}{INFER}", content=GOOD_BODY)
        assert answer.status_code == 400 and answer.json() == {"error": NO_TLS}
    with grpc.insecure_channel(f"127.0.0.1:{tls.tls_port}") as channel:
        with pytest.raises(grpc.RpcError) as told:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=10)
        assert (told.value.code(), told.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, NO_TLS)
    with Wire(tls.tls_port) as wire:  # it never asks: its time is that of any head
        assert wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").read_until_closed().closed
    wait_for(lambda: tls.metric("sluice_connections", listener="tls") == 0)
    assert_alive(tls)


def test_tls_to_the_plain_port(tls):
    """Clients say "wrong version number", which is what everybody knows it by; the log says it in words."""
    before = tls.metric("sluice_tls_on_plain_total", listener="public")
    with socket.create_connection(("127.0.0.1", tls.port), 10) as s, pytest.raises(ssl.SSLError) as told:
        context(tls).wrap_socket(s, server_hostname="localhost")
    assert told.value.reason == "WRONG_VERSION_NUMBER"
    with Wire(tls.port) as wire:
        status, fields, body = wire.send(client_hello(tls)).read_answers(1)[0]
        assert (status, fields["connection"]) == (400, "close") and b"this port speaks no TLS" in body
        assert wire.read_until_closed().closed
    assert tls.metric("sluice_tls_on_plain_total", listener="public") == before + 2
    wait_for(lambda: any(line.get("why", "").startswith("this port speaks no TLS") for line in tls.access_log()))


def test_a_handshake_that_comes_byte_by_byte(tls):
    """No byte in the middle of it is taken for the first one."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = context(tls).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", tls.tls_port), 60) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def push():
            for octet in outgoing.read():
                s.sendall(bytes([octet]))

        while True:
            try:
                o.do_handshake()
                break
            except ssl.SSLWantReadError:
                push()
                incoming.write(s.recv(65536))
        o.write(GET)
        push()
        incoming.write(s.recv(65536))
        while True:
            try:
                assert b"HTTP/1.1 200" in o.read()
                break
            except ssl.SSLWantReadError:
                incoming.write(s.recv(65536))


def client_hello(sluice):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = context(sluice).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        o.do_handshake()
    return outgoing.read()


def test_half_a_hello_and_none(tls):
    """Row 81: closed within header_timeout, counted from accept."""
    hello = client_hello(tls)
    wires = [Wire(tls.tls_port).send(hello[:n]) for n in (0, 1, 5, 6, len(hello) // 2, len(hello) - 1)]
    wires.append(Wire(tls.tls_port).send(hello))  # a whole one, and nothing after it
    for wire in wires:
        assert wire.read_until_closed(10).closed
        wire.socket.close()
    wait_for(lambda: tls.metric("sluice_connections", listener="tls") == 0)
    assert_alive(tls)


def test_a_hello_with_flipped_bits(tls):
    hello = bytearray(client_hello(tls))
    for at in range(0, len(hello), 3):
        broken = bytes(hello[:at] + bytes([hello[at] ^ 0x55]) + hello[at + 1 :])
        with Wire(tls.tls_port) as wire:
            wire.send(broken)
            with contextlib.suppress(OSError):  # it has closed already
                wire.socket.shutdown(socket.SHUT_WR)
            assert wire.read_until_closed(5).closed
    assert_alive(tls)


def test_handshakes_that_are_left(tls):
    for n in range(100):
        wire = Wire(tls.tls_port).send(client_hello(tls)[: 20 * (n % 12)])
        wire.socket.close()
    wait_for(lambda: tls.metric("sluice_connections", listener="tls") == 0)
    assert_alive(tls)


# ---- sessions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_over_loops_and_restarts(tmp_path, version):
    """A ticket is good on every loop, and for the gateway process that follows a killed one."""
    with tls_sluice(tmp_path, loops=2) as sluice:
        c = context(sluice, low=version, high=version)

        def session_of(session=None, reused=False):
            with connect(sluice, c, session=session) as s:
                assert s.session_reused == reused and live(s) == 200
                return s.session

        session = session_of()
        for _ in range(20):  # the kernel spreads them over both loops
            session_of(session, reused=True)
        os.kill(sluice.find("ready")[-1]["pid"], signal.SIGKILL)
        sluice.wait_event("ready", count=2)
        session_of(session, reused=True)
        assert sluice.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_ticket_keys_rotate_on_every_loop(tmp_path, version):
    """The keeper's word of a new key reaches every loop of the gateway, and the gateway that follows a killed one. What
    an old key has sealed is opened until two newer ones are there: who learns a key later reads nothing older."""
    rotate = tmp_path / "rotate"
    doored = {"program": SLUICE_DOORS, "env": {"SLUICE_DOORS_ROTATE": str(rotate)}}
    with tls_sluice(tmp_path, loops=2, program=doored) as sluice:
        c = context(sluice, low=version, high=version)

        def session_of(session=None):
            with connect(sluice, c, session=session) as s:
                assert live(s) == 200
                return s.session, s.session_reused

        def good(session):
            """The same on both loops: the kernel spreads ten connections over them."""
            seen = {session_of(session)[1] for _ in range(10)}
            assert len(seen) == 1, seen
            return seen.pop()

        def rotated(n):
            rotate.touch()
            event = sluice.wait_event("ticket_keys_rotated", count=n)
            assert event["keys"] == min(n + 1, 3) and not rotate.exists()
            # Every loop has heard of it before it is asked what it holds.
            wait_for(lambda: all(loop["answered"] for loop in sluice.status_page()["loops"]), 10, "the loops")

        sealed = [session_of()[0]]  # one with each key
        for n in range(1, 5):
            rotated(n)
            sealed.append(session_of()[0])
            assert [good(s) for s in sealed] == [k > n - 3 for k in range(n + 1)]
        os.kill(sluice.find("ready")[-1]["pid"], signal.SIGKILL)
        sluice.wait_event("ready", count=2)
        assert [good(s) for s in sealed] == [False, False, True, True, True]
        rotated(5)
        assert [good(s) for s in sealed] == [False, False, False, True, True]
        assert sluice.stop() == 0


def test_a_ticket_is_bound_to_its_host(tls):
    """Row 128 (CVE-2025-23419)."""
    c = context(tls)
    with connect(tls, c) as s:
        assert live(s) == 200
        session = s.session
    with connect(tls, c, session=session) as s:
        assert s.session_reused
    with connect(tls, c, host="other.example", session=session) as s:
        assert not s.session_reused and live(s) == 200


def test_a_ticket_of_another_deployment_is_not_taken(tls, rsa):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(tls.cert)
    c.load_verify_locations(rsa.cert)
    with connect(rsa, c) as s:
        assert live(s) == 200
        session = s.session
    with connect(tls, c, session=session) as s:
        assert not s.session_reused and live(s) == 200


def test_drain_over_tls(tmp_path):
    """The answer that runs is given, the connection ends with close_notify."""
    with tls_sluice(tmp_path, limits='header_timeout = "2s"') as sluice:
        worker = sluice.worker_pid()
        with connect(sluice, context(sluice)) as s:
            os.kill(worker, signal.SIGSTOP)
            s.sendall(post(close=False))
            wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
            sluice.kill(signal.SIGTERM)
            sluice.wait_event("draining")
            os.kill(worker, signal.SIGCONT)
            answer = b""
            while got := s.recv(65536):
                answer += got
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
        assert sluice.wait() == 0


# ---- secrets -----------------------------------------------------------------------------------------


@pytest.mark.skipif(SANITIZED, reason="the leak checker must be allowed to look")
def test_nobody_looks_into_the_memory_of_secrets(tmp_path):
    """Row 134: a process that holds keys leaves no core and is closed to its own user; a worker holds none."""
    with tls_sluice(tmp_path, limits_before=UNPRIVILEGED) as sluice:
        pids = {"keeper": sluice.pid, "gateway": sluice.gateway_pid(), "worker": sluice.worker_pid()}
        look = lambda pid, name: subprocess.run([*UNPRIVILEGED, "cat", f"/proc/{pid}/{name}"], capture_output=True)
        for name in ("environ", "maps", "auxv"):
            denied = {who for who, pid in pids.items() if b"Permission denied" in look(pid, name).stderr}
            assert denied == {"keeper", "gateway"}, name
        assert sluice.stop() == 0


@pytest.mark.skipif(SANITIZED, reason="the leak checker must be allowed to look")
def test_the_first_secret_may_come_by_a_reload(tmp_path):
    config = configuration(tmp_path)
    text = config.read_text()
    config.write_text(text.replace("token_file", "# token_file").replace("token\" }", "token\"\n}"))
    with Sluice(config, limits=UNPRIVILEGED) as sluice:
        pids = [sluice.pid, sluice.gateway_pid()]
        denied = lambda pid: b"Permission denied" in subprocess.run([*UNPRIVILEGED, "cat", f"/proc/{pid}/environ"], capture_output=True).stderr
        assert not any(denied(p) for p in pids)
        config.write_text(text)
        sluice.kill(signal.SIGHUP)
        sluice.wait_event("reloaded", generation=2)
        assert all(denied(p) for p in pids)
        assert sluice.status_page()["configuration"]["generation"] == 2
        assert sluice.stop() == 0


def test_no_secrets_in_words(tls):
    """Row 134: keys and token are in files, not in arguments or environment, nor in what is said."""
    secret = (tls.config.parent / "pki" / "key.pem").read_text().split("\n")[1][:30].encode()
    for pid in (tls.pid, tls.gateway_pid(), tls.worker_pid()):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    octets = f.read()
            except PermissionError:
                continue
            assert b"sesame" not in octets and secret not in octets
    assert "sesame" not in tls.text and "PRIVATE KEY" not in tls.text
