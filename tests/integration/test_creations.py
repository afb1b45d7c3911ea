"""Experiments that operators create while everything runs: what is refused, what stays, and who wins."""
import concurrent.futures
import os
import signal

import pytest
from harness import wait_for
from test_ctl import DONE, REFUSED
from test_ctl import ask as ctl
from test_reload import TOKEN, change, reload
from test_trials import CLIENT, USERS, act, admin, draws, shown, start  # noqa: F401

HALVES = 'variant "control" { model = "digits" weight = 50% } variant "treatment" { model = "digits-small" weight = 50% }'
SIZE = f'# by hand\nexperiment "size" {{\n  model = "digits"\n  key = "header:x-user"\n  {HALVES}\n}}\n'
PLAIN = 'model "digits" {} model "digits-small" {}'


def create(sluice, definition=SIZE, **body):
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/experiments"
    return CLIENT.post(url, json={"definition": definition, **body}, headers=TOKEN)


def created(sluice, definition=SIZE, **body):
    answer = create(sluice, definition, **body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def variants(sluice, users=USERS):
    return {user: variant for user, (variant, _) in draws(sluice, users).items()}


def delete(sluice, name="size", **body):
    return admin(sluice, f"/{name}/delete", body)


def names(sluice):
    return [e["name"] for e in admin(sluice, "").json()["experiments"]]


def test_created_resumed_drawn_kept_and_deleted(start, tmp_path):
    sluice = start(PLAIN)
    now = created(sluice, why="let us see")
    assert (now["status"], now["revision"], now["why"], now["created"], now["from_file"]) == ("draft", 1, "let us see", True, False)
    assert now["definition"] == SIZE and now["who"] == "127.0.0.1"
    assert set(variants(sluice).values()) == {None}
    outside = lambda: sluice.metric("sluice_experiment_outside_total", model="digits", why="draft")
    wait_for(lambda: outside() == len(USERS), 20, "all are counted")
    assert sluice.wait_event("experiment_created")["experiment"] == "size"
    text = (tmp_path / "state" / "experiments" / "size.conf").read_text()
    assert text.endswith(SIZE) and text.startswith("# sluice 1 size ")
    act(sluice, "resume")
    drawn = variants(sluice)
    assert set(drawn.values()) == {"control", "treatment"}
    act(sluice, "weights", weights_ppm={"treatment": 0})
    act(sluice, "weights", weights_ppm={"treatment": 500000})
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("gateway_started", count=2)
    wait_for(lambda: sluice.get("/v2/models/digits-small/ready")[0] == 200, 30, "it is back")
    wait_for(lambda: names(sluice) == ["size"], 10, "it is there")
    assert variants(sluice) == drawn
    reload(sluice)
    assert (shown(sluice)["revision"], shown(sluice)["status"]) == (4, "running")
    assert sluice.stop() == 0, sluice.text
    sluice = start(PLAIN)
    assert variants(sluice) == drawn
    assert shown(sluice)["revision"] == 4
    answer = delete(sluice)
    assert answer.status_code == 409 and "it is running" in answer.json()["error"]
    assert delete(sluice, revision=3).status_code == 409
    act(sluice, "pause")
    answer = delete(sluice, revision=5, why="seen")
    assert (answer.status_code, answer.json()) == (200, {"deleted": "size"})
    assert names(sluice) == [] and set(variants(sluice).values()) == {None}
    event = sluice.wait_event("experiment_deleted")
    assert (event["experiment"], event["why"]) == ("size", "seen")
    assert list((tmp_path / "state" / "experiments").iterdir()) == []
    assert delete(sluice).status_code == 404
    # one of the same name and text is another one
    assert (created(sluice, start=True)["status"], shown(sluice)["revision"]) == ("running", 1)
    assert variants(sluice) == drawn
    assert delete(sluice, running=True).status_code == 200
    reload(sluice)
    assert names(sluice) == []


WRONG = [
    ("", "expected the text of an experiment's section"),
    ("# nothing", 'expected experiment "NAME" { ... }, got nothing'),
    ("loops = 3", 'line 1, column 1: expected experiment "NAME" { ... } alone'),
    (SIZE + "loops = 3", 'line 7, column 1: expected experiment "NAME" { ... } alone'),
    ('model "m" { }', 'line 1, column 1: expected experiment "NAME" { ... }, got model'),
    (SIZE + ' worker "w" { }', "line 7, column 2: expected one section, got another one: worker"),
    (SIZE[:-3], "section experiment is not closed"),
    ("experiment { }", 'line 1, column 1: experiment: expected a title: experiment "NAME" {'),
    (SIZE.replace("key =", "kee ="), 'line 4, column 3: unknown key "kee" in section experiment; did you mean "key"?'),
    (SIZE.replace("50%", "40%", 1), 'line 2, column 1: experiment "size": expected weights that add up to 100%, got 90%'),
    (SIZE.replace('"digits-small"', '"a b"'), "line 5, column 77: model: expected a model name"),
    (SIZE.replace("holdout", "key") + 'include("x")', "line 7, column 8: functions are not understood"),
    (SIZE.replace('"header:x-user"', '"${HOME}"'), "line 4, column 10: environment variables are not read"),
    (SIZE.replace("header:x-user", "header:x user"), "line 4, column 3: key: expected"),
    (SIZE.replace("{\n", "{\n force_key_file = /etc/shadow\n", 1), "line 3, column 2: force_key_file: stands in gateway.conf alone"),
    (SIZE.replace("{\n", '{\n layer = "people"\n', 1), 'line 3, column 2: layer: there is no layer "people"'),
    ('experiment "%s" { }' % ("x" * 129), "line 1, column 1: experiment: expected a name of 1 to 128"),
    *((f'experiment "{name}" {{ }}', "expected a name of 1 to 128") for name in ("", "../../etc/passwd", "a/b", "{x}", "a b", "ü", "=1+1")),
    ('experiment "a\x01b" { }', "line 1, column 14: a control character in a text"),
    ('experiment "a\0b" { }', "definition: expected the text"),
    ("#" * (64 * 1024 + 1), "at most 64KiB"),
]  # fmt: skip


def test_a_definition_that_is_wrong_changes_nothing(start, tmp_path):
    sluice = start(PLAIN)
    for text, why in WRONG:
        answer = create(sluice, text)
        assert answer.status_code == 400 and why in answer.json()["error"], (text, answer.text)
    answer = create(sluice, SIZE.replace("{\n", "{\n draft = true\n", 1), start=True)
    assert answer.status_code == 400 and "line 3, column 2: draft: expected false" in answer.json()["error"]
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/experiments"
    bodies = [b"", b"[]", b"{", b"{}", b'{"definition": 3}', b'{"definition": "x", "name": "x"}', b'{"definition": "x", "definition": "x"}', b'{"definition": "x", "start": 1}', b'{"definition": "x", "why": "%s"}' % (b"y" * 257)]  # fmt: skip
    for body in bodies:
        assert CLIENT.post(url, content=body, headers=TOKEN).status_code == 400, body
    assert CLIENT.post(url, json={"definition": "#" * 300000}, headers=TOKEN).status_code == 413
    # who has no token is refused before more than 4 KiB of his are held
    assert CLIENT.post(url, json={"definition": SIZE}).status_code == 401
    assert CLIENT.post(url, json={"definition": SIZE + "#" * 5000}).status_code == 413
    assert CLIENT.post(url, json={"definition": SIZE}, headers={**TOKEN, "host": "evil.example"}).status_code == 403
    assert names(sluice) == [] and not (tmp_path / "state" / "experiments").exists()
    assert sluice.find("experiment_created") == []
    created(sluice, SIZE + "#" * (64 * 1024 - len(SIZE)))


def test_a_name_is_one_experiments(start):
    other = 'model "other" {} experiment "mine" { model = "other" variant "a" { model = "other" weight = 50% } variant "b" { model = "digits" weight = 50% } }'
    sluice = start(PLAIN + other)
    answer = create(sluice, SIZE.replace('"size"', '"mine"'))
    assert answer.status_code == 409 and 'line 2, column 1: experiment "mine" is there already: its section stands in gateway.conf' in answer.json()["error"]
    created(sluice)
    answer = create(sluice)
    assert answer.status_code == 409 and "it was created" in answer.json()["error"]
    answer = create(sluice, SIZE.replace('"size"', '"again"'))
    assert answer.status_code == 400 and 'line 3, column 3: model: experiment "size" has it already: they must be in one layer' in answer.json()["error"]
    answer = delete(sluice, "mine")
    assert answer.status_code == 409 and "stands in gateway.conf" in answer.json()["error"]
    for body in ({"running": 1}, {"revision": 0}, {"definition": "x"}):
        assert delete(sluice, **body).status_code == 400, body
    # a name that is a variant's model stands for no experiment
    other = SIZE.replace('"size"', '"x"').replace('model = "digits"\n', 'model = "digits-small"\n')
    answer = create(sluice, other)
    assert answer.status_code == 400 and 'model: "digits-small"' in answer.json()["error"], answer.text
    assert names(sluice) == ["size", "mine"]


def test_the_files_section_wins_and_a_reload_goes_before(start, tmp_path):
    sluice = start(PLAIN)
    created(sluice, start=True)
    # the file gets a section of that name: it is in force, and the creation waits behind it
    section = SIZE.replace("50%", "40%", 1).replace("50%", "60%", 1)
    before = sluice.config.read_text()
    sluice.config.write_text(before + section)
    reload(sluice)
    now = shown(sluice)
    assert (now["created"], now["who"], now["revision"]) == (False, "gateway.conf", 2)
    assert [v["weight_ppm"] for v in now["variants"]] == [400000, 600000]
    assert sluice.wait_event("experiment_kept_out")["why"] == "gateway.conf has a section of that name"
    assert [e["name"] for e in admin(sluice, "").json()["kept_out"]] == ["size"]
    said = ctl(sluice, "experiment", "list")
    assert "size was created and is kept out: gateway.conf has a section of that name" in said.out
    act(sluice, "pause")
    # and when it goes, the creation is back, as a new revision
    sluice.config.write_text(before)
    reload(sluice)
    now = shown(sluice)
    assert (now["created"], now["status"], now["revision"]) == (True, "running", 4)
    sluice.wait_event("experiment_taken_in", experiment="size")
    # one that is kept out is deleted, the record of the file's stays
    sluice.config.write_text(before + section)
    reload(sluice)
    act(sluice, "pause")
    assert delete(sluice).status_code == 200
    assert [p.name for p in (tmp_path / "state" / "experiments").iterdir()] == ["size.json"]
    reload(sluice)
    assert (shown(sluice)["status"], admin(sluice, "").json()["kept_out"]) == ("paused", [])


def test_layers_are_checked_together(start):
    layer = 'layer "people" { key = "header:x-user" }'
    part = lambda name, start, to: f'experiment "{name}" {{ model = "digits" layer = "people" from = {start}% to = {to}% {HALVES} }}'
    sluice = start(PLAIN + layer + part("first", 0, 20))
    assert create(sluice, part("second", 10, 30)).status_code == 400
    created(sluice, part("second", 20, 40), start=True)
    answer = create(sluice, part("third", 30, 60))
    assert 'overlap 20% to 40% of experiment "second"' in answer.json()["error"]
    created(sluice, part("third", 40, 60))
    assert sorted(names(sluice)) == ["first", "second", "third"]
    # a reload whose file takes the place of one keeps that one out, and no other; what the file says is never kept out
    change(sluice, ("to = 20%", "to = 30%"))
    reload(sluice)
    assert sorted(names(sluice)) == ["first", "third"]
    event = sluice.wait_event("experiment_kept_out", experiment="second")
    assert 'overlap 0% to 30% of experiment "first"' in event["why"]
    assert create(sluice, part("second", 70, 80)).status_code == 409
    assert admin(sluice, "/second").status_code == 404
    change(sluice, ("to = 30%", "to = 20%"))
    reload(sluice)
    assert sorted(names(sluice)) == ["first", "second", "third"]
    assert shown(sluice, "second")["status"] == "running"
    # the layer itself goes
    change(sluice, (layer, ""), (part("first", 0, 20), ""))
    reload(sluice)
    assert names(sluice) == []
    assert {e["name"]: e["why"] for e in admin(sluice, "").json()["kept_out"]} == {
        name: f'line 1, column {len(name) + 34}: layer: there is no layer "people"' for name in ("second", "third")
    }


def test_models_that_are_not_there(start):
    sluice = start(PLAIN)
    gone = SIZE.replace('"digits-small"', '"nobody-has-it"')
    created(sluice, gone, start=True)
    drawn = draws(sluice)
    assert {model for _, model in drawn.values()} == {"digits"}
    change(sluice, ("loops", "models = listed\nloops"))
    reload(sluice)
    event = sluice.wait_event("experiment_kept_out")
    assert 'model: "nobody-has-it" has no model section, and models = listed' in event["why"]
    assert names(sluice) == []


def test_where_nothing_is_kept_nothing_is_created(start):
    sluice = start(PLAIN, state=False)
    answer = create(sluice)
    assert answer.status_code == 409 and "neither state_dir nor a store is set" in answer.json()["error"]
    assert names(sluice) == []


def test_a_text_that_is_broken_is_set_aside(start, tmp_path):
    directory = tmp_path / "state" / "experiments"
    directory.mkdir(parents=True)
    good = "# sluice 1 size 00000000000000ab 1700000000000000 start own me\n# why\n" + SIZE
    for text, why in (
        ("", "line 1: expected"),
        (good.replace("ab 17", "ag 17"), "16 hexadecimal digits"),
        (good.replace("sluice 1 size", "sluice 1 other"), "another experiment's"),
        (good + "#" * 70000, "larger"),
    ):
        (directory / "size.conf").write_text(text)
        sluice = start(PLAIN)
        event = sluice.wait_event("experiment_not_read")
        assert why in event["why"] and event["aside"].endswith("size.conf.broken"), event
        assert names(sluice) == [] and sluice.stop() == 0
    (directory / "size.conf").write_text(good)
    (directory / "bad.conf").write_text(good.replace("size", "bad", 1))
    (directory / "..conf").write_text("x")
    sluice = start(PLAIN)
    assert names(sluice) == ["size"] and shown(sluice)["who"] == "me"


def test_sluicectl_creates_and_deletes(start, tmp_path):
    sluice = start(PLAIN)
    file = tmp_path / "size.conf"
    file.write_text(SIZE.replace("50%", "51%", 1))
    said = ctl(sluice, "experiment", "create", str(file))
    assert said.status == REFUSED and 'line 2, column 1: experiment "size": expected weights that add up to 100%, got 101%' in said.err
    file.write_text(SIZE)
    said = ctl(sluice, "experiment", "create", str(file), "--why", "by hand", "--start")
    assert said.status == DONE and said.out.startswith("size: running, revision 1 since "), said.err
    assert "by 127.0.0.1: by hand\ncreated while the gateway ran: it stays until it is deleted\n" in said.out
    said = ctl(sluice, "experiment", "delete", "size")
    assert said.status == REFUSED and "it is running" in said.err
    said = ctl(sluice, "experiment", "delete", "size", "--yes", "--why", "enough")
    assert (said.status, said.out) == (DONE, "size: deleted\n")
    words = ["experiment", "create", "size", "--model", "digits", "--key", "header:x-user"]
    said = ctl(sluice, *words, "--variant", "control=digits:90%", "--variant=treatment=digits-small:10%")
    assert said.status == DONE and said.out.startswith("size: draft, "), said.err
    assert shown(sluice)["definition"] == (
        'experiment "size" {\n  model = "digits"\n  key = "header:x-user"\n'
        '  variant "control" { model = "digits" weight = 90% }\n  variant "treatment" { model = "digits-small" weight = 10% }\n}\n'
    )
    said = ctl(sluice, "experiment", "create", str(tmp_path / "nothing"))
    assert said.status == 2 and "No such file" in said.err
    file.write_bytes(b"#" * 65537)
    said = ctl(sluice, "experiment", "create", str(file))
    assert said.status == 2 and "at most 64KiB" in said.err
    file.write_bytes(b"#\xff")
    assert "expected UTF-8" in ctl(sluice, "experiment", "create", str(file)).err


def test_many_come_and_go_at_once(start):
    """Each makes a configuration of its own, which the loops take up while the next one comes."""
    sluice = start(PLAIN + 'layer "people" { key = "header:x-user" }')
    part = lambda n: f'experiment "e{n}" {{ model = "digits" layer = "people" from = {n}% to = {n + 1}% {HALVES} }}'

    def come_and_go(n):
        wait_for(lambda: create(sluice, part(n), start=True).status_code == 201, 20, "there is room for it")
        wait_for(lambda: delete(sluice, f"e{n}", running=True).status_code == 200, 20, "and without it")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(12)))
        assert names(sluice) == []
        list(pool.map(lambda n: created(sluice, part(n)), range(8)))
    assert sorted(names(sluice)) == [f"e{n}" for n in range(8)]
    assert {model for _, model in draws(sluice).values()} == {"digits"}
