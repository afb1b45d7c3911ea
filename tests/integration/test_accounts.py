"""Every account is kept: what unknown names are answered, what answers hold, how long a turn works."""
import time

import httpx
import pytest
from harness import GOOD_BODY, Sluice, configuration, wait_for

# ---- names that nobody has -----------------------------------------------------------------------------

NOBODY = "/v2/models/nobody/infer"


def worker(title, address):
    return f'worker "{title}" {{ addresses = {{"grpc://{address}"}} }}\n'


def test_an_unknown_name_is_404_beside_a_worker_that_never_came(tmp_path):
    """One address with a typo is no reason to have clients repeat theirs: once those that can be reached have
    said what they have, and the other has had its time to come, the name is not known."""
    with Sluice(configuration(tmp_path, models=worker("typo", "127.0.0.1:1"))) as sluice:
        started = time.monotonic()
        with httpx.Client(base_url=sluice.url) as client:
            ask = lambda: client.post(NOBODY, content=GOOD_BODY)  # noqa: E731
            first = ask()
            if time.monotonic() - started < 5:  # it may still come
                assert first.status_code == 503 and first.headers["retry-after"] == "1", first.text
            wait_for(lambda: ask().status_code == 404, 20, "404")
            assert "nobody is not known" in ask().json()["error"]


def test_an_unknown_name_is_503_while_no_worker_is_there(tmp_path):
    """Then any name may be a worker's: clients repeat."""
    path = configuration(tmp_path, addresses=["grpc://127.0.0.1:1"])
    with Sluice(path, wait_models=()) as sluice, httpx.Client(base_url=sluice.url) as client:
        time.sleep(11)
        answer = client.post(NOBODY, content=GOOD_BODY)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1", answer.text
