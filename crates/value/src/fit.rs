//! Maximum likelihood: from an objective and its starts to a [`Fit`] or the reason why there is none.

use crate::{
    error::Error,
    estimate::{Estimate, Estimates},
    optimise::{End, Matrix, Outcome, curvature, inverse, minimise},
};

/// A fitted model with what is needed to judge the fit.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Fit<M> {
    /// The model at the maximum.
    pub model: M,
    /// The log-likelihood of all customers there.
    pub log_likelihood: f64,
    /// Iterations of the optimiser over all customers, from the start that won.
    pub iterations: u32,
    /// The largest component of the gradient of the mean log-likelihood per customer, by the logarithms of the
    /// parameters: how nearly the point is a maximum. At most 1e-6, as a rule below 1e-8.
    pub gradient_norm: f64,
    /// How many customers the likelihood covers.
    pub customers: u64,
    /// From how many starts the maximum was searched.
    pub starts: u32,
    /// How many of them ended at this maximum. The others ended at a lower one, or nowhere.
    pub agreeing: u32,
    estimates: Estimates,
}

impl<M> Fit<M> {
    /// The same fit around another form of its model.
    pub fn map<O>(self, change: impl FnOnce(M) -> O) -> Fit<O> {
        Fit {
            model: change(self.model),
            log_likelihood: self.log_likelihood,
            iterations: self.iterations,
            gradient_norm: self.gradient_norm,
            customers: self.customers,
            starts: self.starts,
            agreeing: self.agreeing,
            estimates: self.estimates,
        }
    }

    /// The parameters with their standard errors, in the order of the papers.
    ///
    /// The errors come from the observed information at the maximum, taken in the logarithms of the parameters, in which
    /// likelihoods are far rounder; they hold for many customers and say nothing about a model that is wrong.
    pub fn estimates(&self) -> &[Estimate] {
        self.estimates.all()
    }

    /// The covariance of two parameters by their places in [`estimates`](Self::estimates); `None` for another place, and
    /// where the likelihood is too flat to tell.
    pub fn covariance(&self, left: usize, right: usize) -> Option<f64> {
        self.estimates.covariance(left, right)
    }
}

/// A parameter of a model under fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    /// Between these the parameter is believed; a likelihood that still rises there has no maximum.
    pub(crate) bounds: (f64, f64),
    /// What it says about the data when the parameter leaves at the lower or the upper bound.
    pub(crate) runaway: (&'static str, &'static str),
}

impl Axis {
    /// Shape and rate of the gamma distribution of buying rates, which all buying models begin with; customers were seen for `weeks` on average.
    pub(crate) fn of_buying_rates(weeks: f64) -> [Self; 2] {
        const ALIKE: &str = "no difference in buying rates can be seen";
        let r = Self { name: "r", bounds: (1e-4, 1e4), runaway: ("nearly nobody buys again", ALIKE) };
        let bounds = (weeks * 1e-5, weeks * 1e5);
        [r, Self { name: "alpha", bounds, runaway: ("repeat buyers buy without pause", ALIKE) }]
    }
}

/// Groups of equal customers from which the place of the maximum is learnt, where there are many more.
///
/// Enough that the maximum over them lies within a few hundredths of that over all, from where a handful of steps
/// remain; few enough that all starts over them cost less than one such step.
const ROUGH: usize = 8_192;

/// The parameters that maximise a log-likelihood over `customers`, searched in logarithms from every start.
///
/// `log_likelihood` takes parameters and some of the groups, and returns its value and gradient by the logarithms. Where
/// there are very many groups, all starts run over a thinned set of them first, and what they reach is the start over
/// all. Groups should be in an order that spreads what matters, so that every n-th is a fair draw.
pub(crate) fn maximise<const N: usize, G: Copy>(
    axes: &[Axis; N],
    starts: &[[f64; N]],
    customers: u64,
    groups: &[G],
    log_likelihood: impl Fn(&[f64; N], &[G]) -> (f64, [f64; N]),
) -> Result<Fit<[f64; N]>, Error> {
    let search = Search {
        bounds: axes.map(|axis| (axis.bounds.0.ln(), axis.bounds.1.ln())),
        // Customers are counted, so they are far below 2^53.
        scale: -1.0 / customers as f64,
        customers: customers as f64,
        log_likelihood,
    };
    let cold: Vec<_> = starts.iter().map(|start| (start.map(f64::ln), None)).collect();
    let thinning = groups.len() / ROUGH;
    let (outcomes, best) = if thinning < 2 {
        search.from(&cold, groups)
    } else {
        let thin: Vec<G> = groups.iter().step_by(thinning).copied().collect();
        let rough = Search { scale: search.scale * thinning as f64, ..search.by_ref() };
        let (outcomes, best) = rough.from(&cold, &thin);
        match best {
            Some(best) if best.end == End::Converged => {
                // A second maximum would be as good a candidate until all have been asked.
                let mut warm = vec![best];
                for outcome in outcomes.iter().filter(|outcome| outcome.end == End::Converged) {
                    if !warm.iter().any(|other| same_place(other, outcome)) {
                        warm.push(*outcome);
                    }
                }
                let warm: Vec<_> = warm
                    .iter()
                    .map(|outcome| (outcome.point, inverse(&curvature(outcome.point, rough.objective(&thin)))))
                    .collect();
                let (_, best) = search.from(&warm, groups);
                (outcomes, best)
            }
            // What the thinned groups do not hold, all of them may.
            _ => search.from(&cold, groups),
        }
    };
    let Some(best) = best else {
        return Err(Error::NotConverged { iterations: 0, gradient_norm: f64::INFINITY });
    };
    match best.end {
        End::Converged => {
            let information = curvature(best.point, search.objective(groups));
            let covariance = inverse(&information).map(|inverse| inverse.map(|row| row.map(|c| c / search.customers)));
            let model = best.point.map(f64::exp);
            // Ends over a thinned set lie a little off the maximum over all, but together.
            let converged = || outcomes.iter().filter(|outcome| outcome.end == End::Converged);
            let nearest = converged().min_by(|l, r| distance(l, &best).total_cmp(&distance(r, &best)));
            let agreeing = nearest.map_or(0, |nearest| converged().filter(|end| same_place(end, nearest)).count());
            Ok(Fit {
                model,
                log_likelihood: best.value / search.scale,
                iterations: best.iterations,
                gradient_norm: best.gradient_norm,
                customers,
                starts: u32::try_from(starts.len()).unwrap_or(u32::MAX),
                agreeing: u32::try_from(agreeing).unwrap_or(u32::MAX),
                estimates: Estimates::new(axes.map(|axis| axis.name), model, covariance),
            })
        }
        End::LeftBounds(index) => {
            let axis = &axes[index];
            let low = best.point[index] < axis.bounds.0.ln();
            let (value, reason) = if low { (axis.bounds.0, axis.runaway.0) } else { (axis.bounds.1, axis.runaway.1) };
            Err(Error::Diverged { parameter: axis.name, value, reason })
        }
        End::Exhausted => Err(Error::NotConverged { iterations: best.iterations, gradient_norm: best.gradient_norm }),
    }
}

/// A likelihood and where its maximum is looked for.
struct Search<F, const N: usize> {
    bounds: [(f64, f64); N],
    /// From the log-likelihood of the groups to the mean per customer, with a minus.
    scale: f64,
    customers: f64,
    log_likelihood: F,
}

impl<F, const N: usize> Search<F, N> {
    fn by_ref(&self) -> Search<&F, N> {
        Search {
            bounds: self.bounds,
            scale: self.scale,
            customers: self.customers,
            log_likelihood: &self.log_likelihood,
        }
    }

    fn objective<G>(&self, groups: &[G]) -> impl Fn(&[f64; N]) -> (f64, [f64; N])
    where
        F: Fn(&[f64; N], &[G]) -> (f64, [f64; N]),
    {
        |logs| {
            let (value, gradient) = (self.log_likelihood)(&logs.map(f64::exp), groups);
            (value * self.scale, gradient.map(|g| g * self.scale))
        }
    }

    /// Where each start ends, and the best of it.
    #[allow(clippy::wrong_self_convention)] // "The search from these starts".
    fn from<G>(&self, starts: &[([f64; N], Option<Matrix<N>>)], groups: &[G]) -> (Vec<Outcome<N>>, Option<Outcome<N>>)
    where
        F: Fn(&[f64; N], &[G]) -> (f64, [f64; N]),
    {
        let mut best: Option<Outcome<N>> = None;
        let mut outcomes = Vec::with_capacity(starts.len());
        for (start, curvature) in starts {
            let outcome = minimise(*start, *curvature, &self.bounds, self.objective(groups));
            if best.as_ref().is_none_or(|best| self.is_better(&outcome, best)) {
                best = Some(outcome);
            }
            outcomes.push(outcome);
        }
        (outcomes, best)
    }

    /// The higher likelihood wins, a runaway one too: then the maximum found elsewhere is only a local one. Unless the
    /// runaway gains less than a thousandth of a unit in all, which no data can tell apart.
    fn is_better(&self, challenger: &Outcome<N>, best: &Outcome<N>) -> bool {
        const NEGLIGIBLE: f64 = 1e-3;
        let gain = (best.value - challenger.value) * self.customers;
        match (challenger.end == End::Converged, best.end == End::Converged) {
            (true, true) => gain > 0.0,
            (true, false) => best.end == End::Exhausted || gain > -NEGLIGIBLE,
            (false, true) => matches!(challenger.end, End::LeftBounds(_)) && gain > NEGLIGIBLE,
            (false, false) => best.end == End::Exhausted,
        }
    }
}

fn same_place<const N: usize>(left: &Outcome<N>, right: &Outcome<N>) -> bool {
    // In logarithms: a thousandth of a parameter is far more than two ends at one maximum differ by.
    distance(left, right) < 1e-3
}

fn distance<const N: usize>(left: &Outcome<N>, right: &Outcome<N>) -> f64 {
    left.point.iter().zip(right.point).fold(0.0, |most: f64, (l, r)| most.max((l - r).abs()))
}
