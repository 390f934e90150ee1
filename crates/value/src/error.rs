//! Everything that can be refused, each with its reason.

/// Why an input was refused or a model could not be fitted.
///
/// None of these is a fault of the program: the data or the arguments say so, and the message can be shown as it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An argument outside its range.
    #[error("{field} {reason}, but it is {value}")]
    Invalid {
        /// The argument, by the name its documentation gives it.
        field: &'static str,
        /// What was passed.
        value: f64,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// Nothing to fit.
    #[error("there are no customers to fit a model to")]
    NoCustomers,
    /// Nobody bought a second time, so nothing is known about rates or about leaving.
    #[error("no customer came back even once, so a buying rate cannot be fitted")]
    NoRepeatBuyers,
    /// One and the same history for everybody: the spread between customers, which the models describe, is not there.
    #[error("all {customers} customers have the same history, so the differences between them cannot be fitted")]
    AllTheSame {
        /// How many there are.
        customers: u64,
    },
    /// The likelihood keeps rising as a parameter runs away: the data do not hold the effect which it measures.
    #[error("the likelihood has no maximum: {parameter} ran away past {value:e} ({reason})")]
    Diverged {
        /// The first parameter found outside its bounds.
        parameter: &'static str,
        /// The bound that it crossed.
        value: f64,
        /// What a runaway of this parameter says about the data.
        reason: &'static str,
    },
    /// The optimiser stopped short of a maximum from every start.
    #[error("no start reached a maximum: gradient {gradient_norm:e} per customer after {iterations} iterations")]
    NotConverged {
        /// Iterations of the start that came furthest.
        iterations: u32,
        /// Its largest gradient component.
        gradient_norm: f64,
    },
    /// The fitted spread of spend is so wide that its mean does not exist (Gamma-Gamma with q ≤ 1).
    #[error("the fitted spread of spend has no finite mean (q = {q}, and more than 1 is needed)")]
    InfiniteMean {
        /// The fitted shape.
        q: f64,
    },
    /// The likelihood hardly falls around its maximum, so the data do not tell how well they determine this parameter.
    #[error("the likelihood is too flat to tell how well the data determine {parameter}")]
    TooFlat {
        /// The parameter.
        parameter: &'static str,
    },
    /// Log-likelihoods can be compared only over the same customers.
    #[error("the two fits cover {left} and {right} customers and cannot be compared")]
    DifferentCustomers {
        /// Customers under the first fit.
        left: u64,
        /// Customers under the second.
        right: u64,
    },
}

/// Passes `value` on when it is a number within `low..=high`.
pub(crate) fn within(field: &'static str, value: f64, low: f64, high: f64, reason: &'static str) -> Result<f64, Error> {
    // A NaN is in no range.
    if (low..=high).contains(&value) { Ok(value) } else { Err(Error::Invalid { field, value, reason }) }
}
