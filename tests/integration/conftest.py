import functools
import time

import httpx
import pytest

from harness import (
    GOOD_BODY, MODELS, ROOT, SANITIZED, SLUICE, WORKER, DooredSluice, Sluice, configuration, copy_model, memory_kib, wait_for,
)  # fmt: skip
from hostile import INFER, LIMITS, descriptors

# A request may take its time on a busy machine. And not every httpx.post is to read the machine's certificates anew, which
# takes 25 ms: those who want others, or none, say so.
for part in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, 60.0)
make_context = httpx._transports.default.create_ssl_context
usual_context = functools.cache(make_context)
httpx._transports.default.create_ssl_context = lambda verify=True, **more: usual_context() if verify is True else make_context(verify, **more)

REFERENCE = ROOT.parent / "shared" / "models"
REFERENCE_MODELS = {
    "digits_mlp": "digits_mlp",
    "iris_logreg": "iris_logreg",
    "mnist_cntk": "mnist_cntk",
    "resnet8_cifar10": "resnet8_cifar10",
    "ad01_autoencoder": "ad01_autoencoder",
    "ultraface_rfb320": "ultraface_rfb320",
    "credit_gbt": "credit_gbt",
}


def pytest_sessionstart(session):
    for program in (SLUICE, WORKER):
        if not program.exists():
            pytest.exit(f"{program} is not there: make all", returncode=1)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """One gateway for all tests that do it no harm: two loops, a worker with the demo models."""
    config = configuration(tmp_path_factory.mktemp("gateway"), MODELS)
    with Sluice(config, wait_models=("digits", "digits-small")) as s:
        yield s
        assert s.stop() == 0, s.text


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    """The gateway that takes all hostile input. At the end it is the same process, with bounded memory, no descriptor
    more than before, nothing in flight, and nothing on its standard error that tells of a defect."""
    with Sluice(configuration(tmp_path_factory.mktemp("hostile"), limits=LIMITS)) as sluice:
        pid, fds = sluice.gateway_pid(), descriptors(sluice.gateway_pid())
        httpx.post(sluice.url + INFER.decode(), content=GOOD_BODY)
        yield sluice
        for name in ("connections", "in_flight", "streams", "queue_rows", "running_rows"):
            wait_for(lambda n=name: sluice.metric("sluice_" + n) == 0, 15, f"{name} 0")
        assert len(sluice.find("ready")) == 1 and not sluice.find("gateway_exited") and not sluice.find("worker_exited")
        assert SANITIZED or memory_kib(pid) < 256 << 10
        wait_for(lambda: descriptors(pid) <= fds + 4, 10, "descriptors given back")
        assert sluice.stop() == 0, sluice.text


@pytest.fixture
def others_are_served(target):
    """After each attack another client is answered, at once by any measure."""
    yield
    begun = time.monotonic()
    assert httpx.post(target.url + INFER.decode(), content=GOOD_BODY).status_code == 200
    assert time.monotonic() - begun < 10


@pytest.fixture(scope="session")
def reference_repository(tmp_path_factory):
    if not REFERENCE.is_dir():
        pytest.skip("the reference models (../shared/models) are not on this machine")
    repository = tmp_path_factory.mktemp("reference") / "models"
    for name in (*REFERENCE_MODELS, "silero_vad_v5"):
        copy_model(REFERENCE / name / "model.onnx", repository, name)
    for name in ("digits", "digits-small"):
        copy_model(MODELS / name / "1" / "model.onnx", repository, name)
    return repository


@pytest.fixture(scope="session")
def reference(reference_repository, tmp_path_factory):
    """One gateway that serves the reference models beside the demo models."""
    config = configuration(tmp_path_factory.mktemp("reference-gateway"), reference_repository)
    with Sluice(config, wait_models=(*REFERENCE_MODELS, "silero_vad_v5")) as s:
        yield s
        assert s.stop() == 0, s.text


@pytest.fixture
def start(tmp_path):
    """start(**configuration): a gateway of one's own; doors=True: with debug doors. It is ended, and must end
    cleanly, with the test."""
    started = []

    def one(wait_models=("digits",), directory=None, limits_before=(), doors=False, **more):
        config = configuration(directory or tmp_path / f"gateway{len(started)}", **more)
        kind = DooredSluice if doors else Sluice
        started.append(kind(config, wait_models=wait_models, limits=limits_before))
        return started[-1]

    yield one
    for s in started:
        with s:
            pass
