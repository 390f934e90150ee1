//! One face for the buying models, and the choice between them.

use crate::{BgNbd, Error, Fit, MbgNbd, ParetoNbd, Summary};

/// A fitted model of when customers buy and leave. More models may join.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Model {
    /// See [`crate::BgNbd`].
    BgNbd(BgNbd),
    /// See [`crate::MbgNbd`].
    MbgNbd(MbgNbd),
    /// See [`crate::ParetoNbd`].
    ParetoNbd(ParetoNbd),
}

impl From<BgNbd> for Model {
    fn from(model: BgNbd) -> Self {
        Self::BgNbd(model)
    }
}

impl From<MbgNbd> for Model {
    fn from(model: MbgNbd) -> Self {
        Self::MbgNbd(model)
    }
}

impl From<ParetoNbd> for Model {
    fn from(model: ParetoNbd) -> Self {
        Self::ParetoNbd(model)
    }
}

/// Calls the same method of whichever model it is.
macro_rules! each {
    ($model:expr, $inner:ident => $call:expr) => {
        match $model {
            Model::BgNbd($inner) => $call,
            Model::MbgNbd($inner) => $call,
            Model::ParetoNbd($inner) => $call,
        }
    };
}

impl Model {
    /// Fits all three models and [`choose`]s among those that can be fitted.
    ///
    /// # Errors
    /// The reason why MBG/NBD could not be fitted, if none could; see [`MbgNbd::fit`].
    pub fn fit(histories: impl IntoIterator<Item = (Summary, u64)>) -> Result<Fit<Self>, Error> {
        let histories: Vec<_> = histories.into_iter().collect();
        let mbg = MbgNbd::fit(histories.iter().copied());
        let reason = mbg.as_ref().err().cloned();
        let fits = [
            mbg.map(|fit| fit.map(Self::from)),
            ParetoNbd::fit(histories.iter().copied()).map(|fit| fit.map(Self::from)),
            BgNbd::fit(histories).map(|fit| fit.map(Self::from)),
        ];
        choose(fits.into_iter().flatten()).map_err(|error| reason.unwrap_or(error))
    }

    /// The name by which the literature calls the model.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BgNbd(_) => "BG/NBD",
            Self::MbgNbd(_) => "MBG/NBD",
            Self::ParetoNbd(_) => "Pareto/NBD",
        }
    }

    /// The parameters with the names that the papers give them, in their order.
    pub fn parameters(&self) -> [(&'static str, f64); 4] {
        let of_geometric = |p: crate::Parameters| [("r", p.r), ("alpha", p.alpha), ("a", p.a), ("b", p.b)];
        match self {
            Self::BgNbd(model) => of_geometric(model.parameters()),
            Self::MbgNbd(model) => of_geometric(model.parameters()),
            Self::ParetoNbd(model) => {
                [("r", model.r()), ("alpha", model.alpha()), ("s", model.s()), ("beta", model.beta())]
            }
        }
    }

    /// Shape and rate (in weeks) of the gamma distribution of buying rates.
    pub(crate) fn rates(&self) -> (f64, f64) {
        let [(_, r), (_, alpha), ..] = self.parameters();
        (r, alpha)
    }

    /// The logarithm of the likelihood of one history.
    pub fn log_likelihood(&self, summary: &Summary) -> f64 {
        each!(self, model => model.log_likelihood(summary))
    }

    /// The probability, within 0 and 1, that the customer has not left by now. Under BG/NBD it is 1 for who never came
    /// back, which says nothing about them: see [`BgNbd`].
    pub fn p_alive(&self, summary: &Summary) -> f64 {
        each!(self, model => model.p_alive(summary))
    }

    /// Occasions to expect of the customer within `weeks` from now; see [`BgNbd::expected_occasions`] for the ranges.
    pub fn expected_occasions(&self, summary: &Summary, weeks: f64) -> f64 {
        let [occasions] = self.expected_occasions_at(summary, [weeks]);
        occasions
    }

    /// [`expected_occasions`](Self::expected_occasions) for several horizons at once, at hardly more than the cost of
    /// the longest.
    pub fn expected_occasions_at<const L: usize>(&self, summary: &Summary, weeks: [f64; L]) -> [f64; L] {
        each!(self, model => model.expected_occasions_at(summary, weeks))
    }

    /// Occasions within each of `weeks` (finite, at least 0) from now of a customer who is known to be alive, after `x` repeat occasions in `t`
    /// weeks: times P(alive), it is the expectation.
    pub(crate) fn occasions_if_alive<const L: usize>(&self, x: u32, t: f64, weeks: [f64; L]) -> [f64; L] {
        each!(self, model => model.occasions_if_alive(x, t, weeks))
    }

    /// Repeat occasions to expect of a customer yet to come within `weeks` of the first occasion.
    pub fn expected_from_first(&self, weeks: f64) -> f64 {
        each!(self, model => model.expected_from_first(weeks))
    }

    /// Which of several about equally likely models is taken: the lowest.
    fn place(&self) -> u8 {
        match self {
            Self::MbgNbd(_) => 0,
            Self::ParetoNbd(_) => 1,
            Self::BgNbd(_) => 2,
        }
    }
}

/// How many units of log-likelihood count as a tie between two models.
///
/// All have four parameters, so information criteria compare them by likelihood alone, and a lead below 2 is commonly held
/// to be no evidence (Burnham & Anderson, 2002).
pub const TIE: f64 = 2.0;

/// The most likely of several models of the same customers. Of those less than [`TIE`] behind the best, the first of
/// MBG/NBD, Pareto/NBD, BG/NBD is taken: BG/NBD last, since it alone cannot doubt that who bought once is still a customer;
/// Pareto/NBD after MBG/NBD, since its figures take longer.
///
/// # Errors
/// [`Error::NoCustomers`] of no models at all, [`Error::DifferentCustomers`] when they do not cover equally many
/// customers.
pub fn choose(fits: impl IntoIterator<Item = Fit<Model>>) -> Result<Fit<Model>, Error> {
    let fits: Vec<Fit<Model>> = fits.into_iter().collect();
    let Some(first) = fits.first() else { return Err(Error::NoCustomers) };
    if let Some(other) = fits.iter().find(|other| other.customers != first.customers) {
        return Err(Error::DifferentCustomers { left: first.customers, right: other.customers });
    }
    let best = fits.iter().fold(f64::NEG_INFINITY, |best, fit| best.max(fit.log_likelihood));
    let tied = fits.iter().filter(|fit| best - fit.log_likelihood < TIE);
    tied.min_by_key(|fit| fit.model.place()).copied().ok_or(Error::NoCustomers)
}
