import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness import MODELS, ROOT, SLUICE, DooredSluice, Sluice, WORKER, configuration, copy_model  # noqa: E402

REFERENCE = ROOT.parent / "shared" / "models"
REFERENCE_MODELS = {
    "digits_mlp": "digits_mlp",
    "iris_logreg": "iris_logreg",
    "mnist_cntk": "mnist_cntk",
    "resnet8_cifar10": "resnet8_cifar10",
    "ad01_autoencoder": "ad01_autoencoder",
    "ultraface_rfb320": "ultraface_rfb320",
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
