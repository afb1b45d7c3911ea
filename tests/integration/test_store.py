"""The store that instances share, on real servers: one alone, behind Sentinels, a Cluster. It may go and come back at any
moment: no request fails for it, and what is wrong with it is said."""
import collections
import signal
import subprocess
import threading

import pytest
from harness import SLUICE, Sluice, Worker, configuration, free_port, wait_for
from redis_servers import Cluster, Redis, Sentinels
from load import Load
from test_cache import KEPT, events, source
from test_cache import ask as infer_sample
from test_ctl import ask
from test_reload import assert_refused, change, infer, reload
from test_tls import certificate


@pytest.fixture(scope="module")
def worker():
    with Worker() as w:
        yield w


@pytest.fixture
def start(tmp_path, worker):
    running = []

    def run(store, models=KEPT, by=worker, **more):
        directory = tmp_path / str(len(running))
        config = configuration(directory, addresses=[f"grpc://127.0.0.1:{by.port}"], models=models, **more)
        config.write_text(config.read_text() + f"store {{ {store} }}\n")
        running.append(Sluice(config))
        return running[-1]

    yield run
    for sluice in running:
        sluice.stop()
        sluice.assert_clean()


def stores(sluice):
    return [loop["holds"]["store"] for loop in sluice.status_page()["loops"] if loop["answered"]]


def wait_state(sluice, state, why=""):
    """Every loop's store is in that state, for that reason."""
    wait_for(lambda: all(s["state"] == state and why in s["why"] for s in stores(sluice)), 20, f"{state}: {stores(sluice)}")


def ready(sluice):
    """Every loop may read what is stored."""
    wait_for(lambda: all(s["state"] == "up" and s["epochs_known"] for s in stores(sluice)), 20, "the store is there")


def patient(redis):
    """A busy machine makes a Redis late: where that is not what is looked at, it may be."""
    return f'redis = "redis://127.0.0.1:{redis.port}" timeout = 5s'


def sources(sluice, samples=range(6)):
    return [source(infer_sample(sluice, k)) for k in samples]


def told(sluice):
    return sluice.metric("sluice_store_answers_total", outcome="told")


# ---- answers that are shared ---------------------------------------------------------------------------


def test_what_one_has_computed_the_other_has(start):
    with Redis() as redis:
        store = patient(redis)
        first, second = start(store), start(store)
        ready(first), ready(second)
        assert sources(first) == ["model"] * 6
        wait_for(lambda: told(first) == 6, 10, "six are stored")
        keys = redis.keys()
        assert len(keys) == 6 and all(k.startswith("sluice:default:cache:digits:") for k in keys)
        assert 600001 < int(redis.command("PTTL", keys[0])) <= 86400001  # as long as it is of use when it is stale
        answer = infer_sample(second, 0)
        assert source(answer) == "cache" and int(answer.headers["age"]) < 60
        assert answer.json()["outputs"] == infer_sample(first, 0).json()["outputs"]
        assert sources(second) == ["cache"] * 6
        assert events(second)["miss"] == 0 and second.metric("sluice_cache_events_total", event="shared") == 6
        assert second.metric("sluice_store_answers_total", outcome="found") == 6
        assert told(second) == 0
        # And another deployment has its own.
        third = start(store + " deployment = other")
        ready(third)
        assert sources(third) == ["model"] * 6


def test_it_outlives_the_gateway(start):
    with Redis() as redis:
        store = patient(redis)
        first = start(store)
        ready(first)
        assert sources(first) == ["model"] * 6
        wait_for(lambda: told(first) == 6, 10, "six are stored")
        first.stop()
        second = start(store)
        ready(second)
        assert sources(second) == ["cache"] * 6


LAST = 'model "digits" { fallback = {"cached"} cache { ttl = "50ms" stale = "1h" } }'


def test_what_is_stale_there_is_given_when_nobody_else_can_answer(start):
    """By the step `cached` of a chain; what is not there is an error with the reason of each step."""
    with Redis() as redis, Worker() as own:
        store = patient(redis)
        first, second = start(store, models=LAST), start(store, models=LAST, by=own)
        ready(first), ready(second)
        assert sources(first) == ["model"] * 6
        wait_for(lambda: told(first) == 6, 10, "six are stored")
        assert source(infer_sample(second, 7)) == "model"
        own.stop()
        wait_for(lambda: second.metric("sluice_ready_replicas", model="digits") == 0, 20, "nobody is left")
        wait_for(lambda: int(redis.command("PTTL", redis.keys()[0])) < 3599900, 10, "none is fresh")
        answer = infer_sample(second, 0)
        assert source(answer) == "stale" and int(answer.headers["age"]) < 60
        assert answer.json()["outputs"] == infer_sample(first, 0).json()["outputs"]
        assert "digits;not_ready, cached;ok;dur=" in answer.headers["sluice-attempts"]
        assert sources(second) == ["stale"] * 6
        assert second.metric("sluice_cache_events_total", event="shared") == 6
        nothing = infer_sample(second, 8)
        assert nothing.status_code == 503 and "cached: not cached" in nothing.text


def test_who_asks_the_same_at_once_asks_the_store_once(start):
    with Redis() as redis:
        store = patient(redis)
        first, second = start(store), start(store)
        ready(first), ready(second)
        assert source(infer_sample(first)) == "model"
        wait_for(lambda: told(first) == 1, 10, "it is stored")
        redis.pause()
        got = collections.Counter()
        askers = [threading.Thread(target=lambda: got.update([source(infer_sample(second))])) for _ in range(8)]
        for a in askers:
            a.start()
        wait_for(lambda: events(second)["follower"] == 7, 10, "seven wait for the eighth")
        redis.go_on()
        for a in askers:
            a.join()
        assert got == {"cache": 8}
        assert second.metric("sluice_store_answers_total", outcome="found") == 1


def test_a_flush_is_for_all(start):
    with Redis() as redis:
        store = patient(redis)
        first, second = start(store), start(store)
        ready(first), ready(second)
        sources(first)
        wait_for(lambda: told(first) == 6, 10, "six are stored")
        assert sources(second) == ["cache"] * 6
        assert ask(first, "cache", "flush", "digits").status == 0
        assert sources(first) == ["model"] * 6
        wait_for(lambda: redis.command("HGET", "sluice:default:epochs", "digits").isdigit(), 10, "it is told")
        seen = set(sources(second))
        wait_for(lambda: seen.update([source(infer_sample(second, 7))]) or source(infer_sample(second, 0)) == "cache", 10, "")
        # FLUSHALL forgets the flush; those who know of it say it again.
        assert redis.command("FLUSHALL") == "OK"
        wait_for(lambda: redis.command("HGET", "sluice:default:epochs", "digits").isdigit(), 10, "it is told again")
        # Who was not there hears of it before it reads anything.
        third = start(store)
        ready(third)
        assert set(sources(third)) == {"model"}


BAD = {
    "foreign": lambda v: b"what is this",
    "truncated": lambda v: v[:-1],
    "checksum": lambda v: v[:-1] + bytes([v[-1] ^ 1]),
    "layout": lambda v: v[:4] + b"\2\0" + v[6:],
}


@pytest.mark.parametrize("fault", [*BAD, "key", "type"])
def test_what_is_not_ours_is_not_served(start, fault):
    with Redis() as redis:
        store = patient(redis)
        first, second = start(store), start(store)
        ready(first), ready(second)
        right = infer_sample(first, 0).json()["outputs"]
        infer_sample(first, 1)
        wait_for(lambda: told(first) == 2, 10, "two are stored")
        one, other = redis.keys()
        if fault == "type":
            for k in (one, other):
                assert redis.command("DEL", k) == "1" and redis.command("LPUSH", k, "a") == "1"
        elif fault == "key":
            value = redis.raw(b"GET", one.encode())
            redis.raw(b"SET", one.encode(), redis.raw(b"GET", other.encode()))
            redis.raw(b"SET", other.encode(), value)
        else:
            for k in (one, other):
                redis.raw(b"SET", k.encode(), BAD[fault](redis.raw(b"GET", k.encode())))
        answer = infer_sample(second, 0)
        assert source(answer) == "model" and answer.json()["outputs"] == right
        if fault == "type":
            assert second.metric("sluice_store_commands_total", outcome="error") == 1
        else:
            assert second.metric("sluice_store_bad_values_total", fault=fault) == 1
        wait_for(lambda: told(second) == 1, 10, "it is stored anew")


# ---- it may go at any moment ---------------------------------------------------------------------------


SHORT = 'model "digits" { cache { ttl = "50ms" } }'


class Pair:
    """Two gateways that share a store, and clients of both, whose answers are kept for so short a time that the store is
    asked and told all along."""

    def __init__(self, start, store):
        self.sluices = [start(store, models=SHORT) for _ in range(2)]
        for s in self.sluices:
            ready(s)
        self.loads = [Load(s.port, h1=2) for s in self.sluices]

    def __enter__(self):
        for load in self.loads:
            load.__enter__()
        self.hits()
        return self

    def __exit__(self, *more):
        for load in self.loads:
            load.__exit__(*more)
        if not more[0]:
            for load in self.loads:
                assert set(load.outcomes) == {200} and not load.wrong, (load.outcomes, load.wrong)

    def found(self):
        return sum(s.metric("sluice_store_answers_total", outcome="found") for s in self.sluices)

    def answered(self, n=300):
        """Requests go on."""
        for load in self.loads:
            load.wait(n)

    def hits(self, seconds=10):
        """What one has stored the other finds, from now on."""
        before = self.found()
        wait_for(lambda: self.found() > before + 10, seconds, "hits")


def test_it_goes_and_comes_back_under_load(start):
    """Killed, stopped in its tracks, emptied, out of memory, a replica of itself: the requests do not notice."""
    with Redis() as redis, Pair(start, f'redis = "redis://127.0.0.1:{redis.port}"') as pair:
        first = pair.sluices[0]
        redis.stop()
        wait_state(first, "down")
        pair.answered()
        redis.start()
        wait_state(first, "up")
        pair.hits()
        redis.pause()
        first.wait_event("store_rests", why="its answers come late")
        pair.answered()
        redis.go_on()
        pair.hits()
        redis.command("FLUSHALL")
        pair.hits()
        redis.command("CONFIG", "SET", "maxmemory", "1")
        not_told = lambda: first.metric("sluice_store_answers_total", outcome="not_told")  # noqa: E731
        before = not_told()
        wait_for(lambda: not_told() > before, 10, "writes are refused")
        pair.answered()
        redis.command("CONFIG", "SET", "maxmemory", "0")
        pair.hits()
        redis.command("REPLICAOF", "127.0.0.1", "1")
        pair.answered()
        redis.command("REPLICAOF", "NO", "ONE")
        pair.hits()
        redis.command("CLIENT", "KILL", "TYPE", "normal")
        pair.hits()


def test_sentinels_fail_over_under_load(start):
    with Sentinels() as group:
        named = ", ".join(f'"127.0.0.1:{s.port}"' for s in group.sentinels)
        with Pair(start, f"sentinels = {{{named}}} master = {group.name}") as pair:
            group.master.stop()
            wait_for(lambda: group.master_port() == group.replica.port, 30, "the replica is the master")
            pair.hits()


def test_a_cluster_moves_slots_and_loses_a_node_under_load(start):
    with Cluster() as cluster:
        source_, target = cluster.servers[0], cluster.servers[1]
        with Pair(start, f'cluster = {{"127.0.0.1:{source_.port}"}}') as pair:
            for slot in range(0, 300, 10):
                cluster.move(slot, source_, target)
            pair.hits()
            target.stop()
            pair.answered()
            target.start()
            wait_for(cluster.agree, 30, "the cluster is whole")
            pair.hits()


# ---- one server ----------------------------------------------------------------------------------------


def test_a_server_goes_and_comes_back(start):
    with Redis() as redis:
        sluice = start(f'redis = "redis://localhost:{redis.port}/1" timeout = 5s')
        wait_state(sluice, "up")
        assert "store: up, up on 2 of 2 loops\n" in ask(sluice, "status").out
        assert sluice.metric("sluice_store_loops", state="up") == 2
        sluice.wait_event("store_up", deployment="default")
        redis.stop()
        sluice.wait_event("store_down")
        wait_state(sluice, "down", "Connection refused")
        assert "store: down, up on 0 of 2 loops: Connection refused\n" in ask(sluice, "status").out
        assert infer(sluice) == 200
        redis.start()
        wait_state(sluice, "up")
        sluice.wait_event("store_up", count=2)
        assert sluice.metric("sluice_store_connects_total") == 4
        assert len(sluice.find("store_down")) == 1  # once, however often it was tried


def test_nobody_is_there_from_the_start(start):
    with Redis() as redis:
        redis.stop()
        sluice = start(f'redis = "redis://127.0.0.1:{redis.port}"')
        assert infer(sluice) == 200
        sluice.wait_event("store_down", why="Connection refused")
        redis.start()
        wait_state(sluice, "up")


def test_a_name_that_is_none(start):
    sluice = start('redis = "redis://no-such-host.invalid"')
    wait_for(lambda: all(s["why"] for s in stores(sluice)), 20, "why it is down")
    assert infer(sluice) == 200


def test_a_unix_socket(start, tmp_path):
    path = tmp_path / "redis.sock"
    with Redis("--unixsocket", str(path)):
        sluice = start(f'redis = "unix:{path}"')
        wait_state(sluice, "up")


def test_what_is_no_redis(start, worker):
    sluice = start(f'redis = "redis://127.0.0.1:{worker.port}"')
    wait_for(lambda: all(s["why"] for s in stores(sluice)), 20, "why it is down")
    assert infer(sluice) == 200


def test_who_may_enter(start, tmp_path):
    """A user of an access control list with no more than is needed; a password that changes under us."""
    (tmp_path / "password").write_text("open sesame\n")
    with Redis() as redis:
        assert redis.command("ACL", "SETUSER", "gw", "on", ">open sesame", "~sluice:*", "+get", "+set", "+hgetall", "+hset") == "OK"
        assert redis.command("CONFIG", "SET", "requirepass", "of all others") == "OK"
        redis.password = "of all others"
        sluice = start(f'redis = "redis://127.0.0.1:{redis.port}" user = gw password_file = "{tmp_path}/password"')
        wait_state(sluice, "up")
        # A reload reads the file again, and the store is let in no more.
        (tmp_path / "password").write_text("open, please\n")
        reload(sluice)
        wait_state(sluice, "down", "WRONGPASS")
        assert infer(sluice) == 200
        (tmp_path / "password").write_text("open sesame\n")
        reload(sluice)
        wait_state(sluice, "up")
        change(sluice, ("user = gw", ""))
        reload(sluice)  # the same password for the default user
        wait_state(sluice, "down", "WRONGPASS")
        assert infer(sluice) == 200


def speaks_tls(config):
    """Whether this build can; one that cannot says so, with the line."""
    said = subprocess.run([SLUICE, "-t", "-c", config], capture_output=True, text=True)
    if said.returncode == 0:
        return True
    last = config.read_text().count("\n")
    assert f"gateway.conf:{last}: redis: this build's hiredis speaks no TLS" in said.stdout + said.stderr
    return False


def test_tls(start, tmp_path):
    """hiredis 1.0 and later can; the others say that they cannot. A certificate of somebody else is refused."""
    cert, key = certificate(tmp_path / "pki")
    stranger, _ = certificate(tmp_path / "other")
    port = free_port()
    with Redis("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no"):
        store = f'redis = "rediss://localhost:{port}" ca = "{cert}" timeout = 5s'
        config = configuration(tmp_path / "try")
        config.write_text(config.read_text() + f"store {{ {store} }}\n")
        if not speaks_tls(config):
            return
        first, second = start(store), start(store)
        ready(first), ready(second)
        assert sources(first) == ["model"] * 6
        wait_for(lambda: told(first) == 6, 10, "six are stored")
        assert sources(second) == ["cache"] * 6
        change(second, (f'ca = "{cert}"', f'ca = "{stranger}"'))
        reload(second)
        wait_state(second, "down", "certificate verify failed")
        assert infer(second) == 200


def test_files_that_are_missing_are_said(start, tmp_path):
    (tmp_path / "password").write_text("open sesame\n")
    with Redis() as redis:
        sluice = start(f'redis = "redis://127.0.0.1:{redis.port}" timeout = 25ms')
        wait_state(sluice, "up")
        change(sluice, ("timeout = 25ms", f'password_file = "{tmp_path}/nowhere"'))
        assert_refused(sluice, "gateway.conf: store: ", "nowhere: No such file or directory")
        (tmp_path / "nowhere").write_text("\n")
        assert_refused(sluice, "expected a password of 1 to 1024 bytes in its first line")
        change(sluice, (f'password_file = "{tmp_path}/nowhere"', "sentinels = {a:1} master = m"))
        assert_refused(sluice, "store: expected only one of redis, sentinels and cluster")
        wait_state(sluice, "up")


def test_a_reload_changes_where_it_is(start):
    with Redis() as first, Redis() as second:
        sluice = start(patient(first))
        wait_state(sluice, "up")
        change(sluice, (str(first.port), str(second.port)))
        assert "store: redis: was " in reload(sluice)
        wait_for(lambda: f":{second.port}" in stores(sluice)[0]["connections"][0]["address"], 10, "the second one")
        wait_state(sluice, "up")
        connects = sluice.metric("sluice_store_connects_total")
        reload(sluice)  # nothing has changed: nothing is connected to anew
        assert infer(sluice) == 200
        assert sluice.metric("sluice_store_connects_total") == connects
        change(sluice, (f"store {{ {patient(second)} }}", ""))
        assert reload(sluice) == "store: removed"
        wait_state(sluice, "none")
        assert "store:" not in ask(sluice, "status").out
        assert "sluice_store" not in str(sluice.metrics())


# ---- behind Sentinels ----------------------------------------------------------------------------------


def test_sentinels_name_another_master(start):
    with Sentinels() as group:
        named = ", ".join(f'"127.0.0.1:{s.port}"' for s in group.sentinels)
        sluice = start(f"sentinels = {{{named}}} master = {group.name}")
        wait_state(sluice, "up")
        assert f":{group.master.port}" in stores(sluice)[0]["connections"][0]["address"]
        group.master.stop(signal.SIGKILL)
        group.sentinels[0].stop()  # and the one that we had asked; two agree all the same
        wait_for(lambda: group.master_port() == group.replica.port, 30, "the replica is the master")
        wait_for(lambda: f":{group.replica.port}" in stores(sluice)[0]["connections"][0]["address"], 10, "followed")
        wait_state(sluice, "up")
        assert infer(sluice) == 200


def test_sentinels_that_do_not_know_it(start):
    with Sentinels() as group:
        sluice = start(f'sentinels = {{"127.0.0.1:{group.sentinels[0].port}"}} master = other')
        wait_state(sluice, "down", "a Sentinel knows no master of that name")
        assert infer(sluice) == 200


# ---- a Cluster -----------------------------------------------------------------------------------------


def test_a_cluster_is_found_by_one_of_its_nodes(start):
    with Cluster() as cluster:
        sluice = start(f'cluster = {{"127.0.0.1:{cluster.servers[1].port}"}}')
        ports = sorted(s.port for s in cluster.servers)
        seen = lambda: [sorted((int(c["address"].rsplit(":", 1)[1]), c["state"]) for c in s["connections"]) for s in stores(sluice)]
        wait_for(lambda: seen() == [[(p, "up") for p in ports]] * 2, 20, "three nodes on both loops")
        cluster.servers[0].stop()
        wait_for(lambda: sum(c["state"] != "up" for s in stores(sluice) for c in s["connections"]) == 2, 10, "one is away")
        assert infer(sluice) == 200
        cluster.servers[0].start()
        wait_for(lambda: seen() == [[(p, "up") for p in ports]] * 2, 20, "three nodes again")
