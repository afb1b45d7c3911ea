import http.client
import http.server
import json
import pathlib
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from browser import PROGRAM, Browser  # noqa: E402
from harness import MODELS, Sluice, configuration  # noqa: E402


def pytest_collection_modifyitems(items):
    if not PROGRAM:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="chromium is not installed (tools/setup.sh browser)"))


@pytest.fixture(scope="session")
def browser():
    with Browser() as b:
        yield b


@pytest.fixture
def start(tmp_path):
    """Starts gateways; they end with the test, in order."""
    running = []

    def one(wait_models=("digits",), repository=MODELS, **more):
        running.append(Sluice(configuration(tmp_path / str(len(running)), repository, **more), wait_models))
        return running[-1]

    yield one
    for sluice in running:
        assert sluice.stop() == 0, sluice.text
        sluice.assert_clean()


class Double:
    """An admin listener that serves the real page, with the real one's policy, and says what a test has written."""

    def __init__(self, sluice):
        real = http.client.HTTPConnection("127.0.0.1", sluice.admin_port)
        real.request("GET", "/")
        answer = real.getresponse()
        body, headers = answer.read(), [(k, v) for k, v in answer.getheaders() if k not in ("date", "content-length")]
        self.status, self.trials, self.live, self.events, self.asked, self.over = {}, None, [], [], [], threading.Event()
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def say(self, content, status=200, fields=(("content-type", "application/json"),)):
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def flow(self, events):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for event in events:
                    self.wfile.write(event)
                    self.wfile.flush()
                    if double.over.is_set():
                        break
                self.close_connection = True

            def do_GET(self):
                if self.path == "/":
                    self.say(body, fields=headers)
                elif self.path == "/live":
                    self.flow(double.stats())
                elif self.path == "/events":
                    self.flow(double.happenings())
                elif self.path == "/status":
                    self.say(json.dumps(double.status).encode())
                elif self.path == "/v1/experiments" and double.trials:
                    self.say(json.dumps(double.trials).encode())
                else:
                    self.say(b'{"error":"path: no such page"}', 404)

            def do_POST(self):
                sent = self.rfile.read(int(self.headers.get("content-length") or 0))
                double.asked.append((self.path, json.loads(sent or b"null"), dict(self.headers)))
                self.say(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stats(self):
        """The first of self.live, then the others round and round, one a second."""
        n = 0
        while not self.over.is_set():
            event = self.live[0] if n == 0 else self.live[1 + (n - 1) % (len(self.live) - 1)]
            yield b"event: stats\ndata: %s\n\n" % json.dumps(event).encode()
            n += 1
            self.over.wait(1)

    def happenings(self):
        for event in self.events:
            yield b"id: 1.1\nevent: x\ndata: %s\n\n" % json.dumps(event).encode()
        while not self.over.is_set():
            self.over.wait(1)
            yield b":\n\n"

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def double(start):
    d = Double(start())
    yield d
    d.close()
