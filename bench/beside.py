"""The engine beside PyPI's onnxruntime: one thread, the models of ../shared/models (or SLUICE_SHARED), one row and 32."""
import json
import math
import os
import pathlib
import statistics
import subprocess

import world

# N is the rows. Images 48 by 192, 96 by 320 and 48 by 160, 14 tokens, one window of sound: those of the reference cases.
SHAPES = {
    "ad01_autoencoder": [["N", 640]], "banking77_lsa": [["N", 14]], "credit_gbt": [["N", 63]],
    "digits_mlp": [["N", 64]], "iris_logreg": [["N", 4]], "magika_v3_3": [["N", 2048]], "mnist_cntk": [[1, 1, 28, 28]],
    "ppocr_cls": [["N", 3, 48, 192]], "ppocr_det": [["N", 3, 96, 320]], "ppocr_rec": [["N", 3, 48, 160]],
    "resnet8_cifar10": [["N", 32, 32, 3]], "silero_vad_v5": [["N", 576], [2, "N", 128], []],
    "ultraface_rfb320": [[1, 3, 240, 320]],
}  # fmt: skip
ROWS = 1, 32
ROUNDS, SECONDS = 3, 0.4  # of a model and its rows; of a side in a round
MEAN, MOST = 0.9, 1.2  # our time to its: of all, of each
LOAD = 2  # our time and memory to its, of each
FIRST, AT_LEAST = 3, 20e3  # the first run of a shape: so many plain ones, or so many microseconds where that is more


def python():
    """A Python that has onnxruntime: ORT_PYTHON, else the tests' own."""
    for path in (os.environ.get("ORT_PYTHON"), world.ROOT / ".venv" / "bin" / "python", "python3"):
        if not path:
            continue
        words = [str(path), str(world.HERE / "theirs.py"), "version"]
        try:
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            continue
        if done.returncode == 0:
            return str(path), done.stdout.strip()
    raise world.Missing("no Python here has onnxruntime and numpy (pip install onnxruntime; ORT_PYTHON=its python)")


def models():
    shared = pathlib.Path(os.environ.get("SLUICE_SHARED", world.ROOT / ".." / "shared")) / "models"
    found = {name: shared / name / "model.onnx" for name in SHAPES if (shared / name / "model.onnx").is_file()}
    if not found:
        raise world.Missing(f"no models in {shared} (SLUICE_SHARED=DIR)")
    return found


def figures(words):
    done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, text=True, check=True)
    line = done.stdout.split()
    return dict(zip(line[::2], map(float, line[1::2])))


def compare(bench, theirs, name, file, rows):
    """What both say in each round, in turns."""
    shapes = [[rows if dim == "N" else dim for dim in shape] for shape in SHAPES[name]]
    folder = bench.directory / f"{name}-{rows}"
    folder.mkdir()
    subprocess.run([theirs, str(world.HERE / "theirs.py"), "inputs", str(folder), str(file), json.dumps(shapes)], check=True)
    seconds = 0.01 if bench.small else SECONDS
    parts = [f"{folder}/{k}.bin:{'x'.join(map(str, shape))}" for k, shape in enumerate(shapes)]
    ours = [bench.build / "bench" / "engine", "--one", seconds, file, *parts]
    its = [theirs, world.HERE / "theirs.py", "run", seconds, file, folder, json.dumps(shapes)]
    return [(figures(ours), figures(its)) for _ in range(1 if bench.small else ROUNDS)]


def middle(rounds, side, field):
    return statistics.median(each[side][field] for each in rounds)


def ratio(rounds, field):
    return statistics.median(ours[field] / its[field] for ours, its in rounds)


def agree(rounds):
    ours, its = rounds[0][0]["sum"], rounds[0][1]["sum"]
    return math.isclose(ours, its, rel_tol=1e-3, abs_tol=1e-3)


def beside(bench):
    theirs, version = python()
    found = models()
    say, demand = bench.report.say, bench.report.demand
    say(f"## The engine beside onnxruntime {version}")
    say()
    say(f"`bench/engine --one` and `bench/theirs.py`, one thread each, in turns, {ROUNDS} rounds: microseconds of CPU a run, the")
    say("best pass of a round; medians of the rounds, ratio: ours to its. Loading: milliseconds of CPU; memory: what the")
    say("process grows by until its first answer, MiB; first: milliseconds of CPU of the first run, its plan included.")
    say()
    rows_of_table, ratios, loads, memories, firsts = [], {}, {}, {}, {}
    for name, file in found.items():
        batches = ROWS if "N" in SHAPES[name][0] else ROWS[:1]
        for rows in batches:
            rounds = compare(bench, theirs, name, file, rows)
            demand(agree(rounds), f"{name}, {rows}: both answer the same", figure=False) if not agree(rounds) else None
            times = [middle(rounds, side, "run_us") for side in (0, 1)]
            ratios[name, rows] = ratio(rounds, "run_us")
            firsts[name, rows] = middle(rounds, 0, "first_us")
            firsts[name, rows] /= max(FIRST * times[0], AT_LEAST)
            cells = [name, rows, *(f"{t:,.1f}" for t in times), f"{ratios[name, rows]:.2f}"]
            if rows == 1:
                load = [middle(rounds, side, "load_us") / 1e3 for side in (0, 1)]
                memory = [middle(rounds, side, "kib") / 1024 for side in (0, 1)]
                loads[name], memories[name] = ratio(rounds, "load_us"), memory[0] / max(memory[1], 0.1)
                cells += [f"{load[0]:.1f} / {load[1]:.1f}", f"{memory[0]:.1f} / {memory[1]:.1f}"]
            first = [middle(rounds, side, "first_us") / 1e3 for side in (0, 1)]
            rows_of_table.append(cells + ["–"] * (7 - len(cells)) + [f"{first[0]:.1f} / {first[1]:.1f}"])
    bench.report.table(("model", "rows", "ours", "its", "ratio", "loading", "memory", "first"), rows_of_table)
    mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
    worst = max(ratios, key=ratios.get)
    demand(mean <= MEAN, f"our time to its, geometric mean at most {MEAN}: {mean:.2f}")
    demand(ratios[worst] <= MOST, f"and none over {MOST}: {ratios[worst]:.2f} ({worst[0]}, {worst[1]} rows)")
    for what, of in (("loading", loads), ("memory", memories)):
        worst = max(of, key=of.get)
        demand(of[worst] <= LOAD, f"{what}, at most {LOAD} times its: {of[worst]:.2f} ({worst})")
    worst = max(firsts, key=firsts.get)
    allowed = f"the first run within {FIRST} plain ones or {AT_LEAST / 1e3:.0f} ms"
    demand(firsts[worst] <= 1, f"{allowed}: {firsts[worst]:.2f} of that at most ({worst[0]}, {worst[1]} rows)")
    say()
