#!/usr/bin/env python3
"""Models as their exporters write them, each in our engine beside onnxruntime.

    tests/exporters/run.py [--worker build/sluice-worker] [--only WORD, or EXPORTER/WORD] DIR

Each exporter that is installed (requirements.txt) writes small models of the usual kinds into DIR/EXPORTER/NAME: the
file, and in test_data_set_K what onnxruntime answers to random inputs. `sluice-worker explain --check` compares. Prints
a line for each exporter and one for each model that is refused or wrong; ends with 1 when there are any but those of
REFUSED, or nothing to compare with.
"""
import argparse
import contextlib
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import traceback

# name: (module that has its models, packages that it needs)
EXPORTERS = {
    "skl2onnx": ("from_sklearn", ["pandas", "sklearn", "skl2onnx"]),
    "onnxmltools-xgboost": ("from_xgboost", ["sklearn", "xgboost", "onnxmltools"]),
    "onnxmltools-lightgbm": ("from_lightgbm", ["sklearn", "lightgbm", "onnxmltools"]),
    "torch": ("from_torch", ["torch"]),
    "torch-dynamo": ("from_torch_dynamo", ["torch", "onnxscript"]),
    "tf2onnx": ("from_tensorflow", ["tensorflow", "tf2onnx"]),
    "onnxruntime-quantization": ("from_quantization", ["onnxruntime.quantization"]),
}
# What is refused, with words of the reason.
REFUSED = {
    "torch/encoder": "do not fit",  # for the rows and tokens that it was traced with, whatever the file says
    "torch/bert": "do not fit",
    "torch-dynamo/embedding_bag": "SequenceEmpty",
}
ATOL, RTOL = 1e-4, 1e-3  # what float32 leaves after some layers in another order


def installed(packages):
    """None, or the first that is not there."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as e:
            return f"{package} ({e})"
    return None


# ---- what onnxruntime answers --------------------------------------------------------------------------


def as_tensor(value):
    """ZipMap's list of dictionaries as the tensor behind it, a column for each label."""
    import numpy

    if isinstance(value, list):
        return numpy.array([[row[k] for k in sorted(row)] for row in value], dtype=numpy.float32)
    return value


def write_set(folder, kind, values):
    from onnx import numpy_helper

    for k, value in enumerate(values):
        (folder / f"{kind}_{k}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())


def in_its_locale(file):
    """StringNormalizer where nothing is said asks for one that few machines have; for ASCII all are the same."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    words = [node for node in model.graph.node if node.op_type == "StringNormalizer"]
    for node in words:
        if not any(attribute.name == "locale" for attribute in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    return model.SerializeToString() if words else str(file)


def write(folder, model, feeds):
    """The file, and a folder for each of the feeds: dictionaries by the names of inputs."""
    import onnxruntime

    folder.mkdir(parents=True)
    file = folder / "model.onnx"
    if isinstance(model, pathlib.Path):
        for part in model.parent.iterdir():  # and what lies beside it
            shutil.copy(part, folder / ("model.onnx" if part == model else part.name))
    else:
        file.write_bytes(model.SerializeToString())
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # as the file says
    session = onnxruntime.InferenceSession(in_its_locale(file), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    for k, feed in enumerate(feeds):
        data = folder / f"test_data_set_{k}"
        data.mkdir()
        write_set(data, "input", [feed[name] for name in names])
        write_set(data, "output", map(as_tensor, session.run(None, feed)))


# ---- what ours does ------------------------------------------------------------------------------------


def compare(worker, folder):
    """"right", or what is wrong with it."""
    words = [worker, "explain", folder, "--check", folder, "--atol", str(ATOL), "--rtol", str(RTOL)]
    done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return "right"
    return " | ".join(done.stdout.strip().splitlines()[-4:]) or f"ended with {done.returncode}"


def expected(name, said):
    return name in REFUSED and REFUSED[name] in said


def models_of(exporter, only):
    module = importlib.import_module(EXPORTERS[exporter][0])
    return {name: make for name, make in module.MODELS.items() if only in f"{exporter}/{name}"}


@contextlib.contextmanager
def quiet():
    """Exporters talk much, in Python and beneath it. TRACE=1 lets them."""
    sys.stdout.flush()
    kept = [os.dup(1), os.dup(2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        if not os.environ.get("TRACE"):
            os.dup2(nothing, fd)
    try:
        yield
    finally:
        sys.stdout.flush()
        for fd, old in zip((1, 2), kept):
            os.dup2(old, fd)
            os.close(old)
        os.close(nothing)


def run(exporter, directory, worker, only):
    """Makes and compares; how many were not as they should be, or None where the exporter is not there."""
    if "/" in only and not exporter.endswith(only.split("/")[0]):  # and what it needs is not loaded
        return None
    missing = installed(EXPORTERS[exporter][1])
    if missing:
        print(f"{exporter}: not tried, there is no {missing}", flush=True)
        return None
    counts = {"right": 0, "refused as told": 0, "failed": 0, "not exported": 0}
    with quiet():
        models = models_of(exporter, only)
    if not models:
        return None
    for name, make in models.items():
        folder = directory / exporter / name
        try:
            with quiet():
                write(folder, *make())
        except Exception as e:  # the exporter's own, or onnxruntime's
            counts["not exported"] += 1
            if os.environ.get("TRACE"):
                traceback.print_exc()
            print(f"  {exporter}/{name}: not exported: {type(e).__name__}: {str(e)[:200]}", flush=True)
            continue
        said = compare(worker, folder)
        outcome = "right" if said == "right" else "refused as told" if expected(f"{exporter}/{name}", said) else "failed"
        counts[outcome] += 1
        if outcome == "failed":
            print(f"  {exporter}/{name}: {said}", flush=True)
    print(f"{exporter}: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n), flush=True)
    return counts["failed"]


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("directory", type=pathlib.Path)
    words.add_argument("--worker", default="build/sluice-worker")
    words.add_argument("--only", default="")
    words = words.parse_args()
    missing = installed(["numpy", "onnx", "onnxruntime"])
    if missing:
        sys.exit(f"nothing to compare with: there is no {missing}; pip install -r tests/exporters/requirements.txt")
    shutil.rmtree(words.directory, ignore_errors=True)
    failed = [run(exporter, words.directory, words.worker, words.only) for exporter in EXPORTERS]
    tried = [n for n in failed if n is not None]
    print(f"{len(tried)} of {len(EXPORTERS)} exporters tried, {sum(tried)} models failed")
    sys.exit(1 if sum(tried) or not tried else 0)


if __name__ == "__main__":
    main()
