"""Experiments whose state is in a store that gateways share, on real servers: a change is everybody's, counts add up, whoever is
killed and wherever the store has been meanwhile; and what is in the store is not believed."""
import json
import os
import signal
import threading

import httpx
import pytest
from harness import Sluice, Worker, configuration, wait_for
from redis_servers import Cluster, Redis, Sentinels
from test_chains import only
from test_experiments import ROW
from test_reload import TOKEN, change, reload

KEY = "sluice:default:exp:{size}"
SECTION = """experiment "size" { model = "digits" key = "header:x-user"
  variant "control" { model = "digits" weight = 90% } variant "treatment" { model = "digits-small" weight = 10% } }
"""
HALF = SECTION.replace("90%", "50%").replace("10%", "50%")
DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]
CLIENT = httpx.Client(timeout=20)


@pytest.fixture(scope="module")
def worker():
    with Worker() as w:
        yield w


@pytest.fixture
def start(tmp_path, worker):
    running = []

    def run(store, section=SECTION, **more):
        config = configuration(tmp_path / str(len(running)), addresses=[f"grpc://127.0.0.1:{worker.port}"], models=section, **more)
        config.write_text(config.read_text() + f"store {{ {store} }}\n")
        running.append(Sluice(config, wait_models=("digits", "digits-small")))
        return running[-1]

    yield run
    for sluice in running:
        sluice.stop()
        sluice.assert_clean()


def alone(redis):
    return f'redis = "redis://127.0.0.1:{redis.port}" timeout = 1s'


def show(sluice):
    answer = CLIENT.get(f"http://127.0.0.1:{sluice.admin_port}/v1/experiments/size", headers=TOKEN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tell(sluice, verb, **body):
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/experiments/size/{verb}"
    return CLIENT.post(url, headers=TOKEN, content=json.dumps(body))


def weigh(sluice, ppm, **body):
    return tell(sluice, "weights", weights_ppm={"treatment": ppm}, **body)


def done(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def weight(sluice):
    return show(sluice)["variants"][1]["weight_ppm"]


def settled(sluices, **what):
    """All have that, and the store has it, too."""
    at = lambda s: {k: show(s)[k] for k in [*what, "kept"]}
    wait_for(lambda: all(at(s) == {**what, "kept": True} for s in sluices), 20, f"{what}: {[show(s) for s in sluices]}")


def record(redis):
    return json.loads(redis.raw(b"HGET", KEY.encode(), b"record"))


def shared(sluice):
    return sluice.status_page()["experiments_store"]


def infer(sluice, user):
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 64], "data": ROW}]}
    return CLIENT.post(f"{sluice.url}/v2/models/digits/infer", json=body, headers={"x-user": f"u{user}", "connection": "close"})


def predict(sluice, n, first=0):
    variants = []
    for k in range(first, first + n):
        answer = infer(sluice, k)
        assert answer.status_code == 200, answer.text
        variants.append(answer.headers["sluice-experiment"].split("/")[1])
    return variants


def reward(sluice, name, value, **whose):
    body = {"experiment": "size", "name": name, "value": value, **whose}
    answer = CLIENT.post(f"{sluice.url}/sluice/v1/feedback", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["variant"]


def rewards(sluice):
    """What it shows of the treatment's: how many, and their sum."""
    return {r["name"]: (r["posted"], r["sum"]) for r in show(sluice)["variants"][1]["rewards"]}


def counted(redis, since=1, field="requests"):
    values = [redis.command("HGET", f"{KEY}:c:{since}:{v}", field) for v in ("control", "treatment")]
    return sum(int(v or 0) for v in values)


def lives(redis):
    """Each life's last flush: (number, state)."""
    words = redis.command("HGETALL", f"{KEY}:flushed").split("\n")
    return {life: (int(said.split()[0]), said.split()[2]) for life, said in zip(words[::2], words[1::2])}


# ---- one state for all -----------------------------------------------------------------------------------


def test_a_change_is_everybodys(start):
    with Redis() as redis:
        three = [start(alone(redis)) for _ in range(3)]
        settled(three, revision=1, status="running")
        assert record(redis)["variants"] == [{"name": "control", "weight": 900000}, {"name": "treatment", "weight": 100000}]
        assert done(weigh(three[0], 500000, why="half"))["revision"] == 2
        settled(three, revision=2, why="half")
        drawn = predict(three[0], 40)
        assert 8 < drawn.count("treatment") < 32
        assert predict(three[1], 40) == drawn and predict(three[2], 40) == drawn
        assert done(tell(three[1], "promote", variant="treatment"))["status"] == "promoted"
        settled(three, revision=3, status="promoted")
        # Who comes later has it, too: what operators have changed wins, as the section is the same.
        late = start(alone(redis))
        settled([late], revision=3, status="promoted")
        # And it goes on without the store.
        redis.stop()
        wait_for(lambda: shared(late)["state"] == "down", 20, "the store is away")
        assert show(late)["status"] == "promoted" and show(three[0])["status"] == "promoted"


def test_two_operators_at_once(start):
    """One of them gets a conflict, with what is there."""
    with Redis() as redis:
        two = [start(alone(redis)), start(alone(redis))]
        settled(two, revision=1)
        for revision in range(1, 6):
            answers = [None, None]

            def say(i, revision=revision, answers=answers):
                answers[i] = httpx.post(
                    f"http://127.0.0.1:{two[i].admin_port}/v1/experiments/size/weights",
                    headers=TOKEN,
                    json={"revision": revision, "weights_ppm": {"treatment": 1000 * revision + i}},
                    timeout=20,
                )

            both = [threading.Thread(target=say, args=(i,)) for i in range(2)]
            for t in both:
                t.start()
            for t in both:
                t.join()
            assert sorted(a.status_code for a in answers) == [200, 409], [a.text for a in answers]
            winner, loser = sorted(answers, key=lambda a: a.status_code)
            won = winner.json()
            assert loser.json()["is"]["revision"] == revision + 1 == won["revision"]
            assert loser.json()["is"]["variants"][1]["weight_ppm"] == won["variants"][1]["weight_ppm"]
            settled(two, revision=revision + 1)
            assert weight(two[0]) == weight(two[1]) == won["variants"][1]["weight_ppm"]


def test_the_section_seeds(start):
    with Redis() as redis:
        first = start(alone(redis))
        settled([first], revision=1)
        done(weigh(first, 400000))
        # One that comes with another section makes it everybody's.
        second = start(alone(redis), section=SECTION.replace("90%", "80%").replace("10%", "20%"))
        settled([first, second], revision=3, who="gateway.conf")
        assert weight(first) == weight(second) == 200000
        # One with the older file takes what is there, and so does the first one when it reads its file again.
        third = start(alone(redis))
        settled([third], revision=3)
        assert weight(third) == 200000
        reload(first)
        done(weigh(first, 300000))
        settled([first, second, third], revision=4)
        # A file that changes under a gateway that runs counts, also where it changes back.
        change(second, ("80%", "90%"), ("20%", "10%"))
        reload(second)
        settled([first, second, third], revision=5, who="gateway.conf")
        assert weight(third) == 100000


def test_other_variants_are_not_taken(start):
    with Redis() as redis:
        first = start(alone(redis))
        settled([first], revision=1)
        second = start(alone(redis), section=SECTION.replace('"treatment"', '"better"'))
        settled([second], revision=2)
        first.wait_event("experiment_not_taken")
        assert show(first)["revision"] == 1 and weight(first) == 100000
        assert {v for v in predict(first, 30)} <= {"control", "treatment"}


def test_a_store_that_has_gone_back_is_fenced(start):
    with Redis() as redis:
        two = [start(alone(redis)), start(alone(redis))]
        settled(two, revision=1)
        done(weigh(two[0], 500000))
        settled(two, revision=2)
        before = [redis.raw(b"HGET", KEY.encode(), f) for f in (b"version", b"record")]
        done(tell(two[0], "promote", variant="treatment", why="it is better"))
        settled(two, revision=3, status="promoted")
        assert redis.command("HSET", KEY, "version", before[0].decode(), "record", before[1].decode()) == "0"
        wait_for(lambda: record(redis)["revision"] == 3 and record(redis)["epoch"] == 1, 20, "it is written again")
        settled(two, revision=3, status="promoted")
        fenced = wait_for(lambda: [e for s in two for e in s.find("experiment_fenced")], 20, "it is said")
        assert all(e["revision"] == 3 and e["stored"] == 2 for e in fenced)
        # All of it is gone.
        assert redis.command("FLUSHALL") == "OK"
        wait_for(lambda: redis.command("EXISTS", KEY) == "1", 20, "it is written again")
        assert record(redis)["status"] == "promoted"
        done(weigh(two[1], 600000))
        settled(two, revision=4, status="promoted")


# ---- the store goes and comes ------------------------------------------------------------------------------


def test_what_is_changed_without_the_store_is_everybodys_later(start):
    with Redis(*DURABLE) as redis:
        two = [start(alone(redis)), start(alone(redis))]
        settled(two, revision=1)
        redis.stop()
        wait_for(lambda: all(shared(s)["state"] == "down" for s in two), 20, "the store is away")
        said = done(tell(two[0], "rollback", why="it hurts"))
        assert said["status"] == "rolled_back" and said["kept"] is False
        assert CLIENT.get(f"http://127.0.0.1:{two[0].admin_port}/status", headers=TOKEN).json()["experiments"][0]["status"] == "rolled_back"
        assert show(two[1])["status"] == "running"
        redis.start()
        settled(two, revision=2, status="rolled_back", why="it hurts")
        assert not two[0].find("experiment_fenced")


@pytest.mark.slow
def test_a_failover_in_the_midst_of_a_promotion(start):
    with Sentinels() as group:
        addresses = ", ".join(f'"127.0.0.1:{s.port}"' for s in group.sentinels)
        store = f"sentinels = {{{addresses}}} master = mine timeout = 1s"
        two = [start(store), start(store)]
        settled(two, revision=1)
        done(weigh(two[0], 500000))
        settled(two, revision=2)
        # The replica hears nothing of the promotion; then the master dies with it.
        group.replica.pause()
        assert done(tell(two[0], "promote", variant="treatment"))["kept"] is True
        settled(two, revision=3, status="promoted")
        group.master.stop()
        group.replica.go_on()
        wait_for(lambda: group.master_port() == group.replica.port, 30, "the replica is the master")
        wait_for(lambda: all(shared(s)["state"] == "up" for s in two), 30, "they have found it")
        settled(two, revision=3, status="promoted")
        wait_for(lambda: record(group.replica)["status"] == "promoted", 20, "it is written there again")
        wait_for(lambda: [e for s in two for e in s.find("experiment_fenced")], 20, "it is said")


def test_a_cluster_has_each_experiment_in_one_place(start):
    with Cluster() as cluster:
        store = 'cluster = {"127.0.0.1:%d"} timeout = 1s' % cluster.servers[0].port
        other = SECTION.replace('"size"', '"other"').replace('model = "digits" key', 'model = "more" key')
        two = [start(store, section=SECTION + other), start(store, section=SECTION + other)]
        settled(two, revision=1)
        done(weigh(two[0], 500000))
        settled(two, revision=2)
        predict(two[1], 20)
        of = lambda f: sum(int(s.command("HGET", f"{KEY}:c:1:{v}", f) or 0) for s in cluster.servers for v in ("control", "treatment")
                           if "MOVED" not in s.command("HGET", f"{KEY}:c:1:{v}", f))
        wait_for(lambda: of("requests") == 20, 20, "they are counted")


# ---- counts ------------------------------------------------------------------------------------------------


def test_counts_add_up(start):
    with Redis() as redis:
        three = [start(alone(redis)) for _ in range(3)]
        settled(three, revision=1)
        for i, sluice in enumerate(three):
            predict(sluice, 30, first=100 * i)
        wait_for(lambda: counted(redis) == 90, 20, "all are counted")
        assert counted(redis, field="ended") == counted(redis, field="answers") == 90
        assert counted(redis, field="errors") == counted(redis, field="fallbacks") == 0
        # Each shows what all have counted.
        requests = lambda s: sum(v["requests"] for v in show(s)["variants"])
        wait_for(lambda: [requests(s) for s in three] == [90] * 3, 20, "each shows all")
        # Killed: what it has told is there, and that it was killed is said, by its next life at the latest.
        assert [state for _, state in lives(redis).values()] == ["open"] * 3
        os.kill(three[2].gateway_pid(), signal.SIGKILL)
        three[2].wait_event("gateway_started", count=2)
        lost = wait_for(lambda: [e for s in three for e in s.find("experiment_counts_lost")], 30, "it is said")
        assert len(lost) == 1 and lost[0]["experiment"] == "size", lost
        assert [state for _, state in lives(redis).values()].count("told") == 1
        three[2].wait_model("digits-small")
        predict(three[2], 20)
        predict(three[0], 20)
        wait_for(lambda: counted(redis) == 130, 20, "all are counted")
        # In its last second: no more than what came in that is missing.
        predict(three[1], 20)
        os.kill(three[1].gateway_pid(), signal.SIGKILL)
        three[1].wait_event("gateway_started", count=2)
        three[1].wait_model("digits-small")
        predict(three[1], 10)
        wait_for(lambda: shared(three[1])["flushed"] >= 1 and shared(three[1])["to_flush"] == 0, 20, "its next life has told")
        assert 140 <= counted(redis) <= 160


def test_who_ends_in_order_has_told_all(start):
    with Redis() as redis:
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        predict(sluice, 25)
        sluice.stop()
        assert counted(redis) == 25
        assert [state for _, state in lives(redis).values()] == ["closed"]


def test_counts_wait_for_the_store(start):
    with Redis(*DURABLE) as redis:
        two = [start(alone(redis)), start(alone(redis))]
        settled(two, revision=1)
        predict(two[0], 10), predict(two[1], 10)
        wait_for(lambda: counted(redis) == 20, 20, "all are counted")
        for round in range(2):
            redis.stop()  # kill -9
            predict(two[0], 15), predict(two[1], 15)
            redis.start()
            wait_for(lambda want=20 + 30 * (round + 1): counted(redis) == want, 30, "all are counted, once")
        assert [shared(s)["lost"] for s in two] == [0, 0]


def test_a_store_that_has_lost_its_last_flushes_gets_them_again(start):
    with Redis() as redis:
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        predict(sluice, 10)
        wait_for(lambda: counted(redis) == 10, 20, "all are counted")
        keys = [k for k in redis.keys(KEY + ":*")]
        dumped = {k: redis.raw(b"DUMP", k.encode()) for k in keys}
        for n in (20, 30):
            predict(sluice, 10)
            wait_for(lambda n=n: counted(redis) == n, 20, "all are counted")
        script = b"for i = 1, #KEYS do redis.call('RESTORE', KEYS[i], 0, ARGV[i], 'REPLACE') end return 'done'"
        redis.raw(b"EVAL", script, str(len(keys)).encode(), *[k.encode() for k in keys], *[dumped[k] for k in keys])
        assert counted(redis) < 30
        wait_for(lambda: counted(redis) == 30, 20, "it has them again")
        assert shared(sluice)["lost"] == 0


def test_another_way_to_the_store_changes_no_count(start):
    """Not by a reload that changes how it is asked, nor by one that takes it away and one that brings it back."""
    with Redis() as redis:
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        predict(sluice, 10)
        wait_for(lambda: counted(redis) == 10, 20, "all are counted")
        predict(sluice, 5)
        change(sluice, ("timeout = 1s", "timeout = 2s"))
        reload(sluice)
        predict(sluice, 5)
        wait_for(lambda: counted(redis) == 20, 20, "each once")
        text = sluice.config.read_text()
        sluice.config.write_text(text[: text.index("store {")])
        reload(sluice)
        assert shared(sluice)["state"] == "none"
        predict(sluice, 7)
        sluice.config.write_text(text)
        reload(sluice)
        settled([sluice], revision=1)
        predict(sluice, 8)
        wait_for(lambda: counted(redis) >= 28, 20, "what has come since is counted")
        assert counted(redis) == 28 and len(lives(redis)) == 2


def test_a_new_start_counts_anew(start):
    with Redis() as redis:
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        predict(sluice, 10)
        done(tell(sluice, "rollback"))
        assert done(tell(sluice, "resume"))["revision"] == 3
        predict(sluice, 12)
        wait_for(lambda: counted(redis, since=3) == 12 and counted(redis) == 10, 20, "each has its own")


def test_guards_look_at_what_all_have_counted(start, tmp_path):
    """Neither has seen enough by itself. One of them acts, and it is everybody's."""
    section = HALF.replace('key =', "guard { errors = true min_requests = 100 } key =")
    with Redis() as redis, Worker(only(tmp_path / "small", "digits-small")) as small:
        section += f'worker "v" {{ addresses = {{"grpc://127.0.0.1:{small.port}"}} }} model "digits-small" {{ worker = "v" timeout = "50ms" }}'
        two = [start(alone(redis), section=section) for _ in range(2)]
        settled(two, revision=1)
        drawn = predict(two[0], 60)
        treated, control = ([k for k, v in enumerate(drawn) if v == name] for name in ("treatment", "control"))
        assert 15 < len(treated) < 45
        small.stop()
        for sluice in two:
            for k in range(50):
                assert infer(sluice, treated[k % len(treated)]).status_code >= 500
                assert infer(sluice, control[k % len(control)]).status_code == 200
        wait_for(lambda: counted(redis) == 260, 10, "all are counted")
        settled(two, revision=2, status="rolled_back", who="guard")
        assert [s.find("experiment_not_kept") for s in two] == [[], []]


def test_a_guard_looks_at_the_rewards_that_all_have_counted(start):
    """Each is told of its own answers. Nobody clicks on the variant's; one of the gateways ends it, for all."""
    guard = 'guard { reward = "click" reward_within = "2s" min_requests = 100 }'
    with Redis() as redis:
        two = [start(alone(redis), section=HALF.replace("key =", f'rewards = {{"click"}} {guard} key =')) for _ in range(2)]
        settled(two, revision=1)
        def nobody_clicks():
            for sluice in two:
                for k in range(20):
                    answer = infer(sluice, k)
                    if answer.headers.get("sluice-experiment") == "size/control":
                        reward(sluice, "click", 1, request_id=answer.headers["x-request-id"])
            return all(show(s)["status"] == "rolled_back" for s in two)

        wait_for(nobody_clicks, 120, "the guard")
        settled(two, revision=2, status="rolled_back", who="guard")
        why = show(two[0])["why"]
        assert why.startswith("treatment: reward: 0 of ") and why == show(two[1])["why"], why
        assert [s.find("experiment_not_kept") for s in two] == [[], []]


def test_rewards_add_up(start):
    """Whoever they were posted to, by the request's id or by the key, also while the store is away; each shows all."""
    rewarded = HALF.replace("key =", 'rewards = {"click", "worth"} guard { errors = true } key =')
    with Redis(*DURABLE) as redis:
        two = [start(alone(redis), section=rewarded) for _ in range(2)]
        settled(two, revision=1)
        drawn = predict(two[0], 30)
        treated = [f"u{k}" for k, v in enumerate(drawn) if v == "treatment"]
        assert 3 <= len(treated) <= 27
        for sluice, n in ((two[0], 3), (two[1], 2)):
            for _ in range(n):
                assert reward(sluice, "worth", 2.5, key=treated[0]) == "treatment"
        assert reward(two[1], "worth", -1.5, key=treated[1]) == "treatment"
        answer = infer(two[1], treated[0][1:])
        assert reward(two[1], "click", 1, request_id=answer.headers["x-request-id"]) == "treatment"
        want = {"click": (1, 1.0), "worth": (6, 11.0)}
        wait_for(lambda: all(rewards(s) == want for s in two), 20, f"all show all: {[rewards(s) for s in two]}")
        in_store = lambda field: redis.command("HGET", f"{KEY}:c:1:treatment", field)
        wait_for(lambda: in_store("rewards:worth") == "6", 20, "they are in the store")
        assert (in_store("reward_sum:worth"), in_store("reward_squares:worth")) == ("11", "33.5")
        # What it says of them is of requests: those of both gateways.
        worth = show(two[0])["variants"][1]["rewards"][1]
        assert worth["mean"]["value"] == pytest.approx(11 / (len(treated) + 1)) == worth["against_control"]["value"]
        assert worth["mean"]["low"] < worth["mean"]["value"] < worth["mean"]["high"] and worth["against_control"]["low"] is None
        redis.stop()
        for sluice in two:
            reward(sluice, "click", 1, key=treated[0])
        redis.start()
        wait_for(lambda: all(rewards(s)["click"] == (3, 3.0) for s in two), 30, "each once")
        assert [shared(s)["lost"] for s in two] == [0, 0]
        # Another's nonsense is none of ours.
        redis.command("HSET", f"{KEY}:c:1:treatment", "reward_sum:click", "much", "rewards:other", "9")
        reward(two[0], "worth", 1, key=treated[0])
        wait_for(lambda: all(rewards(s) == {"click": (3, 0.0), "worth": (7, 12.0)} for s in two), 20, "it is passed over")


def test_a_bandit_goes_by_what_all_have_counted(start):
    """One has the requests, the other one the rewards: neither would move by itself."""
    section = HALF.replace("key =", 'rewards = {"click"} bandit { reward = "click" every = "1s" min_requests = 10 }\nkey =')
    with Redis() as redis:
        two = [start(alone(redis), section=section) for _ in range(2)]
        settled(two, revision=1)
        drawn = predict(two[0], 60)
        treated = [k for k, v in enumerate(drawn) if v == "treatment"]
        assert 15 < len(treated) < 45
        for k in treated:
            reward(two[1], "click", 1, key=f"u{k}")  # its variant is another one once the weights have moved
        wait_for(lambda: all(weight(s) >= 600000 for s in two), 30, "it grows, for both")
        for sluice in two:
            assert sluice.wait_event("experiment_changed", who="bandit")["why"] == "click"


@pytest.mark.slow
def test_one_alone_moves_weights(start, tmp_path):
    """What holds a ramp where it acts holds it for all, though nothing would at the other one; until that one acts."""
    section = HALF.replace("key =", 'ramp { variant = "treatment" steps = {50%, 100%} wait = "1s" min_requests = 10 }\nkey =')
    with Redis() as redis, Worker(only(tmp_path / "a", "digits-small")) as a, Worker(only(tmp_path / "b", "digits-small")) as b:
        small = [a, b]
        own = 'worker "v" {{ addresses = {{"grpc://127.0.0.1:{}"}} }} model "digits-small" {{ worker = "v" }}'
        two = [start(alone(redis), section=section + own.format(w.port)) for w in small]
        settled(two, revision=1)
        acting = lambda: [show(s)["acts"] for s in two]
        wait_for(lambda: sorted(acting()) == [False, True], 20, "one acts")
        leads = acting().index(True)
        leader, other = two[leads], two[1 - leads]
        small[leads].stop()
        assert leader.wait_event("ramp_held")["why"] == "unready"
        assert predict(other, 40).count("treatment") >= 10
        requests = lambda s: sum(v["requests"] for v in show(s)["variants"])
        wait_for(lambda: [requests(s) for s in two] == [40, 40], 20, "both know of them")
        told = redis.command("HVALS", f"{KEY}:flushed")
        wait_for(lambda: not set(told.split("\n")) & set(redis.command("HVALS", f"{KEY}:flushed").split("\n")), 20, "both have looked for a while")
        assert [show(s)["revision"] for s in two] == [1, 1]
        leader.stop()
        settled([other], revision=2, who="ramp")
        assert show(other)["acts"]


# ---- what is in the store is not believed -----------------------------------------------------------------------


def test_ten_thousand_of_others(start):
    with Redis() as redis:
        fill = "for i = 1, 10000 do redis.call('HSET', 'sluice:default:exp:{n' .. i .. '}', 'version', '1:0:0', 'record', '{}') end return 'done'"
        assert redis.command("EVAL", fill, 0) == "done"
        two = [start(alone(redis)), start(alone(redis))]
        settled(two, revision=1)
        done(weigh(two[0], 500000))
        settled(two, revision=2)
        assert shared(two[0])["known"] == 1


HOSTILE = {
    "garbage": ("9:0:0000000000000001", "what is this"),
    "nothing": ("9:0:0000000000000001", "{}"),
    "no-version": ("", None),
    "version": ("9:9:0000000000000001", None),
    "name": (None, lambda r: {**r, "name": "other", "revision": 9}),
    "weights": (None, lambda r: {**r, "revision": 9, "variants": [{"name": "control", "weight": 0}, {"name": "treatment", "weight": 1}]}),
    "huge": ("9:0:0000000000000001", "[" * 1000000),
    "lines": ("9:0:\r\n+OK\r\n", '{"name":"\\r\\n%s%n"}'),
}


def publish(redis):
    """So that nobody waits for the next look."""
    redis.command("PUBLISH", "sluice:default:exp:changes", "size")


def store_record(redis, version, text):
    script = b"redis.call('HSET', KEYS[1], 'version', ARGV[1], 'record', ARGV[2]) redis.call('PUBLISH', 'sluice:default:exp:changes', 'size') return 'done'"
    assert redis.raw(b"EVAL", script, b"1", KEY.encode(), version.encode(), text.encode()) == b"done"


def test_what_is_no_record_is_not_in_force(start):
    with Redis() as redis:
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        good = record(redis)
        for n, what in enumerate([*HOSTILE, "type"], 1):
            if what == "type":
                assert redis.command("DEL", KEY) == "1" and redis.command("LPUSH", KEY, "a") == "1"
                publish(redis)
            else:
                version, text = HOSTILE[what]
                text = json.dumps(text(good)) if callable(text) else text or json.dumps(good)
                store_record(redis, f"9:0:{good['mark']}" if version is None else version, text)
            sluice.wait_event("experiment_not_taken", count=n)
            assert show(sluice)["revision"] == 1 and weight(sluice) == 100000, what
            if what == "type":
                said = done(tell(sluice, "pause"))
                assert said["status"] == "paused" and said["kept"] is False
            # Whoever takes it away gets what is in force.
            assert redis.command("DEL", KEY) == "1"
            publish(redis)
            wait_for(lambda: redis.command("EXISTS", KEY) == "1", 20, "it is written again")
            settled([sluice], revision=1 + (what == "type"))
            assert record(redis)["name"] == "size", what


def test_anybody_may_publish(start):
    with Redis() as redis:
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        wait_for(lambda: shared(sluice)["listens"], 20, "it listens")
        script = b"for i = 1, #ARGV do redis.call('PUBLISH', KEYS[1], ARGV[i]) end return 'done'"
        words = [b"", b"size", b"nobody", b"{size}", b"\r\n+OK", b"\0", b"x" * 100000]
        assert redis.raw(b"EVAL", script, b"1", b"sluice:default:exp:changes", *words) == b"done"
        done(weigh(sluice, 500000))
        settled([sluice], revision=2)
        assert shared(sluice)["listens"] and shared(sluice)["state"] == "up"


def test_sums_that_are_none(start):
    """Something else in the place of a sum takes no part of a flush with it, and none is added twice."""
    with Redis() as redis:
        assert redis.command("LPUSH", f"{KEY}:c:1:treatment", "a") == "1"
        assert redis.command("HSET", f"{KEY}:c:1:control", "answers", "many") == "1"
        sluice = start(alone(redis))
        settled([sluice], revision=1)
        done(weigh(sluice, 500000))
        drawn = predict(sluice, 20)
        sluice.wait_event("experiment_counts_refused")
        wait_for(lambda: shared(sluice)["to_flush"] == 0, 20, "all is told")
        assert redis.command("HGET", f"{KEY}:c:1:control", "requests") == str(drawn.count("control"))
        assert redis.command("HGET", f"{KEY}:c:1:control", "answers") == "many"
