//! The mathematics of customer value: who is still a customer, how often they will come, what they will spend, and what
//! that is worth today. Pure functions of their arguments: no I/O, no clock, no randomness, no allocation while scoring.
//!
//! | question | here | source |
//! | --- | --- | --- |
//! | what is known of a customer's buying | [`History`], [`Summary`] | |
//! | alive? how many occasions? | [`BgNbd`] | Fader, Hardie & Lee (2005), *Marketing Science* 24(2) |
//! | the same, doubting one-time buyers too | [`MbgNbd`] | Batislam, Denizel & Filiztekin (2007), *IJRM* 24(3) |
//! | the same, leaving at any time | [`ParetoNbd`] | Schmittlein, Morrison & Colombo (1987), *Management Science* 33(1) |
//! | which of the three | [`Model`], [`choose`] | by likelihood, with a rule for ties ([`TIE`]) |
//! | how well do the data determine it | [`Fit`], [`Estimate`] | observed information |
//! | how well does it foretell | [`holdout`] | |
//! | what will an occasion be worth | [`Spend`], [`GammaGamma`], [`Independence`] | Fader & Hardie (2013), note 025 |
//! | what is the customer worth | [`clv`] | Fader, Hardie & Lee (2005), *JMR* 42(4) |
//! | the same for many customers, fast | [`Valuer`] | |
//! | who renews their contract | [`ShiftedBetaGeometric`] | Fader & Hardie (2007), *J. of Interactive Marketing* 21(1) |
//! | customers to try things on | [`generate`] | |
//!
//! Times are in weeks (days / 7). Fits are by maximum likelihood and come as a [`Fit`], or as an [`Error`] that says
//! what in the data stands against one. Results are finite for every value the types admit.

mod bgnbd;
pub mod clv;
mod error;
mod estimate;
mod fit;
mod gamma_gamma;
pub mod generate;
mod geometric;
mod groups;
mod history;
pub mod holdout;
mod hypergeometric;
mod independence;
mod mbgnbd;
mod model;
mod occasions;
mod optimise;
mod pareto_nbd;
mod shifted_beta_geometric;
mod special;
mod summary;
mod valuer;

pub use bgnbd::BgNbd;
pub use error::Error;
pub use estimate::Estimate;
pub use fit::Fit;
pub use gamma_gamma::{GammaGamma, Spend};
pub use geometric::Parameters;
pub use history::{History, Occasion};
pub use independence::{Independence, Verdict, correlation};
pub use mbgnbd::MbgNbd;
pub use model::{Model, TIE, choose};
pub use pareto_nbd::ParetoNbd;
pub use shifted_beta_geometric::{Contract, ShiftedBetaGeometric};
pub use summary::{MAX_WEEKS, Summary};
pub use valuer::{Valuation, Valuer};

// The example of the README is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
