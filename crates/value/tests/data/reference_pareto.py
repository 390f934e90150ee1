"""Writes reference_pareto.csv: P(alive), ln L and expected occasions under Pareto/NBD to 17 digits, from the formulas as
Fader & Hardie print them, and residual.csv: discounted residual occasions under every model, from the rate at which they fall.

Run in this folder with mpmath installed:  python3 reference_pareto.py
"""

import itertools
import random

import mpmath as mp

mp.mp.dps = 60

PARAMETERS = [
    ("0.553", "10.578", "0.606", "11.669"),  # CDNOW, as published
    ("0.553", "11.669", "0.606", "10.578"),  # the other branch of the formula
    ("2", "7", "1", "7"),  # equal scales, s = 1: logarithms
    ("0.01", "0.05", "0.02", "0.03"),  # everything close to nothing
    ("50", "200", "30", "90"),  # customers much alike
    ("0.7", "0.01", "0.0001", "900"),  # nearly nobody leaves, scales far apart
    ("1.5", "2000", "0.4", "0.001"),  # many leave at once, scales far apart
    ("3", "0.001", "12", "900"),  # quick buyers
]
COUNTS = [0, 1, 2, 30, 400, 5000]
NOW = [1, 30, 400, 10957]  # days: one day to thirty years
LAST = ["1", "0.9", "0.3"]  # as a share of now
WEEKS = ["0.1428571428571428571428571428571428571429", "4.345", "52", "156.42", "1565"]


def digits(figure):
    return mp.nstr(figure, 17, min_fixed=0, max_fixed=0)


def odds_of_leaving(r, alpha, s, beta, x, last, now):
    """w as an integral over the time of leaving: no two large numbers are subtracted."""
    shape = r + x

    def density(y):
        return s / (beta + now) * mp.exp(
            shape * mp.log((alpha + now) / (alpha + y)) + (s + 1) * mp.log((beta + now) / (beta + y))
        )

    if last == now:
        return mp.mpf(0)
    # The integrand may fall by thousands of powers of e right after `last`: split there on a logarithmic scale.
    steps = [last + (now - last) * mp.mpf(2) ** (-k) for k in range(40, -1, -1)]
    return mp.quad(density, [last, *steps])


def pareto(parameters, x, share, days, weeks_given):
    r, alpha, s, beta = map(mp.mpf, parameters)
    now = mp.mpf(days) / 7
    last_days = mp.mpf(days) * mp.mpf(share) if x else mp.mpf(0)
    last, weeks = last_days / 7, mp.mpf(weeks_given)
    w = odds_of_leaving(r, alpha, s, beta, x, last, now)
    shape = r + x
    log_likelihood = (
        mp.loggamma(shape)
        - mp.loggamma(r)
        + r * mp.log(alpha)
        + s * mp.log(beta)
        - shape * mp.log(alpha + now)
        - s * mp.log(beta + now)
        + mp.log1p(w)
    )

    def occasions(shape, alpha, beta):
        if s == 1:
            return shape * beta / alpha * mp.log1p(weeks / beta)
        return shape * beta / (alpha * (s - 1)) * (1 - (beta / (beta + weeks)) ** (s - 1))

    expected = occasions(shape, alpha + now, beta + now) / (1 + w)
    figures = map(digits, (1 / (1 + w), log_likelihood, expected, occasions(r, alpha, beta)))
    return [*parameters, str(x), mp.nstr(last_days, 17), str(days), weeks_given[:18], *figures]


def residual(model, parameters, x, last_days, days, rate):
    """∫ e^(-δt) (rate of occasions at t) dt × P(alive)."""
    first, alpha, third, fourth = map(mp.mpf, parameters)
    last, now = mp.mpf(last_days) / 7, mp.mpf(days) / 7
    delta = mp.log1p(mp.mpf(rate)) / 52
    shape = first + x
    if model == "Pareto/NBD":
        p_alive = 1 / (1 + odds_of_leaving(first, alpha, third, fourth, x, last, now))
        speed = lambda t: shape / (alpha + now) * ((fourth + now) / (fourth + now + t)) ** third
    else:
        chances = x + 1 if model == "MBG/NBD" else x
        survived = fourth + chances
        odds = third / (survived - 1) * ((alpha + now) / (alpha + last)) ** shape if chances else mp.mpf(0)
        p_alive = 1 / (1 + odds)
        speed = lambda t: shape / (alpha + now) * mp.hyp2f1(shape + 1, third, third + survived, -t / (alpha + now))
    edges = [0] + [mp.mpf(10) ** k / delta for k in range(-6, 0)] + [k / delta for k in (mp.mpf("0.3"), 1, 2, 4, 8, 16, 32, 60)]
    with mp.workdps(25):
        total = mp.quad(lambda t: mp.exp(-delta * t) * speed(t), edges)
    return [model, *parameters, str(x), str(last_days), str(days), rate, digits(p_alive * total)]


def main():
    draw = random.Random(1)
    with open("reference_pareto.csv", "w") as file:
        print("r,alpha,s,beta,x,last_days,now_days,weeks,p_alive,log_likelihood,expected,expected_from_first", file=file)
        for parameters in PARAMETERS:
            cases = list(itertools.product(COUNTS, LAST, NOW, WEEKS))
            cases = [case for case in cases if case[0] > 0 or case[1] == "1"]
            # The far corners always, and a draw from the rest.
            corners = [c for c in cases if c[0] in (0, 5000) and c[2] in (1, 10957) and c[3] == "52"]
            rest = [c for c in cases if c not in corners]
            for case in corners + draw.sample(rest, 24):
                print(",".join(pareto(parameters, *case)), file=file, flush=True)
    with open("residual.csv", "w") as file:
        print("model,first,alpha,third,fourth,x,last_days,now_days,yearly_rate,occasions", file=file)
        models = [
            ("BG/NBD", ("0.2426", "4.4136", "0.7929", "2.4259")),
            ("BG/NBD", ("2.5", "10", "1", "4")),
            ("MBG/NBD", ("0.525", "6.183", "0.891", "1.614")),
            ("MBG/NBD", ("0.7", "0.3", "0.0001", "0.5")),
            ("Pareto/NBD", ("0.553", "10.578", "0.606", "11.669")),
            ("Pareto/NBD", ("2", "7", "1", "7")),
        ]
        customers = [(0, 0, 1), (0, 0, 272), (7, 206, 272), (29, 264, 266), (400, 9000, 10957)]
        for (model, parameters), customer, rate in itertools.product(models, customers, ["0.001", "0.15", "2"]):
            print(",".join(residual(model, parameters, *customer, rate)), file=file, flush=True)


main()
