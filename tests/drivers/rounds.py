"""Runs a driver's rounds: one round for each line on standard input, one line of answer for each round.

A driver script opens its connections once and keeps them, with all that it prepared, while the schema moves under it.
"""

import itertools
import sys
import traceback


def run(round_):
    """Calls round_(n) for the n-th line of standard input; prints `ok`, or the error on one line."""
    print("ready", flush=True)
    for number, _ in zip(itertools.count(), sys.stdin):
        try:
            round_(number)
            print("ok", flush=True)
        except Exception:
            print("failed: " + " | ".join(traceback.format_exc().strip().splitlines()[-6:]), flush=True)


def same(got, wanted):
    """Fails unless what came is what an application of the old schema expects."""
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")
