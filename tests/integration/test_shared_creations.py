"""Experiments that are created where gateways share a store: what one creates or deletes is everybody's, whatever becomes of the
store, and what is stored is not believed."""
import signal
import socket

import pytest
from harness import Sluice, Worker, configuration, wait_for
from redis_servers import Redis
from test_creations import HALVES, SIZE, create, created, delete, names, variants
from test_reload import reload
from test_trials import USERS, act, admin, draws, shown

KEY = "sluice:default:exp-created"
PLAIN = 'model "digits" {} model "digits-small" {}'


@pytest.fixture(scope="module")
def worker():
    with Worker() as w:
        yield w


@pytest.fixture
def start(tmp_path, worker):
    running = []

    def run(redis, state=None, models=PLAIN, store=True):
        top = f'state_dir = "{tmp_path / state}"' if state else ""
        config = configuration(tmp_path / str(len(running)), addresses=[f"grpc://127.0.0.1:{worker.port}"], models=models, top=top)
        if store:
            config.write_text(config.read_text() + f'store {{ redis = "redis://127.0.0.1:{redis.port}" timeout = 1s }}\n')
        running.append(Sluice(config, wait_models=("digits", "digits-small")))
        wait_for(lambda: not store or running[-1].status_page()["experiments_store"]["state"] == "up", 20, "the store is heard")
        return running[-1]

    yield run
    for sluice in running:
        if sluice.process.poll() is None:
            sluice.stop()
        sluice.assert_clean()


@pytest.fixture
def redis():
    server = Redis()
    yield server
    server.stop()


def part(name, first, to, layer="people"):
    return f'experiment "{name}" {{ model = "digits" layer = "{layer}" from = {first}% to = {to}% {HALVES} }}'


def hset(redis, field, value):
    with socket.create_connection(("127.0.0.1", redis.port), 10) as s:
        words = [b"HSET", KEY.encode(), field.encode(), value.encode()]
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        assert s.recv(100)[:1] == b":"


def all_have(gateways, *expected):
    for g in gateways:
        wait_for(lambda g=g: sorted(names(g)) == sorted(expected), 20, f"{expected}")


def all_settled(gateways, name="size", **what):
    at = lambda g: {k: shown(g, name)[k] for k in [*what, "kept"]}
    for g in gateways:
        wait_for(lambda g=g: at(g) == {**what, "kept": True}, 20, f"{what}")


def test_what_one_creates_all_have(start, redis):
    a, b = start(redis), start(redis)
    assert names(a) == names(b) == []
    created(a, why="ours")
    all_have([a, b], "size")
    all_settled([a, b], status="draft", revision=1, who="127.0.0.1", why="ours", created=True)
    assert b.wait_event("experiment_created")["experiment"] == "size"
    act(b, "resume")
    all_settled([a, b], status="running", revision=2)
    drawn = variants(a)
    assert set(drawn.values()) == {"control", "treatment"} and variants(b) == drawn
    # another one of that name, at the other gateway
    answer = create(b)
    assert answer.status_code == 409 and "it was created" in answer.json()["error"]
    # one that comes later has it, and its state
    c = start(redis)
    all_have([c], "size")
    all_settled([c], status="running", revision=2)
    assert variants(c) == drawn
    answer = delete(b)
    assert answer.status_code == 409 and "it is running" in answer.json()["error"]
    assert delete(b, running=True, why="over").json() == {"deleted": "size"}
    all_have([a, b, c])
    assert a.wait_event("experiment_deleted")["experiment"] == "size"
    # and again: it counts and draws anew, whatever became of the one before it
    created(c, start=True)
    all_have([a, b, c], "size")
    all_settled([a, b, c], status="running")
    assert variants(b) == drawn


def test_two_operators_create_one_name(start, redis):
    a, b = start(redis), start(redis)
    taken = "# sluice 1 size 00000000000000ab 1700000000000000 draft shared other\n# theirs\n" + SIZE
    redis.command("HSET", KEY, "size", taken)  # as another gateway does, between b's look and its change; nobody is told
    answer = create(b, SIZE.replace("by hand", "by b"))
    assert answer.status_code == 409 and "created at another gateway meanwhile" in answer.json()["error"], answer.text
    assert names(b) == []
    redis.command("HINCRBY", KEY, "#", 1)
    all_have([a, b], "size")
    assert shown(a)["who"] == shown(b)["who"] == "other"
    # deleted and created again meanwhile: it is another one
    redis.command("HSET", KEY, "size", taken.replace("00ab", "00ac").replace("other", "third"))
    answer = delete(a)
    assert answer.status_code == 409, answer.text
    redis.command("HINCRBY", KEY, "#", 1)
    for g in (a, b):
        wait_for(lambda g=g: names(g) == ["size"] and shown(g)["who"] == "third", 20, "the third one")
    assert delete(a).status_code == 200
    all_have([a, b])


def test_the_store_is_away_comes_back_and_goes_back(start, redis):
    a, b = start(redis, state="a"), start(redis)
    created(a, start=True)
    all_have([a, b], "size")
    all_settled([a, b], status="running")
    redis.stop()
    wait_for(lambda: a.status_page()["experiments_store"]["state"] != "up", 20, "it is away")
    answer = create(a, SIZE.replace('"size"', '"other"'))
    assert answer.status_code in (400, 503)  # the model has one already, or nobody answers
    answer = delete(a, running=True)
    assert answer.status_code == 503 and "store: " in answer.json()["error"]
    assert names(a) == names(b) == ["size"]
    assert set(variants(a).values()) == {"control", "treatment"}
    # it comes back with nothing: who knows what there was writes it there again
    redis.start()
    wait_for(lambda: "size" in redis.command("HKEYS", KEY), 60, "it is there again")
    for g in (a, b):
        wait_for(lambda g=g: g.status_page()["experiments_store"]["state"] == "up", 60, "it is heard again")
    all_have([a, b], "size")
    all_settled([a, b], status="running")
    assert delete(b, running=True).status_code == 200
    all_have([a, b])


def test_a_copy_is_there_before_the_store_is_heard(start, redis, tmp_path):
    a = start(redis, state="a")
    created(a, start=True)
    all_settled([a], status="running")
    assert " start shared " in (tmp_path / "a" / "experiments" / "size.conf").read_text()
    a.stop()
    redis.stop(signal.SIGKILL)
    config = a.config
    with Sluice(config, wait_models=("digits", "digits-small")) as again:
        assert names(again) == ["size"] and shown(again)["status"] == "running"
        redis.start()  # with nothing
        wait_for(lambda: "size" in redis.command("HKEYS", KEY), 60, "it is there again")
        assert names(again) == ["size"]
        again.stop()
    # deleted while that instance was away
    redis.command("HDEL", KEY, "size")
    redis.command("HINCRBY", KEY, "#", 1)
    with Sluice(config, wait_models=("digits", "digits-small")) as again:
        all_have([again])
        assert not (tmp_path / "a" / "experiments" / "size.conf").exists()
        again.stop()


def test_what_was_created_before_there_was_a_store_is_everybodys(start, redis):
    a, b = start(redis, state="a", store=False), start(redis)
    created(a, start=True)
    a.config.write_text(a.config.read_text() + f'store {{ redis = "redis://127.0.0.1:{redis.port}" timeout = 1s }}\n')
    reload(a)
    all_have([a, b], "size")
    all_settled([a, b], status="running")
    assert variants(a) == variants(b)


def test_what_is_stored_is_not_believed(start, redis):
    layer = 'layer "people" { key = "header:x-user" }'
    head = lambda name, mark: f"# sluice 1 {name} {mark:016x} 1700000000000000 start shared x\n# y\n"
    rows = {
        "garbage": "garbage",
        "empty": head("empty", 1),
        "other": head("another", 2) + part("another", 0, 10),
        "badmark": head("badmark", 0) + part("badmark", 0, 10),
        "secret": head("secret", 3) + part("secret", 0, 10).replace("{ model", '{ force_key_file = "/etc/shadow" model', 1),
        "nolayer": head("nolayer", 4) + part("nolayer", 0, 10, "nobody"),
        "../x": head("../x", 5) + part("../x", 0, 10),
        "long": head("long", 6) + "#" * 70000,
    }
    for name, text in rows.items():
        hset(redis, name, text)
    hset(redis, "good", head("good", 7) + part("good", 50, 60))
    redis.command("HSET", KEY, "#", "not a number")
    a = start(redis, models=PLAIN + layer)
    assert names(a) == []
    redis.command("HSET", KEY, "#", 3)
    all_have([a], "good")
    for name in ("garbage", "empty", "other", "badmark", "../x", "long"):
        a.wait_event("experiment_not_taken", experiment=name)
    out = {e["name"]: e["why"] for e in admin(a, "").json()["kept_out"]}
    assert set(out) == {"secret", "nolayer"} and "force_key_file" in out["secret"]
    assert set(model for _, model in draws(a, USERS).values()) <= {"digits", "digits-small"}
    # more than may be: they are refused by name, and those that are here stay
    for n in range(300):
        hset(redis, f"many{n}", head(f"many{n}", 100 + n) + part(f"many{n}", 0, 1, "nobody"))
    redis.command("HINCRBY", KEY, "#", 1)
    a.wait_event("experiment_not_taken", why="more than 256 are stored as created")
    assert names(a) == ["good"]
    answer = create(a, part("mine", 80, 90))
    assert answer.status_code == 503 and "at most 256" in answer.json()["error"]
    redis.command("DEL", KEY)
    redis.command("SET", KEY, "no hash")
    assert create(a, part("mine", 80, 90)).status_code == 503
    assert names(a) == ["good"]
