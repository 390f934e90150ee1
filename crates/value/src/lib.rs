//! The mathematics of customer value: who is still a customer, how often they will come, what they will spend, and what
//! that is worth today. Pure functions of their arguments: no I/O, no clock, no randomness, no allocation while scoring.
//!
//! | question | here | source |
//! | --- | --- | --- |
//! | what is known of a customer's buying | [`Summary`] | |
//! | alive? how many occasions? | [`BgNbd`] | Fader, Hardie & Lee (2005), *Marketing Science* 24(2) |
//! | the same, doubting one-time buyers too | [`MbgNbd`] | Batislam, Denizel & Filiztekin (2007), *IJRM* 24(3) |
//! | which of the two | [`Model`], [`choose`] | by likelihood; a tie goes to MBG/NBD ([`TIE`]) |
//! | what will an occasion be worth | [`Spend`], [`GammaGamma`], [`correlation`] | Fader & Hardie (2013), note 025 |
//! | what is the customer worth | [`clv`] | Fader, Hardie & Lee (2005), *JMR* 42(4) |
//!
//! Times are in weeks (days / 7). Fits are by maximum likelihood and come as a [`Fit`], or as an [`Error`] that says
//! what in the data stands against one. Results are finite for every value the types admit.

mod bgnbd;
pub mod clv;
mod error;
mod fit;
mod gamma_gamma;
mod geometric;
mod mbgnbd;
mod model;
mod occasions;
mod optimise;
mod special;
mod summary;

pub use bgnbd::BgNbd;
pub use error::Error;
pub use fit::Fit;
pub use gamma_gamma::{GammaGamma, Spend, correlation};
pub use geometric::Parameters;
pub use mbgnbd::MbgNbd;
pub use model::{Model, TIE, choose};
pub use summary::{MAX_WEEKS, Summary};

// The example of the README is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
