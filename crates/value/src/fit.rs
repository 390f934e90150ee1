//! Maximum likelihood: from an objective and its starts to a [`Fit`] or the reason why there is none.

use crate::{
    error::Error,
    optimise::{End, Outcome, minimise},
};

/// A fitted model with what is needed to judge the fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit<M> {
    /// The model at the maximum.
    pub model: M,
    /// The log-likelihood of all customers there.
    pub log_likelihood: f64,
    /// Iterations of the optimiser from the start that won.
    pub iterations: u32,
    /// The largest component of the gradient of the mean log-likelihood per customer, by the logarithms of the
    /// parameters: how nearly the point is a maximum. At most 1e-6, as a rule below 1e-8.
    pub gradient_norm: f64,
    /// How many customers the likelihood covers.
    pub customers: u64,
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
        }
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

/// The parameters that maximise a log-likelihood over `customers`, searched in logarithms from every start.
///
/// `log_likelihood` takes parameters and returns its value and gradient by their logarithms.
pub(crate) fn maximise<const N: usize>(
    axes: &[Axis; N],
    starts: &[[f64; N]],
    customers: u64,
    mut log_likelihood: impl FnMut(&[f64; N]) -> (f64, [f64; N]),
) -> Result<Fit<[f64; N]>, Error> {
    // Customers are counted, so they are far below 2^53.
    let scale = -1.0 / customers as f64;
    let bounds = axes.map(|axis| (axis.bounds.0.ln(), axis.bounds.1.ln()));
    let mut best: Option<Outcome<N>> = None;
    for start in starts {
        let outcome = minimise(start.map(f64::ln), &bounds, |logs| {
            let (value, gradient) = log_likelihood(&logs.map(f64::exp));
            (value * scale, gradient.map(|g| g * scale))
        });
        if best.as_ref().is_none_or(|best| is_better(&outcome, best, customers)) {
            best = Some(outcome);
        }
    }
    let Some(best) = best else {
        return Err(Error::NotConverged { iterations: 0, gradient_norm: f64::INFINITY });
    };
    match best.end {
        End::Converged => Ok(Fit {
            model: best.point.map(f64::exp),
            log_likelihood: best.value / scale,
            iterations: best.iterations,
            gradient_norm: best.gradient_norm,
            customers,
        }),
        End::LeftBounds(index) => {
            let axis = &axes[index];
            let low = best.point[index] < bounds[index].0;
            let (value, reason) = if low { (axis.bounds.0, axis.runaway.0) } else { (axis.bounds.1, axis.runaway.1) };
            Err(Error::Diverged { parameter: axis.name, value, reason })
        }
        End::Exhausted => Err(Error::NotConverged { iterations: best.iterations, gradient_norm: best.gradient_norm }),
    }
}

/// The higher likelihood wins, a runaway one too: then the maximum found elsewhere is only a local one. Unless the
/// runaway gains less than a thousandth of a unit in all, which no data can tell apart.
fn is_better<const N: usize>(challenger: &Outcome<N>, best: &Outcome<N>, customers: u64) -> bool {
    const NEGLIGIBLE: f64 = 1e-3;
    let gain = (best.value - challenger.value) * customers as f64;
    match (challenger.end == End::Converged, best.end == End::Converged) {
        (true, true) => gain > 0.0,
        (true, false) => best.end == End::Exhausted || gain > -NEGLIGIBLE,
        (false, true) => matches!(challenger.end, End::LeftBounds(_)) && gain > NEGLIGIBLE,
        (false, false) => best.end == End::Exhausted,
    }
}
