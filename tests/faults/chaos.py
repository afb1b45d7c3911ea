#!/usr/bin/env python3
"""make chaos: every scenario with random faults, one behind the other, and a table of what came of it.

    chaos.py [--seconds 300] [--seed N] [SCENARIO...]
    chaos.py --stories N [SCENARIO...]      # as their stories tell, with N times as many answers in each step: to measure

The same seed draws the same faults in the same order; the moments are the machine's. Scenarios without faults of
their own for this (`chaos`) are played as their stories tell. Ends with 1 when one did not end as it demands.
"""
import argparse
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

from lab import Chaos, Row, play, scenarios  # noqa: E402

AROUND_S = 4  # that a scenario takes to start, to heal and to end


def print_table(rows):
    lines = [Row.HEAD, *(r.cells() for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(Row.HEAD))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def played(name, scenario, args, until, left):
    """Its row; what went wrong on the way is a finding."""
    share = (until - time.monotonic()) / left
    chaos = Chaos(f"{args.seed}-{name}", max(3, share - AROUND_S)) if "chaos" in scenario and not args.stories else None
    print(f"{name}: {f'{chaos.length_s:.0f} s of random faults' if chaos else 'its story'}", flush=True)
    try:
        return play(name, scenario, chaos, args.stories or 1)
    except AssertionError as e:
        row = Row(name)
        row.findings = [str(e)]
        return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--stories", type=int, metavar="N")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    args = parser.parse_args()
    print(f"seed {args.seed}")
    chosen, until = scenarios(args.scenarios), time.monotonic() + args.seconds
    rows = [played(name, s, args, until, len(chosen) - i) for i, (name, s) in enumerate(chosen.items())]
    print_table(rows)
    for row in rows:
        for figure in row.figures:
            print(f"{row.name}: {figure}")
        for finding in row.findings:
            print(f"{row.name}: {finding}")
    bad = sum(1 for r in rows if r.findings)
    print(f"{len(rows) - bad} passed, {bad} failed, 0 skipped (seed {args.seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
