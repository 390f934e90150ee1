//! A fitted model as it is kept, and as the contract has it.
use chassis::{Error, Result};
use jiff::Timestamp;
use proto::scoring::v1 as pb;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use value::{BgNbd, Estimate, Fit, GammaGamma, Independence, MbgNbd, Model, Parameters, ParetoNbd};

use crate::{calendar, score::Day};

/// How sure the intervals are.
const CONFIDENCE: f64 = 0.95;

/// A fitted model.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Its id; grows with time.
    pub id: Uuid,
    /// Which model.
    pub kind: pb::ModelKind,
    /// In the paper's order.
    pub parameters: Vec<f64>,
    /// Log-likelihood at the optimum.
    pub log_likelihood: f64,
    /// Customers it was fitted on.
    pub customers: i64,
    /// The last day counted.
    pub as_of: Day,
    /// When it was fitted.
    pub fit_time: Timestamp,
    /// Gamma-Gamma alone: correlation of frequency and spend.
    pub correlation: Option<f64>,
    /// How far the fit is to be trusted.
    pub quality: Quality,
}

/// How far a fit is to be trusted. Nothing is known of those made before it was kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Of each parameter, in order.
    pub spreads: Vec<Option<Spread>>,
    /// Starts tried.
    pub starts: u32,
    /// Starts that ended at the maximum.
    pub agreeing: u32,
}

/// How well the data determine a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Standard error.
    pub error: f64,
    /// The 95 % interval.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

impl Spread {
    /// `None` where the likelihood is too flat to tell.
    fn of(estimate: &Estimate) -> Option<Self> {
        let error = estimate.standard_error()?;
        let (low, high) = estimate.interval(CONFIDENCE).ok()?;
        // So flat that a bound is no number: that tells nothing either.
        [error, low, high].iter().all(|figure| figure.is_finite()).then_some(Self { error, low, high })
    }
}

impl Fitted {
    /// What a fit on the purchases up to a day gave.
    pub fn new<M>(id: Uuid, kind: pb::ModelKind, fit: &Fit<M>, as_of: Day, fit_time: Timestamp) -> Self {
        Self {
            id,
            kind,
            parameters: fit.estimates().iter().map(Estimate::value).collect(),
            log_likelihood: fit.log_likelihood,
            customers: i64::try_from(fit.customers).unwrap_or(i64::MAX),
            as_of,
            fit_time,
            correlation: None,
            quality: Quality {
                spreads: fit.estimates().iter().map(Spread::of).collect(),
                starts: fit.starts,
                agreeing: fit.agreeing,
            },
        }
    }

    /// The model of buying that it is.
    ///
    /// # Errors
    /// `Internal` where it is none.
    pub fn buying(&self) -> Result<Model> {
        match self.kind {
            pb::ModelKind::BgNbd => Ok(BgNbd::new(self.four()?).map_err(broken)?.into()),
            pb::ModelKind::ParetoNbd => {
                let Parameters { r, alpha, a: s, b: beta } = self.four()?;
                Ok(ParetoNbd::new(r, alpha, s, beta).map_err(broken)?.into())
            }
            _ => Ok(self.mbg_nbd()?.into()),
        }
    }

    /// The MBG/NBD that it is.
    ///
    /// # Errors
    /// `Internal` where it is none.
    pub fn mbg_nbd(&self) -> Result<MbgNbd> {
        MbgNbd::new(self.four()?).map_err(broken)
    }

    /// The Gamma-Gamma that it is.
    ///
    /// # Errors
    /// `Internal` where it is none.
    pub fn spend(&self) -> Result<GammaGamma> {
        match self.parameters[..] {
            [p, q, gamma] => GammaGamma::new(p, q, gamma).map_err(broken),
            _ => Err(Error::Internal(format!("model {} has no three parameters", self.id))),
        }
    }

    fn four(&self) -> Result<Parameters> {
        match self.parameters[..] {
            [r, alpha, a, b] => Ok(Parameters { r, alpha, a, b }),
            _ => Err(Error::Internal(format!("model {} has no four parameters", self.id))),
        }
    }

    /// As protobuf has it.
    pub fn to_proto(&self, in_force: bool) -> pb::FittedModel {
        let names: &[&str] = match self.kind {
            pb::ModelKind::GammaGamma => &["p", "q", "gamma"],
            pb::ModelKind::ParetoNbd => &["r", "alpha", "s", "beta"],
            _ => &["r", "alpha", "a", "b"],
        };
        let spreads = self.quality.spreads.iter().copied().chain(std::iter::repeat(None));
        let parameter = |((name, value), spread): ((&&str, &f64), Option<Spread>)| pb::ModelParameter {
            name: (*name).to_owned(),
            value: *value,
            standard_error: spread.map(|spread| spread.error),
            interval_low: spread.map(|spread| spread.low),
            interval_high: spread.map(|spread| spread.high),
        };
        let independence = match self.correlation {
            None => pb::Independence::Unspecified,
            Some(correlation) if correlation.abs() > Independence::DOUBTFUL => pb::Independence::Doubtful,
            Some(_) => pb::Independence::Holds,
        };
        pb::FittedModel {
            model_id: self.id.to_string(),
            kind: self.kind.into(),
            parameters: names.iter().zip(&self.parameters).zip(spreads).map(parameter).collect(),
            log_likelihood: self.log_likelihood,
            customers: self.customers,
            as_of: Some(calendar::to_proto(self.as_of)),
            fit_time: Some(chassis::clock::to_proto(self.fit_time)),
            in_force,
            frequency_spend_correlation: self.correlation.unwrap_or(0.0),
            starts: i32::try_from(self.quality.starts).unwrap_or(i32::MAX),
            agreeing_starts: i32::try_from(self.quality.agreeing).unwrap_or(i32::MAX),
            independence: independence.into(),
        }
    }
}

/// Which kind a model of buying is.
pub fn kind(model: &Model) -> pb::ModelKind {
    match model {
        Model::BgNbd(_) => pb::ModelKind::BgNbd,
        Model::MbgNbd(_) => pb::ModelKind::MbgNbd,
        Model::ParetoNbd(_) => pb::ModelKind::ParetoNbd,
        // The library may learn more; none of them is fitted here.
        _ => pb::ModelKind::Unspecified,
    }
}

/// What the literature calls a kind of model.
pub fn name(kind: pb::ModelKind) -> &'static str {
    match kind {
        pb::ModelKind::BgNbd => "BG/NBD",
        pb::ModelKind::MbgNbd => "MBG/NBD",
        pb::ModelKind::ParetoNbd => "Pareto/NBD",
        pb::ModelKind::GammaGamma => "Gamma-Gamma",
        pb::ModelKind::Unspecified => "no model",
    }
}

fn broken(error: value::Error) -> Error {
    Error::Internal(format!("a kept model cannot be read: {error}"))
}
