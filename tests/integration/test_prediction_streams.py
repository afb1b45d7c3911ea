"""Records of predictions in Redis Streams: whatever becomes of Redis, each is there once."""
import json
import os
import signal
import threading

import pytest
from harness import SAMPLES, Sluice, configuration, gone, infer_body, wait_for
from prediction_files import records
from redis_servers import Redis
from test_predictions import ask, limit

LOG = 'redis = true flush = "10ms" instance = "gw"'


def started(tmp_path, redis, log=LOG, state=True, models="", loops=2):
    state = f'state_dir = "{tmp_path}/state"' if state else ""
    top = f'{state} store {{ redis = "redis://127.0.0.1:{redis.port}" }} predictions {{ {log} }}'
    return Sluice(configuration(tmp_path, models=models, loops=loops, top=top))


def entries(redis, instance="gw"):
    """[(id, record)] of all streams of the instance, each in its order."""
    found = []
    for key in sorted(redis.keys(f"sluice:default:predictions:{instance}:*")):
        text = redis.command("--json", "XRANGE", key, "-", "+")
        ids = []
        for entry, fields in json.loads(text):
            assert fields[0] == "record" and len(fields) == 2
            ids.append(tuple(int(n) for n in entry.split("-")))
            found.append((entry, json.loads(fields[1])))
        assert ids == sorted(ids)
    return found


def requests(redis):
    return sorted(r["id"] for _, r in entries(redis))


def wait_requests(redis, wanted, timeout=30.0):
    """Exactly these, each once."""
    wanted = sorted(wanted)
    wait_for(lambda: len(requests(redis)) >= len(wanted), timeout, f"{len(wanted)} entries")
    assert requests(redis) == wanted


def test_into_streams_and_files(tmp_path):
    with Redis() as redis, started(tmp_path, redis, LOG + f' file = "{tmp_path}/p"') as sluice:
        names = [f"r{i}" for i in range(20)]
        for name in names:
            assert ask(sluice, name)[0] == 200
        wait_requests(redis, names)
        for entry, record in entries(redis):
            assert record["record"] == entry and record["instance"] == "gw"
        wait_for(lambda: len(records(tmp_path / "p")) == 20, what="files")
        by_id = {r["id"]: r for r in records(tmp_path / "p")}
        assert all(by_id[r["id"]] == r for _, r in entries(redis))
        assert sluice.metric("sluice_predictions_streamed_total") == 20
        assert sluice.metric("sluice_predictions_spool_bytes") == 0


def test_what_is_there_at_the_end_is_delivered(tmp_path):
    with Redis() as redis:
        with started(tmp_path, redis, state=False) as sluice:
            wait_for(lambda: sluice.metric("sluice_store_loops", state="up") == 2, what="up")
            names = [f"r{i}" for i in range(50)]
            for name in names:
                assert ask(sluice, name)[0] == 200
            assert sluice.stop() == 0
        assert requests(redis) == sorted(names)


class Asked:
    """Requests from another thread, until it is told to stop; the names of those that were answered."""

    def __init__(self, sluice):
        self.sluice, self.names, self.failed, self.over = sluice, [], [], False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over:
            name = f"a{len(self.names):06}"
            status = ask(self.sluice, name)[0]
            (self.names if status == 200 else self.failed).append(name)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join(30)
        assert not self.failed

    def wait(self, more):
        wanted = len(self.names) + more
        wait_for(lambda: len(self.names) >= wanted, 30, "requests")


def test_redis_killed_stopped_and_started_under_traffic(tmp_path):
    """kill -9 of a Redis with its append-only file, while requests run: none lost, none there twice; and none waits for it."""
    aof = ["--appendonly", "yes", "--appendfsync", "everysec"]
    with Redis(*aof) as redis, started(tmp_path, redis) as sluice:
        with Asked(sluice) as asked:
            asked.wait(50)
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                redis.stop(number)
                asked.wait(100)
                redis.start()
                asked.wait(50)
            redis.pause()  # it owes answers, and is given up
            asked.wait(100)
            redis.go_on()
            asked.wait(20)
        wait_requests(redis, asked.names)
        wait_for(lambda: sluice.metric("sluice_predictions_spool_bytes") == 0, what="empty spool")
        assert sluice.metric("sluice_predictions_dropped_total") == 0


def test_gateway_and_redis_die_while_records_wait(tmp_path):
    """What is in the spool outlives the process, and is delivered once, although part of it may have been delivered before."""
    with Redis("--appendonly", "yes") as redis, started(tmp_path, redis) as sluice:
        assert ask(sluice, "first")[0] == 200
        wait_requests(redis, ["first"])
        redis.stop()
        names = ["first"] + [f"r{i}" for i in range(200)]
        for name in names[1:]:
            assert ask(sluice, name)[0] == 200
        sluice.wait_event("predictions_wait_for_redis")
        wait_for(lambda: sluice.metric("sluice_predictions_records_total") == 201, what="made")
        settled = lambda: (tmp_path / "state" / "predictions.spool").stat().st_size  # noqa: E731
        wait_for(lambda: settled() > 200 * 300, what="spooled")
        pid = sluice.gateway_pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gone(pid), what="gone")
        # A process before it had delivered some of them, and was killed before it noted so.
        spool = (tmp_path / "state" / "predictions.spool").read_bytes()
        sluice.wait_event("gateway_started", count=2)
        redis.start()
        wait_requests(redis, names)
        os.kill(sluice.wait_event("gateway_started", count=2)["pid"], signal.SIGSTOP)
        (tmp_path / "state" / "predictions.spool").write_bytes(spool)
        os.kill(sluice.find("gateway_started")[-1]["pid"], signal.SIGKILL)
        sluice.wait_event("gateway_started", count=3)
        sluice.wait_model("digits")
        wait_for(lambda: sluice.metric("sluice_predictions_stream_there_total") == 200, 30, "noticed")
        assert requests(redis) == sorted(names)


def test_a_stream_that_is_ahead(tmp_path):
    """The clock was set back, or somebody else wrote: records get ids behind the last one, and none is lost."""
    with Redis() as redis, started(tmp_path, redis, loops=1) as sluice:
        redis.command("XADD", "sluice:default:predictions:gw:0", "9999999999999-5", "record", '{"id":"other"}')
        names = [f"r{i}" for i in range(10)]
        for name in names:
            assert ask(sluice, name)[0] == 200
        wait_requests(redis, names + ["other"])
        assert sluice.metric("sluice_predictions_stream_renewed_total") >= 1


def test_a_redis_without_room(tmp_path):
    """It refuses writes for a while: what it refused comes later, once."""
    with Redis() as redis, started(tmp_path, redis) as sluice:
        assert ask(sluice, "first")[0] == 200
        wait_requests(redis, ["first"])
        redis.command("CONFIG", "SET", "maxmemory", "1")
        names = ["first"] + [f"r{i}" for i in range(30)]
        for name in names[1:]:
            assert ask(sluice, name)[0] == 200
        wait_for(lambda: sluice.metric("sluice_predictions_stream_errors_total") > 0, what="refused")
        assert "OOM" in sluice.wait_event("predictions_wait_for_redis")["why"]
        redis.command("CONFIG", "SET", "maxmemory", "0")
        wait_requests(redis, names)
        sluice.wait_event("predictions_streamed")


def test_a_spool_that_cannot_be_had(tmp_path):
    (tmp_path / "state").write_text("no directory")
    with Redis() as redis, started(tmp_path, redis) as sluice:
        assert "Not a directory" in sluice.wait_event("predictions_without_spool")["why"]
        assert ask(sluice, "first")[0] == 200
        wait_requests(redis, ["first"])


def test_a_spool_on_a_full_disk(tmp_path):
    """Redis is away and the disk is full: records wait in memory; when there is room again none is lost."""
    with Redis("--appendonly", "yes") as redis, started(tmp_path, redis) as sluice:
        assert ask(sluice, "first")[0] == 200
        wait_requests(redis, ["first"])
        redis.stop()
        limit(sluice, 1)
        names = ["first"] + [f"r{i}" for i in range(100)]
        for name in names[1:]:
            assert ask(sluice, name)[0] == 200
        wait_for(lambda: sluice.metric("sluice_predictions_spool_errors_total") > 0, what="a full disk")
        limit(sluice, -1)
        redis.start()
        wait_requests(redis, names)
        assert sluice.metric("sluice_predictions_dropped_total") == 0


def test_without_a_spool_a_required_record_is_refused(tmp_path):
    rows = infer_body([SAMPLES[i % 2]["input"] for i in range(64)])
    models = 'model "digits" { predictions { required = true inputs = full outputs = none } }'
    log = LOG + " ring = 4MiB max_bytes = 512KiB"
    with Redis("--appendonly", "yes") as redis, started(tmp_path, redis, log, False, models, loops=1) as sluice:
        assert ask(sluice, "first", rows)[0] == 200
        wait_requests(redis, ["first"])
        redis.stop()
        answered, status = ["first"], 200
        while status == 200:
            name = f"r{len(answered):05}"
            status = ask(sluice, name, rows)[0]
            answered += [name] if status == 200 else []
            assert len(answered) < 3000
        assert status == 503
        redis.start()
        wait_requests(redis, answered)
        wait_for(lambda: ask(sluice, "again", rows)[0] == 200, what="room again")


def test_what_nobody_takes_is_told_at_the_end(tmp_path):
    with Redis() as redis, started(tmp_path, redis, state=False) as sluice:
        assert ask(sluice, "first")[0] == 200
        wait_requests(redis, ["first"])
        redis.stop()
        for i in range(10):
            assert ask(sluice, f"r{i}")[0] == 200
        assert sluice.stop() == 0
        assert sluice.wait_event("predictions_lost")["records"] == 10
