"""sluicectl log from every kind of Redis that a gateway's store may be: it asks who has the streams, goes on behind what it had
when that is another one, and says what is wrong. Real servers."""
import contextlib
import json
import signal
import subprocess

import pytest
from harness import Sluice, configuration, free_port, wait_for
from redis_servers import Cluster, Redis, Sentinels
from test_ctl import CTL, UNANSWERED, run
from test_ctl_log import lines
from test_predictions import ask
from test_prediction_streams import LOG, requests
from test_tls import certificate


def key(n):
    return f"sluice:default:predictions:gw:{n}"


def put(servers, n, ms):
    """A record, at whichever of them has its stream."""
    record = json.dumps({"record": f"{ms}-0", "instance": "gw", "loop": n, "id": f"{n}:{ms}", "time": "2026-01-01T00:00:00.000000Z"})
    said = [s.command("XADD", key(n), f"{ms}-0", "record", record) for s in servers if s.process]
    assert said.count(f"{ms}-0") == 1, said


def fill(redis, sizes):
    """Records whose ids have these sizes."""
    record = """'{"loop":0,"record":"' .. i .. '","id":"' .. string.rep('x', n) .. '"}'"""
    script = f"for i, n in ipairs(ARGV) do redis.call('XADD', KEYS[1], i .. '-0', 'record', {record}) end"
    assert redis.command("EVAL", script, 1, key(0), *sizes) == ""


def named(records):
    return sorted((r["loop"], r["record"]) for r in records)


@contextlib.contextmanager
def tail(directory, *words):
    """What it prints and what it says, as often as they are asked for. From the beginning, so that it does not matter when it looks."""
    out, err = directory / "tail.out", directory / "tail.err"
    with out.open("w") as o, err.open("w") as e:
        process = subprocess.Popen([CTL, "log", "tail", "--since", "2000-01-01", *words], stdin=subprocess.DEVNULL, stdout=o, stderr=e)
    printed = lambda: [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    try:
        yield printed, err.read_text
        assert process.poll() is None, err.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


# ---- a server alone ------------------------------------------------------------------------------------


def test_a_user_with_no_more_than_is_needed(tmp_path):
    """As predictions.md has it; the password from the environment, from a file, from the gateway's own configuration."""
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "wrong").write_text("open, please\n")
    with Redis() as redis:
        put([redis], 0, 1)
        for user, rights in (("reader", ["+scan", "+xrange", "+xrevrange", "+ping", "+select"]), ("guest", ["+ping", "+select", "+xrange"])):
            assert redis.command("ACL", "SETUSER", user, "on", ">open sesame", "~sluice:*", *rights) == "OK"
        assert redis.command("CONFIG", "SET", "requirepass", "of all others") == "OK"
        place = f"redis://reader@127.0.0.1:{redis.port}/0"
        wanted = [(0, "1-0")]
        assert named(lines(run("log", "export", place, SLUICE_REDIS_PASSWORD="open sesame"))) == wanted
        assert named(lines(run("log", "export", place, "--password-file", tmp_path / "password", SLUICE_REDIS_PASSWORD="no"))) == wanted
        assert "WRONGPASS" in run("log", "export", place, "--password-file", tmp_path / "wrong").err
        assert "nowhere: No such file" in run("log", "export", place, "--password-file", tmp_path / "nowhere").err
        assert "user reader: expected a password" in run("log", "export", place).err
        said = run("log", "export", place.replace("reader", "guest"), SLUICE_REDIS_PASSWORD="open sesame")
        assert said.status == UNANSWERED and "NOPERM" in said.err and "scan" in said.err
        store = f'redis = "redis://127.0.0.1:{redis.port}" user = reader password_file = "{tmp_path}/password"'
        config = configuration(tmp_path, top=f"store {{ {store} }} predictions {{ redis = true }}")
        assert named(lines(run("log", "export", "--config", config))) == wanted
        assert lines(run("log", "export", "--config", config, "--deployment", "other")) == []
        assert "WRONGPASS" in run("log", "export", "--config", config, "--password-file", tmp_path / "wrong").err


def test_pages_have_the_size_that_their_records_allow(tmp_path):
    """Answers are bounded; records of every size come all, in their order."""
    with Redis() as redis:
        sizes = [10] * 300 + [1 << 20] * 40 + [10] * 300
        fill(redis, sizes)
        found = lines(run("log", "export", f"redis://127.0.0.1:{redis.port}", "--timeout", "60"))
        assert [(r["record"], len(r["id"])) for r in found] == [(str(i), n) for i, n in enumerate(sizes, 1)]


def test_a_server_that_ends_and_begins_again(tmp_path):
    with Redis("--appendonly", "yes", "--appendfsync", "always") as redis, tail(tmp_path, f"redis://127.0.0.1:{redis.port}") as (printed, said):
        put([redis], 0, 1)
        wait_for(lambda: named(printed()) == [(0, "1-0")], what="the first")
        redis.stop()
        wait_for(lambda: "; trying again" in said(), what="it is missed")
        redis.start()
        put([redis], 0, 2)
        put([redis], 1, 1)  # a stream that is new
        wait_for(lambda: len(printed()) == 3, 30, "three")
        assert named(printed()) == [(0, "1-0"), (0, "2-0"), (1, "1-0")]


# ---- Sentinels -----------------------------------------------------------------------------------------


def test_sentinels_name_another_master_while_it_tails(tmp_path):
    """What the gateway writes before, while and after the replica takes over is printed, and nothing twice."""
    with Sentinels() as group:
        hosts = [f"127.0.0.1:{s.port}" for s in group.sentinels]
        store = "sentinels = {%s} master = %s" % (", ".join(f'"{h}"' for h in hosts), group.name)
        config = configuration(tmp_path, top=f'state_dir = "{tmp_path}/state" store {{ {store} }} predictions {{ {LOG} }}')
        place = f"sentinel://{','.join(hosts)}/{group.name}"
        with Sluice(config) as sluice, tail(tmp_path, place) as (printed, said):
            seen = lambda: sorted(r["id"] for r in printed())
            names = [f"r{i:03}" for i in range(60)]
            for name in names[:20]:
                assert ask(sluice, name)[0] == 200
            wait_for(lambda: seen() == names[:20] and requests(group.replica) == names[:20], 30, "printed, and replicated")
            group.master.stop()
            for name in names[20:40]:
                assert ask(sluice, name)[0] == 200
            wait_for(lambda: group.master_port() == group.replica.port, 30, "the replica is the master")
            for name in names[40:]:
                assert ask(sluice, name)[0] == 200
            wait_for(lambda: len(seen()) >= len(names), 30, "all of them")
            assert seen() == names
            assert "; trying again" in said()
        assert sorted(r["id"] for r in lines(run("log", "export", place))) == names
        assert sorted(r["id"] for r in lines(run("log", "export", "--config", config))) == names
        said = run("log", "export", place + "other", "--timeout", "1")
        assert said.status == UNANSWERED and "a Sentinel knows no master of that name" in said.err


# ---- a Cluster -----------------------------------------------------------------------------------------


def owner(cluster, n):
    return next(s for s in cluster.servers if s.process and not s.command("XLEN", key(n)).startswith("MOVED"))


def test_streams_of_a_cluster(tmp_path):
    """Each lies at one node. Slots move, a node goes and comes back empty: what is there is printed, and nothing twice."""
    with Cluster() as cluster:
        place = f"cluster://127.0.0.1:{cluster.servers[1].port}"
        streams = range(12)
        wanted = [(n, f"{ms}-0") for n in streams for ms in (1, 2)]
        for n, ms in [(n, ms) for n in streams for ms in (1, 2)]:
            put(cluster.servers, n, ms)
        assert len({owner(cluster, n).port for n in streams}) == 3
        assert named(lines(run("log", "export", place))) == wanted
        own = named(lines(run("log", "export", place.replace("cluster:", "redis:"))))  # that server alone
        assert own == [(n, record) for n, record in wanted if owner(cluster, n) is cluster.servers[1]]
        with tail(tmp_path, place) as (printed, told):
            wait_for(lambda: named(printed()) == wanted, what="what was there")
            source, target = owner(cluster, 0), next(s for s in cluster.servers if s is not owner(cluster, 0))
            cluster.move(int(source.command("CLUSTER", "KEYSLOT", key(0))), source, target)
            put(cluster.servers, 0, 3)
            wanted.append((0, "3-0"))
            wait_for(lambda: named(printed()) == sorted(wanted), what="what came after the move")
            assert source.command("CONFIG", "SET", "cluster-require-full-coverage", "no") == "OK"
            others = [s for s in cluster.servers if s is not source]
            for s in others:
                assert s.command("CONFIG", "SET", "cluster-require-full-coverage", "no") == "OK"
            kept = next(n for n in streams if owner(cluster, n) in others)
            lost = next(n for n in streams if owner(cluster, n) is source)
            source.stop()
            wait_for(lambda: "; trying again" in told(), 30, "it is missed")
            put(others, kept, 4)  # the others' go on
            wanted.append((kept, "4-0"))
            wait_for(lambda: named(printed()) == sorted(wanted), 30, "what came meanwhile")
            source.start()
            wait_for(cluster.agree, 30, "the Cluster is whole")
            put(cluster.servers, lost, 5)
            wanted.append((lost, "5-0"))
            wait_for(lambda: len(printed()) >= len(wanted), 30, "what came after it was back")
            assert named(printed()) == sorted(wanted)


def test_what_is_no_cluster():
    with Redis() as redis:
        said = run("log", "export", f"cluster://127.0.0.1:{redis.port}", "--timeout", "1")
        assert said.status == UNANSWERED and "is it a Cluster's?" in said.err


# ---- where it lies, and what is wrong with that --------------------------------------------------------


def speaks_tls():
    said = run("log", "export", "rediss://127.0.0.1:1")
    assert said.status == UNANSWERED
    return "this build's hiredis speaks no TLS" not in said.err


def test_tls(tmp_path):
    """The server shows a certificate, and asks for one. Somebody else's is refused. A build that cannot says so."""
    if not speaks_tls():
        assert "speaks no TLS" in run("log", "export", "--tls", "cluster://127.0.0.1:1").err
        return
    cert, cert_key = certificate(tmp_path / "pki")
    stranger, stranger_key = certificate(tmp_path / "other")
    port = free_port()
    files = ["--tls-cert-file", cert, "--tls-key-file", cert_key, "--tls-ca-cert-file", cert]
    with Redis("--tls-port", str(port), *map(str, files)) as redis:
        put([redis], 0, 1)
        shown = ["--ca-file", cert, "--cert-file", cert, "--key-file", cert_key]
        for place, more in ((f"rediss://localhost:{port}", []), (f"redis://127.0.0.1:{port}", ["--tls"])):
            assert named(lines(run("log", "export", place, *shown, *more))) == [(0, "1-0")]
            assert "certificate verify failed" in run("log", "export", place, *shown, *more, "--ca-file", stranger).err
        for wrong in (shown[:2], [*shown[:2], "--cert-file", stranger, "--key-file", stranger_key]):
            said = run("log", "export", f"rediss://localhost:{port}", *wrong)
            assert said.status == UNANSWERED and said.out == ""
        assert "does not fit the certificate" in run("log", "export", place, *shown, "--tls", "--key-file", stranger_key).err
        store = f'redis = "rediss://localhost:{port}" ca = "{cert}" certificate = "{cert}" key = "{cert_key}"'
        with Sluice(configuration(tmp_path, top=f"store {{ {store} }} predictions {{ {LOG} }}")) as sluice:
            assert ask(sluice, "r1")[0] == 200
            wait_for(lambda: requests(redis) == ["0:1", "r1"], what="the gateway is let in, too")
            assert sorted(r["id"] for r in lines(run("log", "export", "--config", sluice.config))) == ["0:1", "r1"]


def test_which_of_them_a_configuration_means(tmp_path):
    """Of both kinds the streams; without either there is no log."""
    (tmp_path / "p").mkdir()
    with Redis() as redis:
        put([redis], 0, 1)
        store = f'store {{ redis = "redis://127.0.0.1:{redis.port}" }}'
        config = configuration(tmp_path, top=f'{store} predictions {{ redis = true file = "{tmp_path}/p" }}')
        assert named(lines(run("log", "export", "--config", config))) == [(0, "1-0")]
        config = configuration(tmp_path, top=f'{store} predictions {{ file = "{tmp_path}/p" }}')
        assert lines(run("log", "export", "--config", config)) == []
    assert "go with a Redis" in run("log", "export", "--config", config, "--tls").err
    said = run("log", "export", "--config", configuration(tmp_path))
    assert said.status == UNANSWERED and "keeps no prediction log" in said.err
    config.write_text(config.read_text() + "nonsense = 1\n")
    said = run("log", "export", "--config", config)
    assert said.status == UNANSWERED and f"{config}:" in said.err and "nonsense" in said.err
    assert "nowhere.conf: No such file" in run("log", "export", "--config", tmp_path / "nowhere.conf").err


@pytest.mark.parametrize(
    "words, why",
    [
        (["redis://127.0.0.1:0"], "expected a port from 1 to 65535"),
        (["redis://127.0.0.1:65536"], "expected a port from 1 to 65535"),
        (["redis://127.0.0.1:x"], '"127.0.0.1:x": expected HOST[:PORT]'),
        (["redis://::1:6379"], "an IPv6 address stands in brackets"),
        (["redis://[::1]:1"], "redis: "),
        (["redis://127.0.0.1/x"], "expected the number of a database"),
        (["http://127.0.0.1"], "expected redis://, rediss://"),
        (["sentinel://127.0.0.1:1"], "expected /MASTER behind the Sentinels"),
        (["redis://u:pw@127.0.0.1:1"], "no password stands in a place"),
        (["redis://127.0.0.1:1", "--ca-file", "x"], "--ca-file goes with --tls or rediss://"),
        (["rediss://127.0.0.1:1", "--cert-file", "x"], "--cert-file and --key-file go together"),
        (["redis://127.0.0.1:1", "--deployment", "a*"], "--deployment of 1 to 64"),
        (["unix:/nowhere", "--tls"], "--tls: not over a Unix socket"),
        (["a", "--config", "b"], "no place, which --config has"),
        (["--config", "b", "--tls", "c"], "no place, which --config has"),
        (["/tmp", "--password-file", "x"], "go with a Redis, not with a directory"),
        (["cluster://127.0.0.1:1", "--timeout", "0.1"], "redis: Connection refused"),
        (["sentinel://127.0.0.1:1/m", "--timeout", "0.1"], "redis: Connection refused"),
    ],
)
def test_what_is_wrong_is_said(words, why):
    said = run("log", "export", *words)
    assert said.status == UNANSWERED and said.out == "" and why in said.err, said.err


def test_archives_are_directories():
    assert "no --config" in run("log", "archive", "--config", "x").err
    assert "a directory behind it" in run("log", "archive").err
    assert "belong to log" in run("status", "--tls").err


def test_who_wants_no_more_ends_it():
    """As other programs do: more than a pipe holds, and nobody who reads it."""
    with Redis() as redis:
        fill(redis, [10000] * 200)
        script = f"{CTL} log export redis://127.0.0.1:{redis.port} | head -c 1; echo -n ' '${{PIPESTATUS[0]}}"
        said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
        assert (said.stdout, said.stderr) == ("{ 141", "")
