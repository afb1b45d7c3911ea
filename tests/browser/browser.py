"""A real Chromium without a window, told what to do over two pipes (the DevTools protocol, NUL between messages): no port, no
driver, no package."""
import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
WORDS = [
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--no-proxy-server", "--force-color-profile=srgb", "--password-store=basic",
]  # fmt: skip


class Gone(AssertionError):
    pass


class Browser:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="sluice-browser-")
        to_it, ours = os.pipe()
        mine, from_it = os.pipe()

        def place():  # it reads 3 and writes 4, whatever numbers these have here
            a, b = os.dup(to_it), os.dup(from_it)
            high = (max(a, b, 10) + 1, max(a, b, 10) + 2)
            os.dup2(a, high[0]), os.dup2(b, high[1])
            os.dup2(high[0], 3), os.dup2(high[1], 4)
            os.set_inheritable(3, True), os.set_inheritable(4, True)

        words = [PROGRAM, *WORDS, f"--user-data-dir={self.directory}", "about:blank"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(words, preexec_fn=place, close_fds=False, start_new_session=True, **quiet)
        os.close(to_it), os.close(from_it)
        self.out, self.input = os.fdopen(ours, "wb", 0), os.fdopen(mine, "rb", 0)
        self.number, self.answers, self.heard, self.pages = 0, {}, threading.Condition(), {None: []}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        held = b""
        while True:
            try:
                got = self.input.read(1 << 16)
            except (OSError, ValueError):
                got = b""
            *whole, held = (held + (got or b"")).split(b"\0")
            with self.heard:
                for text in whole:
                    said = json.loads(text)
                    if "id" in said:
                        self.answers[said["id"]] = said
                    elif said.get("sessionId") in self.pages:
                        self.pages[said.get("sessionId")].append(said)
                if not got:
                    self.answers = None
                self.heard.notify_all()
            if not got:
                return

    def call(self, method, session=None, timeout=30, **parameters):
        with self.heard:
            self.number += 1
            number = self.number
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        self.out.write(json.dumps(message).encode() + b"\0")
        with self.heard:
            there = self.heard.wait_for(lambda: self.answers is None or number in self.answers, timeout)
            if self.answers is None:
                raise Gone("the browser has ended")
            assert there, f"{method}: no answer within {timeout} s"
            said = self.answers.pop(number)
        assert "error" not in said, (method, said["error"])
        return said["result"]

    def trace(self, url, during):
        """What the main thread of the page of that url did while during() ran: of each task of 5 ms and more the CPU time in ms, which
        others on this machine do not lengthen, and the functions in it that took longest."""
        heard = self.pages[None]
        heard.clear()
        wanted = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
        self.call("Tracing.start", traceConfig={"includedCategories": wanted, "excludedCategories": ["*"]}, transferMode="ReportEvents")
        during()
        self.call("Tracing.end")
        with self.heard:
            assert self.heard.wait_for(lambda: any(e["method"] == "Tracing.tracingComplete" for e in heard), 60), "no end of the trace"
        events = [e for said in heard if said["method"] == "Tracing.dataCollected" for e in said["params"]["value"]]
        read_it = lambda e: e["name"] == "ParseHTML" and e["args"]["beginData"].get("url") == url
        mains = {(e["pid"], e["tid"]) for e in events if read_it(e)}
        ours = [e for e in events if (e["pid"], e["tid"]) in mains and e.get("ph") == "X" and "tdur" in e]
        tasks = [e for e in ours if e["name"] in ("RunTask", "ThreadControllerImpl::RunTask") and e["tdur"] >= 5000]
        inside = lambda t: [e for e in ours if e is not t and (e["pid"], e["tid"]) == (t["pid"], t["tid"]) and t["ts"] <= e["ts"] < t["ts"] + t["dur"]]
        words = lambda t: [(e["name"], e["tdur"] // 1000) for e in sorted(inside(t), key=lambda e: -e["tdur"])[:6]]
        return sorted(((t["tdur"] / 1000, words(t)) for t in tasks), key=lambda t: -t[0])

    def page(self, width=1280, height=900, dark=False, still=False):
        return Page(self, width, height, dark, still)

    def close(self):
        try:
            self.call("Browser.close", timeout=5)
            self.process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Page:
    """A tab with a context of its own: what one knows no other does."""

    def __init__(self, browser, width, height, dark, still):
        self.browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events = browser.pages.setdefault(self.session, [])
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def open(self, url):
        said = self.call("Page.navigate", url=url)
        assert not said.get("errorText"), said
        self.wait("document.readyState === 'complete'")

    def eval(self, script):
        """What the script's last expression is, as JSON."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, script, timeout=20):
        until = time.monotonic() + timeout
        while True:
            seen = self.eval(script)
            if seen:
                return seen
            if time.monotonic() > until:
                raise AssertionError(f"{script}: not within {timeout} s; last seen: {seen!r}")
            time.sleep(0.05)

    def text(self, selector):
        return self.eval(f"document.querySelector({json.dumps(selector)}).textContent")

    def key(self, key, code=None, number=0, text="", shift=False):
        event = {"key": key, "code": code or key, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def tab(self, shift=False):
        self.key("Tab", number=9, shift=shift)

    def enter(self):
        self.key("Enter", number=13, text="\r")

    def escape(self):
        self.key("Escape", number=27)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def tab_to(self, script, most=400):
        """Goes on by Tab alone until the focused element fits: `e` in the script."""
        for _ in range(most):
            self.tab()
            if self.eval(f"(e => Boolean({script}))(document.activeElement)"):
                return
        raise AssertionError(f"no focused element fits {script}")

    def complaints(self):
        """What the page's console and its policy have to say."""
        said = []
        for e in list(self.events):
            p = e["params"]
            if e["method"] == "Runtime.exceptionThrown":
                said.append(p["exceptionDetails"])
            elif e["method"] == "Log.entryAdded" and p["entry"]["level"] == "error" and p["entry"]["source"] != "network":
                said.append(p["entry"])
            elif e["method"] == "Runtime.consoleAPICalled" and p["type"] == "error":
                said.append(p["args"])
        return said

    def requests(self):
        return [e["params"]["request"]["url"] for e in list(self.events) if e["method"] == "Network.requestWillBeSent"]

    def picture(self, path, whole=True):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as out:
            out.write(base64.b64decode(data))
