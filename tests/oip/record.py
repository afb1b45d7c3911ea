#!/usr/bin/env python3
"""Asks a real Triton all that corpus.py has, and writes what it says into answers.json.

    tests/oip/record.py --triton DIRECTORY --numpy DIRECTORY [--out tests/oip/answers.json]      (with the Python of .venv)

DIRECTORY has bin/tritonserver and backends/python with the stub of this Python: the folder pytriton/tritonserver of PyPI's
nvidia-pytriton does, when python_backend_stubs/3.N/triton_python_backend_stub has been copied to backends/python. The models
are of its Python backend, and give back what they get; --numpy says where that finds a numpy before 2 (pip install --target),
since with a later one its tensors are empty.
"""
import argparse
import json
import pathlib
import socket
import subprocess
import tempfile
import time

import httpx
from corpus import MODELS, ROWS, ask_all

MODEL = '''
import sys

sys.path.insert(0, SITE)

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.names = NAMES

    def execute(self, requests):
        answers = []
        for request in requests:
            asked = request.requested_output_names()
            tensors = [pb_utils.Tensor("y_" + n, pb_utils.get_input_tensor_by_name(request, n).as_numpy()) for n in self.names if "y_" + n in asked]
            answers.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return answers
'''


def write_models(repository, numpy):
    for name, (tensors, most, versions) in MODELS.items():
        kinds = {n: "TYPE_" + datatype.replace("BYTES", "STRING") for n, datatype, _ in tensors}
        ports = [(kind, prefix + n, kinds[n], dims) for kind, prefix in (("input", ""), ("output", "y_")) for n, _, dims in tensors]
        text = f'name: "{name}"\nbackend: "python"\nmax_batch_size: {most}\nversion_policy: {{ all {{ }} }}\n'
        text += "".join(f'{kind} [ {{ name: "{n}" data_type: {type_} dims: {dims} }} ]\n' for kind, n, type_, dims in ports)
        for version in versions:
            (repository / name / version).mkdir(parents=True)
            (repository / name / version / "model.py").write_text(MODEL.replace("NAMES", repr([n for n, _, _ in tensors])).replace("SITE", repr(str(numpy))))
        (repository / name / "config.pbtxt").write_text(text)


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start(triton, repository, log):
    rest, grpc = free_ports(2)
    words = [triton / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={triton / 'backends'}", "--allow-metrics=false"]
    words += [f"--http-port={rest}", f"--grpc-port={grpc}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    process = subprocess.Popen(words, stdout=log, stderr=log)
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{rest}/v2/health/ready").status_code == 200:
                return process, rest, grpc
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    process.kill()
    raise SystemExit("tritonserver does not get ready:\n" + pathlib.Path(log.name).read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triton", type=pathlib.Path, required=True)
    parser.add_argument("--numpy", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("answers.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        repository = pathlib.Path(directory) / "models"
        write_models(repository, args.numpy.resolve())
        with open(pathlib.Path(directory) / "log", "w") as log:
            process, rest, grpc = start(args.triton.resolve(), repository, log)
            server = httpx.get(f"http://127.0.0.1:{rest}/v2").json()
            answers = ask_all(f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}")
            process.terminate()
            process.wait(60)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(answers[name])}" for name in ROWS)
    told = json.dumps({k: server[k] for k in ("name", "version")})
    args.out.write_text(f'{{"server": {told},\n"answers": {{\n{lines}\n}}}}\n')
    print(f"{len(answers)} answers of {told}: {args.out}")


if __name__ == "__main__":
    main()
