"""`mlserver infer` asks the server of that port: mlserver_says.py PORT ROWS, a JSON array of rows of model digits.
Prints one JSON object: {line's name: what came}."""
import json
import pathlib
import subprocess
import sys
import tempfile

port, rows = sys.argv[1], json.loads(sys.argv[2])[:6]


def request_of(n, row):
    return {"id": str(n), "inputs": [{"name": "input", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}


def infer(directory, model, *options):
    source, target = directory / "in.json", directory / "out.json"
    source.write_text("".join(json.dumps(request_of(n, row)) + "\n" for n, row in enumerate(rows)))
    target.unlink(missing_ok=True)
    words = [pathlib.Path(sys.executable).with_name("mlserver"), "infer", "-u", f"127.0.0.1:{port}", "-m", model, "-i", source, "-o", target]
    done = subprocess.run([*words, "-w", "2", "-r", "1", *options], capture_output=True, text=True, timeout=120)
    answers = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    for answer in answers:
        answer.get("parameters", {}).pop("inference_id", None)  # of the client, and another one each time
        for output in answer.get("outputs", []):
            output["data"] = [f"{v:.3g}" for v in output["data"]]
    answers.sort(key=lambda a: json.dumps(a.get("id") or a.get("parameters", {}), sort_keys=True))
    return [done.returncode, answers]


with tempfile.TemporaryDirectory() as d:
    said = {}
    for model, *options in (("digits", "-s", "1"), ("digits", "-s", "2"), ("digits", "-b"), ("nobody", "-s", "1")):
        said[f"{model} {options}"] = json.dumps(infer(pathlib.Path(d), model, *options), sort_keys=True)
    print(json.dumps(said))
