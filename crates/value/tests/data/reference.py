"""Writes reference.csv: P(alive) and expected occasions to 17 digits, straight from the formulas as the papers print them.

Run in this folder with mpmath installed:  python3 reference.py > reference.csv

Columns: model, r, alpha, a, b, x, days from first to last occasion, days from first to now, horizon in weeks, P(alive),
expected occasions within the horizon from now, expected repeat occasions of a new customer within it.
"""

import itertools
import random

import mpmath as mp

mp.mp.dps = 60

PARAMETERS = [
    ("0.2426", "4.4136", "0.7929", "2.4259"),  # CDNOW, as published for BG/NBD
    ("0.525", "6.183", "0.891", "1.614"),  # CDNOW, MBG/NBD
    ("0.01", "0.05", "0.02", "0.03"),  # everything close to nothing
    ("50", "200", "30", "90"),  # customers much alike
    ("1", "2", "2", "3"),  # whole numbers, where transformations to 1 - z degenerate
    ("2.5", "10", "1", "4"),  # a = 1: the printed formula is 0/0
    ("0.7", "0.3", "0.0001", "0.5"),  # nearly nobody leaves
    ("3", "0.001", "1.2", "900"),  # quick buyers who seldom leave
]
COUNTS = [0, 1, 2, 30, 400, 5000]
NOW = [1, 30, 400, 10957]  # days: one day to thirty years
LAST = ["1", "0.9", "0.3"]  # as a share of now
WEEKS = ["0.1428571428571428571428571428571428571429", "4.345", "52", "156.42", "1565"]


def alive_occasions(shape, a, b, s):
    """(a+b-1)/(a-1) [1 - (1-z)^R 2F1(R, b; a+b-1; z)]; a = 1 and a + b = 1 are limits."""
    with mp.workdps(140):
        nudge = mp.mpf(10) ** -60
        a = a + nudge
        z = s / (1 + s)
        c = a + b - 1
        # Gauss's function at z near 1 is slow for large arguments; Euler's transformation is exact.
        if shape > 100 or b > 100:
            scaled = (1 - z) ** (a - 1) * mp.hyp2f1(c - shape, a - 1, c, z)
        else:
            scaled = (1 - z) ** shape * mp.hyp2f1(shape, b, c, z)
        return c / (a - 1) * (1 - scaled)


def row(model, parameters, x, share, days, weeks):
    r, alpha, a, b = map(mp.mpf, parameters)
    now = mp.mpf(days) / 7
    last_days = mp.mpf(days) * mp.mpf(share) if x else mp.mpf(0)
    last = last_days / 7
    weeks_given, weeks = weeks, mp.mpf(weeks)
    modified = model == "MBG/NBD"
    chances = x + 1 if modified else x
    shape, survived = r + x, b + chances
    odds = a / (survived - 1) * ((alpha + now) / (alpha + last)) ** shape if chances else mp.mpf(0)
    p_alive = 1 / (1 + odds)
    expected = p_alive * alive_occasions(shape, a, survived, weeks / (alpha + now))
    if modified:
        fresh = b / (a + b) * alive_occasions(r, a, b + 1, weeks / alpha)
    else:
        fresh = alive_occasions(r, a, b, weeks / alpha)
    figures = [mp.nstr(f, 17, min_fixed=0, max_fixed=0) for f in (p_alive, expected, fresh)]
    return [model, *parameters, str(x), mp.nstr(last_days, 17), str(days), weeks_given[:18], *figures]


def main():
    print("model,r,alpha,a,b,x,last_days,now_days,weeks,p_alive,expected,expected_from_first")
    draw = random.Random(1)
    for model, parameters in itertools.product(["BG/NBD", "MBG/NBD"], PARAMETERS):
        cases = list(itertools.product(COUNTS, LAST, NOW, WEEKS))
        cases = [case for case in cases if case[0] > 0 or case[1] == "1"]
        # The far corners always, and a draw from the rest.
        corners = [c for c in cases if c[0] in (0, 5000) and c[1] == "1" and c[2] in (1, 10957) and c[3] in ("4.345", "1565")]
        rest = [c for c in cases if c not in corners]
        for case in corners + draw.sample(rest, 24):
            print(",".join(row(model, parameters, *case)), flush=True)


main()
