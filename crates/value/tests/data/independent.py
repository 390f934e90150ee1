"""Writes independent_fits.csv and independent_figures.csv: what lifetimes 0.11.3, an independent implementation, finds on real data.

Run in this folder with lifetimes 0.11.3, numpy 2.4, pandas 3.0 and scipy 1.17 installed; the two files are not ours to ship:

    python3 independent.py online_retail.csv.gz CDNOW_master.txt

- online_retail.csv.gz: UCI "Online Retail" (Chen, 2015), 541,909 invoice lines, packed. Lines with a customer and with
  quantity and price above 0: 4,338 customers, all of the file's 53 weeks.
- CDNOW_master.txt: the whole CDNOW cohort of Fader & Hardie, 69,659 purchases of 23,570 customers, of which the sample that ships
  with the project is a tenth. lifetimes brings it along (lifetimes/datasets/). Purchases up to 1997-09-30, as in the papers.

Purchases of one day are one occasion, weeks are days / 7, spend is the mean over repeat occasions with a value above 0.

independent_fits.csv: data, model, customers, the parameters it ends at and the log-likelihood that it gives them; over all customers there the
sums of P(alive), of its square, of E[X(39 weeks)], and of its square (Gamma-Gamma: sums of E[M] and of its square, then twice 0).
independent_figures.csv: at the same parameters, made-up histories (data, model, x, days from first to last, days from first to now) with P(alive) and
E[X(39)].
"""

import csv
import itertools
import sys
import warnings

import numpy as np
import pandas as pd
from lifetimes import BetaGeoFitter, GammaGammaFitter, ModifiedBetaGeoFitter, ParetoNBDFitter

WEEKS = 39
# Below this s nothing that is computed from it changes by more than that, and its own formulas lose digits.
LEAST_S = 1e-6
# The tightest at which each still reports convergence on these data; its default, 1e-7 or 1e-4, stops early.
TOLERANCE = {BetaGeoFitter: (1e-9, 1e-7), ModifiedBetaGeoFitter: (1e-9, 1e-7), ParetoNBDFitter: (1e-10,)}
NAMES = {BetaGeoFitter: "BG/NBD", ModifiedBetaGeoFitter: "MBG/NBD", ParetoNBDFitter: "Pareto/NBD"}
HISTORIES = [
    (x, round(share * now), now)
    for x, share, now in itertools.product([0, 1, 2, 5, 12, 40], [0.25, 0.7, 1.0], [60, 180, 270, 372])
    if x or share == 1.0
]


def online_retail(path):
    lines = pd.read_csv(path, usecols=["CustomerID", "InvoiceDate", "Quantity", "UnitPrice"])
    lines = lines[lines.CustomerID.notna() & (lines.Quantity > 0) & (lines.UnitPrice > 0)]
    day = pd.to_datetime(lines.InvoiceDate).dt.normalize()
    return pd.DataFrame({"id": lines.CustomerID, "day": day, "value": lines.Quantity * lines.UnitPrice})


def cdnow(path):
    lines = pd.read_csv(path, sep=r"\s+", skiprows=1, names=["id", "date", "cds", "value"])
    day = pd.to_datetime(lines.date, format="%Y%m%d")
    return pd.DataFrame({"id": lines.id, "day": day, "value": lines.value})[day <= "1997-09-30"]


def summaries(purchases):
    occasions = purchases.groupby(["id", "day"]).value.sum().reset_index()
    of = occasions.groupby("id")
    first, last, x = of.day.min(), of.day.max(), of.size() - 1

    end = occasions.day.max()
    repeat = occasions[occasions.duplicated("id") & (occasions.value > 0)].groupby("id").value
    days = pd.DataFrame({"x": x, "last": (last - first).dt.days, "now": (end - first).dt.days})
    days["n"] = repeat.size().reindex(x.index).fillna(0).astype(int)
    days["mean"] = repeat.mean().reindex(x.index).fillna(0.0)
    return days


def fitted(kind, customers):
    for tolerance in TOLERANCE[kind]:
        try:
            model = kind()
            model.fit(customers.x, customers["last"] / 7, customers.now / 7, tol=tolerance)
            return model
        except Exception as error:
            print(f"{NAMES[kind]} at {tolerance}: {type(error).__name__}", file=sys.stderr)
    raise SystemExit(f"{NAMES[kind]} does not converge")


def log_likelihood(model, customers):
    parameters = model.params_.to_numpy()
    pareto = isinstance(model, ParetoNBDFitter)
    arguments = parameters if pareto else np.log(parameters)
    ones = np.ones(len(customers))
    loss = model._negative_log_likelihood(arguments, customers.x.to_numpy(), customers["last"].to_numpy() / 7, customers.now.to_numpy() / 7, ones, 0.0)
    return -loss * (1 if pareto else len(customers))


def figures(model, x, last, now):
    alive = model.conditional_probability_alive(x, last, now)
    expected = model.conditional_expected_number_of_purchases_up_to_time(WEEKS, x, last, now)
    return np.asarray(alive, float), np.asarray(expected, float)


def sums(*columns):
    return [f(column) for column in columns for f in (np.sum, lambda c: np.sum(c * c))]


def printed(values):
    return [repr(float(value)) for value in values]


def main():
    warnings.filterwarnings("ignore")
    retail, master = sys.argv[1:]
    with open("independent_fits.csv", "w", newline="") as fits, open("independent_figures.csv", "w", newline="") as made_up:
        fits, made_up = (csv.writer(file, lineterminator="\n") for file in (fits, made_up))
        names = ["data", "model", "customers", "first", "second", "third", "fourth", "log_likelihood"]
        fits.writerow([*names, "alive", "alive_squared", "expected", "expected_squared"])
        made_up.writerow(["data", "model", "x", "last_days", "now_days", "p_alive", "expected"])
        for data, purchases in [("Online Retail", online_retail(retail)), ("CDNOW", cdnow(master))]:
            customers = summaries(purchases)
            weeks = customers["last"].to_numpy() / 7, customers.now.to_numpy() / 7
            for kind in NAMES:
                model = fitted(kind, customers)
                if "s" in model.params_:
                    model.params_["s"] = max(model.params_["s"], LEAST_S)
                totals = sums(*figures(model, customers.x.to_numpy(), *weeks))
                fit = [*model.params_, log_likelihood(model, customers), *totals]
                fits.writerow([data, NAMES[kind], len(customers), *printed(fit)])
                x, last, now = (np.array(column) for column in zip(*HISTORIES))
                for history, of in zip(HISTORIES, zip(*figures(model, x, np.where(x > 0, last, 0) / 7, now / 7))):
                    history = (history[0], history[1] if history[0] else 0, history[2])
                    made_up.writerow([data, NAMES[kind], *history, *printed(of)])
            buyers = customers[customers.n > 0]
            spend = GammaGammaFitter()
            spend.fit(buyers.n, buyers["mean"])
            parameters = spend.params_.to_numpy()
            loss = spend._negative_log_likelihood(np.log(parameters), buyers.n.to_numpy(), buyers["mean"].to_numpy(), np.ones(len(buyers)), 0.0)
            expected = spend.conditional_expected_average_profit(customers.n, customers["mean"]).to_numpy()
            fit = [*parameters, 0.0, -loss * len(buyers), *sums(expected), 0.0, 0.0]
            fits.writerow([data, "Gamma-Gamma", len(buyers), *printed(fit)])


main()
