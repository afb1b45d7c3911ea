"""Does the runner notice? A failing test, run as pytest runs all others, must fail; a wait says why; who has a second try."""
import importlib.machinery
import importlib.util
import re
import subprocess
import sys

import pytest
from harness import ROOT, Wire, parse_answers, wait_for

FAILING = "def test_that_fails():\n    assert 1 + 1 == 3, 'as it must'\n"


def test_a_failing_test_fails(tmp_path):
    (tmp_path / "test_failing.py").write_text(FAILING)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "as it must" in done.stdout and "1 failed" in done.stdout


@pytest.fixture
def runner():
    loader = importlib.machinery.SourceFileLoader("run_tests", str(ROOT / "tools" / "run_tests"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_tests", loader))
    loader.exec_module(module)
    return module


def test_who_has_a_second_try(runner, monkeypatch):
    """A few that fail; none of those that found something, nor a file that could not be read."""
    monkeypatch.setattr(runner, "passes_alone", lambda name, *_: name.endswith("flakes"))
    failed = lambda *names, text="AssertionError: 1": {f"tests/integration/test_x.py::{n}": ("failed", text) for n in names}
    again = lambda found: [n.rpartition("::")[2] for n in runner.unsteady({"tests/a.py::b": ("passed", ""), **found}, None, None)]
    assert again(failed("flakes", "fails")) == ["flakes"]
    assert again(failed("a_flakes", "b_flakes", "c_flakes")) == ["a_flakes", "b_flakes", "c_flakes"]
    assert again(failed("a_flakes", "b_flakes", "c_flakes", "d_flakes")) == []
    for text in ("==1==ERROR: LeakSanitizer: x", "x.c:1:2: runtime error: y", '{"event":"gateway_exited","signal":11,"x":1}', '"status":77}',
                 "ended with -6 before event ready", "assert 78 == 0", "worker 'gw0' crashed while running"):  # fmt: skip
        assert again(failed("flakes", text=text)) == [], text
    for text in ('"signal":9', '"status":7', "assert 503 == 200", "ended with 0 before event ready"):
        assert again(failed("flakes", text=text)) == ["flakes"], text
    assert again({"::tests/integration/test_y.py": ("failed", "SyntaxError")}) == []


def test_the_report_tells_each_test(runner, tmp_path):
    """The test as pytest is asked for it; a test that passes and ends badly has failed."""
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite><testcase classname="integration.test_a" name="test_b[c d]"><failure message="m">t</failure><system-out>o</system-out></testcase>'
        '<testcase classname="integration.test_a" name="test_e" /><testcase classname="integration.test_a" name="test_f"><skipped message="s" /></testcase>'
        '<testcase classname="integration.test_a" name="test_e"><error message="at its end">x</error></testcase></testsuite></testsuites>'
    )
    told = runner.cases(tmp_path / "r.xml")
    assert {n: outcome for n, (outcome, _) in told.items()} == {
        "tests/integration/test_a.py::test_b[c d]": "failed",
        "tests/integration/test_a.py::test_e": "failed",
        "tests/integration/test_a.py::test_f": "skipped",
    }
    assert told["tests/integration/test_a.py::test_b[c d]"][1].split() == ["m", "t", "o"]
    assert runner.cases(tmp_path / "none.xml") is None


def test_wait_for_tells_what_it_saw():
    with pytest.raises(AssertionError, match="the tide: not within 0.05 s; last seen: 0"):
        wait_for(lambda: 0, 0.01, "the tide")


def test_answers_are_told_apart():
    two = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n"
    assert [a[0] for a in parse_answers(two)] == [200, 400]
    assert parse_answers(two[:-1]) == [(200, {"content-length": "2"}, b"ok")]


def test_bytes_reach_the_gateway(gateway):
    with Wire(gateway.port) as wire:
        wire.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").read_until_closed()
        assert wire.closed and wire.answers()[0][0] == 200


def test_the_table_of_hostile_input_is_right():
    """docs/hostile.md: each row that we owe stands there once or more, and each test that it names exists."""
    text = (ROOT / "docs/hostile.md").read_text()
    named = re.findall(r"`(\w+)[:.](test_\w+|\w+)`", text)
    assert len(named) > 90
    for file, test in named:
        place = {"h": "tests/integration/test_hostile_*.py"}.get(file)
        place = place or (f"tests/integration/{file}.py" if test.startswith("test_") else f"tests/unit/{file}.c")
        texts = [path.read_text() for path in ROOT.glob(place)]
        assert any(re.search(rf"^(def|static void) {test}\(", t, re.M) for t in texts), f"no {test} in {place}"
    rows = set()
    for cell in re.findall(r"^\| ([0-9, –]+) \|", text, re.M):
        for part in filter(None, cell.replace(" ", "").split(",")):
            first, _, last = part.partition("–")
            rows |= set(range(int(first or 0), int(last or first or 0) + 1))
    owed = [*range(1, 98), *range(99, 105), *range(118, 123), *range(124, 129), *range(131, 138), *range(140, 145)]
    assert set(owed) <= rows, sorted(set(owed) - rows)
