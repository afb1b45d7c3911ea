"""Every scenario of tests/faults/scenarios, as its story tells it."""
import pytest
from lab import play, scenarios

ALL = scenarios()
# Under the sanitizers, which take three times as long, these are enough; the others are for `make test`.
FEW = {"killed-one-by-one", "the-smaller-one-answers", "what-is-kept-answers", "wrong-answers", "half-open"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FEW else pytest.mark.slow) for n in ALL])
def test_scenario(name):
    row = play(name, ALL[name])
    print(*row.cells(), sep=" | ")
    print(*row.figures, sep="\n")
    assert not row.findings, "\n".join(row.findings)


def test_the_laboratory_notices():
    """Of what is wrong in this one, everything is found."""
    story = [{"phase": "well", "sources": ["m"]}, {"answers": 20}, {"phase": "ill", "sources": ["other"], "at_least": {"m": 10**9}}]
    story += [{"do": "set", "to": "w/0", "factor": 3}, {"answers": 20}, {"do": "set", "to": "w/0", "acts": {"INTERNAL": 1}}, {"answers": 20}]
    demands = {"sources": ["other"], "metrics": {'sluice_events_total{event="batch"}': 0}, "some": {"poison": ">0"}, "levels": {"m": [0, 1]}}
    row = play("noticed", {"workers": {"w": {"models": {"m": {}}}}, "load": [{"model": "m", "h1": 2, "grpc": 1}], "story": story, "demands": demands})
    found = "\n".join(row.findings)
    for words in ("wrong answers", "requests: internal", "poison: 0", "answers from m", "phase ill", 'event="batch"}', "levels of m"):
        assert words in found, (words, found)
    assert "phase well" not in found and "twice" not in found and "lost" not in found, found
