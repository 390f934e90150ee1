//! BG/NBD: Fader, Hardie & Lee (2005), "Counting Your Customers" the Easy Way, *Marketing Science* 24(2).

use crate::{Error, Fit, Parameters, Summary, geometric::Dropout};

/// The beta-geometric/NBD model: a customer may leave after each *repeat* occasion.
///
/// Who never came back had no chance to leave and is therefore alive for certain. That is a property of the model, not
/// of the customer: never let it decide that somebody is or is not lost; [`crate::MbgNbd`] can.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BgNbd(Parameters);

impl BgNbd {
    const DROPOUT: Dropout = Dropout::AfterRepeats;

    /// The model with known parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the parameter that is not within 1e-9 and 1e12.
    pub fn new(parameters: Parameters) -> Result<Self, Error> {
        parameters.validated().map(Self)
    }

    /// The model most likely to have produced the histories, each with its number of customers; equal ones may come
    /// apart and in any order. Searches from four starts; a million customers take a quarter of a second.
    ///
    /// # Errors
    /// [`Error::NoCustomers`], [`Error::NoRepeatBuyers`], [`Error::AllTheSame`], [`Error::Diverged`] and
    /// [`Error::NotConverged`], as each says.
    pub fn fit(histories: impl IntoIterator<Item = (Summary, u64)>) -> Result<Fit<Self>, Error> {
        Ok(Self::DROPOUT.fit(histories)?.map(Self))
    }

    /// The parameters.
    pub fn parameters(&self) -> Parameters {
        self.0
    }

    /// The logarithm of the likelihood of one history (equation 6 of the paper), with times in weeks.
    pub fn log_likelihood(&self, summary: &Summary) -> f64 {
        Self::DROPOUT.log_likelihood(&self.0, summary)
    }

    /// The probability, within 0 and 1, that the customer has not left by now; 1 for who never came back.
    pub fn p_alive(&self, summary: &Summary) -> f64 {
        Self::DROPOUT.p_alive(&self.0, summary)
    }

    /// Occasions to expect of the customer within `weeks` from now (equation 10 of the paper). Never negative, always
    /// finite; a horizon below 0 or not a number counts as 0, one above [`crate::MAX_WEEKS`] as that.
    pub fn expected_occasions(&self, summary: &Summary, weeks: f64) -> f64 {
        let [occasions] = self.expected_occasions_at(summary, [weeks]);
        occasions
    }

    /// [`expected_occasions`](Self::expected_occasions) for several horizons at once, at hardly more than the cost of
    /// the longest.
    pub fn expected_occasions_at<const L: usize>(&self, summary: &Summary, weeks: [f64; L]) -> [f64; L] {
        Self::DROPOUT.expected_occasions(&self.0, summary, weeks)
    }

    /// What [`expected_occasions_at`](Self::expected_occasions_at) gives for a customer known to be alive, within any
    /// finite `weeks` of at least 0.
    pub(crate) fn occasions_if_alive<const L: usize>(&self, x: u32, t: f64, weeks: [f64; L]) -> [f64; L] {
        Self::DROPOUT.occasions_if_alive(&self.0, x, t, weeks)
    }

    /// Repeat occasions to expect of a customer yet to come within `weeks` of the first occasion: E[X(t)], equation 9 of
    /// the paper. Range and horizon as in [`expected_occasions`](Self::expected_occasions).
    pub fn expected_from_first(&self, weeks: f64) -> f64 {
        Self::DROPOUT.expected_from_first(&self.0, weeks)
    }
}
