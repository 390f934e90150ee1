//! One face for the buying models, and the choice between them.

use crate::{BgNbd, Error, Fit, MbgNbd, Parameters, Summary};

/// A fitted model of when customers buy and leave. More models may join.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Model {
    /// See [`crate::BgNbd`].
    BgNbd(BgNbd),
    /// See [`crate::MbgNbd`].
    MbgNbd(MbgNbd),
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

impl Model {
    /// Fits both models and [`choose`]s. Where only one can be fitted, that one it is.
    ///
    /// # Errors
    /// The reason why MBG/NBD could not be fitted, if neither could; see [`MbgNbd::fit`].
    pub fn fit(histories: impl IntoIterator<Item = (Summary, u64)>) -> Result<Fit<Self>, Error> {
        let histories: Vec<_> = histories.into_iter().collect();
        let bg = BgNbd::fit(histories.iter().copied());
        let mbg = MbgNbd::fit(histories);
        match (bg, mbg) {
            (Ok(bg), Ok(mbg)) => choose(bg, mbg),
            (Ok(bg), Err(_)) => Ok(bg.map(Self::from)),
            (Err(_), mbg) => Ok(mbg?.map(Self::from)),
        }
    }

    /// The name by which the literature calls the model.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BgNbd(_) => "BG/NBD",
            Self::MbgNbd(_) => "MBG/NBD",
        }
    }

    /// The parameters.
    pub fn parameters(&self) -> Parameters {
        match self {
            Self::BgNbd(model) => model.parameters(),
            Self::MbgNbd(model) => model.parameters(),
        }
    }

    /// The logarithm of the likelihood of one history.
    pub fn log_likelihood(&self, summary: &Summary) -> f64 {
        match self {
            Self::BgNbd(model) => model.log_likelihood(summary),
            Self::MbgNbd(model) => model.log_likelihood(summary),
        }
    }

    /// The probability, within 0 and 1, that the customer has not left by now. Under BG/NBD it is 1 for who never came
    /// back, which says nothing about them: see [`BgNbd`].
    pub fn p_alive(&self, summary: &Summary) -> f64 {
        match self {
            Self::BgNbd(model) => model.p_alive(summary),
            Self::MbgNbd(model) => model.p_alive(summary),
        }
    }

    /// Occasions to expect of the customer within `weeks` from now; see [`BgNbd::expected_occasions`] for the ranges.
    pub fn expected_occasions(&self, summary: &Summary, weeks: f64) -> f64 {
        let [occasions] = self.expected_occasions_at(summary, [weeks]);
        occasions
    }

    /// [`expected_occasions`](Self::expected_occasions) for several horizons at once, at hardly more than the cost of
    /// the longest.
    pub fn expected_occasions_at<const L: usize>(&self, summary: &Summary, weeks: [f64; L]) -> [f64; L] {
        match self {
            Self::BgNbd(model) => model.expected_occasions_at(summary, weeks),
            Self::MbgNbd(model) => model.expected_occasions_at(summary, weeks),
        }
    }

    /// Repeat occasions to expect of a customer yet to come within `weeks` of the first occasion.
    pub fn expected_from_first(&self, weeks: f64) -> f64 {
        match self {
            Self::BgNbd(model) => model.expected_from_first(weeks),
            Self::MbgNbd(model) => model.expected_from_first(weeks),
        }
    }
}

/// By how many units of log-likelihood BG/NBD must be ahead to be chosen over MBG/NBD.
///
/// Both have four parameters, so information criteria compare them by likelihood alone. A lead below 2 is commonly held
/// to be no evidence (Burnham & Anderson, 2002); then MBG/NBD is taken, since only it can doubt that who bought once is
/// still a customer.
pub const TIE: f64 = 2.0;

/// The more likely of two models of the same customers; MBG/NBD unless BG/NBD leads by at least [`TIE`].
///
/// # Errors
/// [`Error::DifferentCustomers`] when the fits do not cover equally many customers.
pub fn choose(bg: Fit<BgNbd>, mbg: Fit<MbgNbd>) -> Result<Fit<Model>, Error> {
    if bg.customers != mbg.customers {
        return Err(Error::DifferentCustomers { left: bg.customers, right: mbg.customers });
    }
    let lead = bg.log_likelihood - mbg.log_likelihood;
    Ok(if lead >= TIE { bg.map(Model::from) } else { mbg.map(Model::from) })
}
