"""Parts of bench/run.py that look inside: the rooms' own benches, and the gateway's instructions."""


def core(bench):
    pass


def callgrind(bench):
    pass
