"""make tour, with short scenes: what a person is to see is there, and it ends well."""
import pathlib
import re
import subprocess
import sys

import pytest

TOUR = pathlib.Path(__file__).with_name("tour.py")


@pytest.mark.slow
def test_the_tour():
    done = subprocess.run([sys.executable, TOUR, "--seconds", "1"], capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert [int(n) for n in re.findall(r"^(\d+)\. ", said, re.M)] == list(range(1, 10)), said
    for scene in ("answered  by", r"\$ sluicectl experiment resume canary", r"\$ sluicectl experiment show canary", "ramp: next: the next step, 25 %"):
        assert re.search(scene, said), (scene, said)
    evidence = re.search(r"rolled_back, by guard: next: errors: (\d+) of (\d+) \(.*\), control 0 of \d+ .*evidence \S+ to 1, 20 to 1 needed", said)
    assert evidence and int(evidence[2]) >= 100, said
    requests, answered, failed, others = map(int, re.search(r"(\d+) requests, (\d+) answered, (\d+) failed by .*, (\d+) others not", said).groups())
    assert failed >= int(evidence[1]) > 0 == others and requests == answered + failed, said
