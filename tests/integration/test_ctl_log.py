"""sluicectl log: the prediction log read where it lies, in files and in Redis; CSV that no spreadsheet runs; days put together."""
import csv
import fcntl
import io
import json
import os
import signal
import subprocess

import pytest
from harness import wait_for
from prediction_files import frame, frames, records
from redis_servers import Redis
from test_ctl import CTL, DONE, REFUSED, UNANSWERED, run
from test_predictions import FAST, ask, started, wait_records
from test_prediction_streams import requests as requests_of
from test_prediction_streams import started as started_with_redis


def lines(said):
    assert (said.status, said.err) == (DONE, ""), said.err
    return [json.loads(line) for line in said.out.splitlines()]


def zst(path, text):
    path.write_bytes(frame(text.encode()))


def test_export(tmp_path):
    place = tmp_path / "p"
    with started(tmp_path) as sluice:
        sluice.wait_model("digits-small")
        for i in range(10):
            assert ask(sluice, f"r{i}", model="digits-small" if i % 2 else "digits")[0] == 200
        wait_records(place, 10)
        written = lines(run("log", "export", place))  # while it is being written
        assert written == records(place)
    said = run("log", "export", place, "--model", "digits-small")
    assert {r["id"] for r in lines(said)} == {f"r{i}" for i in (1, 3, 5, 7, 9)}
    middle = sorted(r["time"] for r in written)[5]
    assert len(lines(run("log", "export", place, "--since", middle))) == 5
    assert len(lines(run("log", "export", place, "--since", "1h"))) == 10
    assert lines(run("log", "export", place, "--since", "2100-01-01")) == []
    said = run("log", "export", place, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [r["record"] for r in rows] == [r["record"] for r in written]
    assert all(int(row["total_us"]) == r["total_us"] and json.loads(row["inputs"]) == r["inputs"] for row, r in zip(rows, written))


def test_formulas_are_texts(tmp_path):
    """No cell of strangers' making begins as a formula does, nor breaks out of its quotes."""
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", 'a","=1', "=cmd|' /C calc'!A0"]
    text = "".join(json.dumps({"record": f"1-{i}", "loop": 0, "id": h, "tenant": h, "headers": {h: h}, "parameters": {h: h}, "inputs": [{"data": [-1, 18446744073709551615]}]}) + "\n" for i, h in enumerate(hostile))
    zst(tmp_path / "20250101T000000.000000Z-gw.jsonl.zst", text)
    said = run("log", "export", tmp_path, "--format", "csv")
    assert said.status == DONE
    rows = list(csv.DictReader(io.StringIO(said.out, newline="")))
    assert len(rows) == len(hostile)
    for row, h in zip(rows, hostile):
        for cell in row.values():
            assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
        assert row["id"] == row["tenant"] == (h if h[0] == "a" else "'" + h)
        assert json.loads(row["headers"]) == json.loads(row["parameters"]) == {h: h}
        assert row["inputs"] == '[{"data": [-1, 18446744073709551615]}]'


def test_tail(tmp_path):
    place = tmp_path / "p"
    with started(tmp_path) as sluice:
        assert ask(sluice, "before")[0] == 200
        wait_records(place, 1)
        tail = subprocess.Popen([CTL, "log", "tail", place], stdout=subprocess.PIPE, text=True)
        try:
            # It may begin to look a little later: what it has missed then comes again under another name.
            first = None
            for i in range(100):
                assert ask(sluice, f"a{i}")[0] == 200
                os.set_blocking(tail.stdout.fileno(), False)
                first = tail.stdout.readline()
                if first:
                    break
            os.set_blocking(tail.stdout.fileno(), True)
            first = json.loads(first or tail.stdout.readline())
            assert first["id"] != "before"
            assert ask(sluice, "last")[0] == 200
            while json.loads(tail.stdout.readline())["id"] != "last":
                pass
        finally:
            tail.send_signal(signal.SIGTERM)
            tail.wait(10)
            tail.stdout.close()


def test_from_redis(tmp_path):
    with Redis() as redis, started_with_redis(tmp_path, redis) as sluice:
        names = sorted(f"r{i}" for i in range(30))
        for name in names:
            assert ask(sluice, name)[0] == 200
        wait_for(lambda: requests_of(redis) == names, what="streams")
        place = f"redis://127.0.0.1:{redis.port}/0"
        assert sorted(r["id"] for r in lines(run("log", "export", place))) == names
        assert lines(run("log", "export", place, "--deployment", "other")) == []
        redis.command("CONFIG", "SET", "requirepass", "open")
        assert "NOAUTH" in run("log", "export", place).err
        assert len(lines(run("log", "export", place, SLUICE_REDIS_PASSWORD="open"))) == 30


def test_days(tmp_path):
    """Closed files of days that are over; ended at any place the next run goes on, and takes nothing twice."""
    place, days = tmp_path / "p", tmp_path / "days"
    place.mkdir()

    def put(name, *ids):
        zst(place / name, "".join(json.dumps({"record": f"{i}-0", "id": i}) + "\n" for i in ids))

    put("20250101T100000.000000Z-a.jsonl.zst", "1", "2")
    put("20250101T110000.000000Z-b.jsonl.zst", "3")
    put("20250102T000000.000000Z-a.jsonl.zst", "4")
    put("20250102T010000.000000Z-a.jsonl.zst.part", "5")
    put("29990101T000000.000000Z-a.jsonl.zst", "6")
    (place / "notes.txt").write_text("not ours")
    kept = (place / "20250101T110000.000000Z-b.jsonl.zst").read_bytes()
    said = run("log", "archive", place, days)
    assert (said.status, said.out) == (DONE, "3 files taken, 3 removed\n"), said.err
    assert sorted(p.name for p in place.iterdir()) == ["20250102T010000.000000Z-a.jsonl.zst.part", "29990101T000000.000000Z-a.jsonl.zst", "notes.txt"]
    assert sorted(p.name for p in days.glob("2*")) == ["20250101.jsonl.zst", "20250102.jsonl.zst"]
    assert [r["id"] for r in lines(run("log", "export", days))] == ["1", "2", "3", "4"]
    text, whole = frames((days / "20250101.jsonl.zst").read_bytes())
    assert text.count(b"\n") == 3 and whole == (days / "20250101.jsonl.zst").stat().st_size
    # It was ended before it had removed one; and another one came late.
    (place / "20250101T110000.000000Z-b.jsonl.zst").write_bytes(kept)
    put("20250101T120000.000000Z-a.jsonl.zst", "7")
    (days / "20250101.jsonl.zst.new").write_bytes(b"the beginning of")
    assert run("log", "archive", place, days).out == "1 files taken, 2 removed\n"
    assert [r["id"] for r in lines(run("log", "export", days))] == ["1", "2", "3", "7", "4"]
    assert run("log", "archive", place, days).out == "0 files taken, 0 removed\n"
    # What is damaged stays, and the others are taken; days that are old are removed, if they were made so.
    put("20250102T020000.000000Z-b.jsonl.zst", "8")
    (place / "20250102T030000.000000Z-c.jsonl.zst").write_bytes(kept[:-1])
    zst(days / "20240101.jsonl.zst", "not made by an archive")
    said = run("log", "archive", place, days)
    assert (said.status, said.out) == (REFUSED, "1 files taken, 1 removed\n") and "-c.jsonl.zst: is damaged" in said.err
    (place / "20250102T030000.000000Z-c.jsonl.zst").unlink()
    assert run("log", "archive", place, days, "--keep", "36500d").out == "0 files taken, 0 removed, 0 days removed\n"
    assert run("log", "archive", place, days, "--keep=1d").out == "0 files taken, 0 removed, 2 days removed\n"
    assert sorted(p.name for p in days.glob("2*")) == ["20240101.jsonl.zst"]
    with (days / ".archive.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = run("log", "archive", place, days)
    assert said.status == REFUSED and "somebody else archives there" in said.err


@pytest.mark.parametrize(
    "words, status, why",
    [
        (["log"], UNANSWERED, "expected export or tail or archive"),
        (["log", "export"], UNANSWERED, "expected a directory, redis://HOST:PORT or --config FILE behind it"),
        (["log", "export", "a", "b"], UNANSWERED, "expected no more words"),
        (["log", "archive", "a"], UNANSWERED, "expected a directory for the days"),
        (["log", "export", "a", "--format", "xml"], UNANSWERED, "--format jsonl or csv"),
        (["log", "export", "a", "--since", "yesterday"], UNANSWERED, "--since as"),
        (["log", "archive", "a", "b", "--keep", "long"], UNANSWERED, "--keep as"),
        (["log", "export", "a", "--keep", "1d"], UNANSWERED, "--keep as"),
        (["status", "--keep", "1d"], UNANSWERED, "belong to log"),
        (["status", "--since", "1h"], UNANSWERED, "belong to log"),
        (["log", "export", "/nowhere/at/all"], UNANSWERED, "No such file or directory"),
        (["log", "export", "redis://127.0.0.1:1"], UNANSWERED, "redis: "),
    ],
)
def test_what_is_wrong_is_said(words, status, why):
    said = run(*words)
    assert said.status == status and why in said.err, said.err


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.jsonl.zst").write_bytes(b"no frame at all")
    assert "damaged" in run("log", "export", tmp_path).err
    (tmp_path / "x.jsonl.zst").unlink()
    zst(tmp_path / "x.jsonl.zst", 'nonsense\n{"record":"1-0","id":"r"}\n[]\n')
    said = run("log", "export", tmp_path)
    assert said.status == REFUSED and "2 lines are no records" in said.err and json.loads(said.out)["id"] == "r"
