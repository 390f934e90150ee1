//! Fitting the models to what is in the ledger.
use chassis::{Error, Result};
use jiff::Timestamp;
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use uuid::Uuid;
use value::{BgNbd, Fit, GammaGamma, MbgNbd, Model, Parameters, Spend, Summary};

use crate::{
    calendar,
    operation::{Job, Outcome},
    score::{self, Day},
    store,
};

/// Customers read at a time.
const PAGE: u64 = 5_000;

/// A fitted model as it is kept.
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
}

impl Fitted {
    /// The model of buying that it is.
    ///
    /// # Errors
    /// `Internal` where it is none.
    pub fn buying(&self) -> Result<Model> {
        match self.kind {
            pb::ModelKind::BgNbd => Ok(BgNbd::new(self.four()?).map_err(broken)?.into()),
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
        let names: &[&str] =
            if self.kind == pb::ModelKind::GammaGamma { &["p", "q", "gamma"] } else { &["r", "alpha", "a", "b"] };
        let parameters = names.iter().zip(&self.parameters);
        pb::FittedModel {
            model_id: self.id.to_string(),
            kind: self.kind.into(),
            parameters: parameters
                .map(|(name, value)| pb::ModelParameter { name: (*name).to_owned(), value: *value })
                .collect(),
            log_likelihood: self.log_likelihood,
            customers: self.customers,
            as_of: Some(calendar::to_proto(self.as_of)),
            fit_time: Some(chassis::clock::to_proto(self.fit_time)),
            in_force,
            frequency_spend_correlation: self.correlation.unwrap_or(0.0),
        }
    }
}

fn broken(error: value::Error) -> Error {
    Error::Internal(format!("a kept model cannot be read: {error}"))
}

/// What the models are fitted to: some 60 bytes a customer.
#[derive(Debug, Default)]
struct Data {
    histories: Vec<(Summary, u64)>,
    spends: Vec<(Spend, u64)>,
}

/// What a fit gave.
struct Fits {
    bg: Result<Fit<BgNbd>, value::Error>,
    mbg: Fit<MbgNbd>,
    /// The better one of the two.
    buying: Fit<Model>,
    spend: Fit<GammaGamma>,
    correlation: Option<f64>,
}

/// Fits the models, keeps them, and puts the better ones into force.
///
/// # Errors
/// `Precondition` with NOT_FITTABLE and the reason in the data; `Database`.
pub async fn run(job: &Job) -> Result<()> {
    let data = read(job).await?;
    let customers = i64::try_from(data.histories.len()).unwrap_or(i64::MAX);
    job.progress("fits the models", customers, customers);
    let fits = tokio::task::spawn_blocking(move || fit(data))
        .await
        .map_err(|error| Error::Internal(format!("the fit broke off: {error}")))??;

    let kept = keep(job, &fits);
    let id_of = |kind| kept.iter().find(|fitted| fitted.kind == kind).map(|fitted| fitted.id);
    let buying =
        id_of(if matches!(fits.buying.model, Model::BgNbd(_)) { pb::ModelKind::BgNbd } else { pb::ModelKind::MbgNbd });
    let (one_timers, spend) = (id_of(pb::ModelKind::MbgNbd), id_of(pb::ModelKind::GammaGamma));
    let (Some(buying), Some(one_timers), Some(spend)) = (buying, one_timers, spend) else {
        return Err(Error::Internal("a fitted model is not among those kept".to_owned()));
    };
    let trial = job.operation.trial;
    let outcome = &Outcome::Fitted(pb::FitResult {
        models: kept
            .iter()
            .map(|fitted| fitted.to_proto(!trial && (fitted.id == buying || fitted.id == spend)))
            .collect(),
        choice: choice(&fits),
    });
    let kept = &kept;
    job.db
        .run_tx("end_fit", |tx| {
            Box::pin(async move {
                if !store::operation::is_held(tx, job.operation.id, job.context.replica).await? {
                    return Ok(());
                }
                for fitted in kept {
                    store::in_force::insert_model(tx, fitted).await?;
                }
                if !trial {
                    store::in_force::set_models(tx, buying, one_timers, spend).await?;
                }
                store::operation::end(tx, job.operation.id, job.context.replica, outcome).await?;
                Ok(())
            })
        })
        .await
}

/// Reads everybody who bought, page by page.
async fn read(job: &Job) -> Result<Data> {
    let as_of = job.operation.as_of;
    let mut data = Data::default();
    let mut pages = Pages::new(job, as_of).await?;
    while let Some(page) = pages.next(job).await? {
        for (_, summary) in page {
            let Some((history, spend)) = score::statistics(&summary, &job.scorer.books, as_of) else { continue };
            data.histories.push((history, 1));
            data.spends.push((spend, 1));
        }
        job.progress("reads purchases", pages.seen, pages.total);
    }
    Ok(data)
}

/// Summaries of all who had bought by a day, page by page: those kept where the day is today, the ledger's for an earlier one.
#[derive(Debug)]
pub struct Pages {
    as_of: Day,
    from_ledger: bool,
    after: Option<Uuid>,
    done: bool,
    /// Customers read so far.
    pub seen: i64,
    /// Customers in all.
    pub total: i64,
}

impl Pages {
    /// Nothing read yet.
    ///
    /// # Errors
    /// `Database`.
    pub async fn new(job: &Job, as_of: Day) -> Result<Self> {
        let (_, total) = store::customer::count(job.db.read()).await?;
        let from_ledger = as_of < job.scorer.day(job.context.clock.now());
        Ok(Self { as_of, from_ledger, after: None, done: false, seen: 0, total })
    }

    /// The next page by customer; absent at the end.
    ///
    /// # Errors
    /// `Database`.
    pub async fn next(&mut self, job: &Job) -> Result<Option<Vec<(Uuid, score::Summary)>>> {
        if self.done {
            return Ok(None);
        }
        let page = store::customer::page(job.db.read(), self.after, PAGE, true).await?;
        let (Some(first), Some(last)) = (page.first().map(|c| c.id), page.last().map(|c| c.id)) else {
            return Ok(None);
        };
        self.after = Some(last);
        self.done = (page.len() as u64) < PAGE;
        self.seen += i64::try_from(page.len()).unwrap_or(0);
        if !self.from_ledger {
            return Ok(Some(page.into_iter().map(|customer| (customer.id, customer.summary)).collect()));
        }
        let mut summaries = store::purchase::summaries_between(job.db.read(), first, last, self.as_of).await?;
        // Who had only given things back by then had not bought.
        summaries.retain(|(_, summary)| summary.occasions > 0);
        Ok(Some(summaries))
    }
}

fn fit(data: Data) -> Result<Fits> {
    // Not to be done without, even where BG/NBD is the better one: only it can tell which one-time buyers have left.
    let mbg = MbgNbd::fit(data.histories.iter().copied()).map_err(not_fittable("MBG/NBD"))?;
    let bg = BgNbd::fit(data.histories.iter().copied());
    let buying = match &bg {
        Ok(bg) => value::choose([bg.map(Model::from), mbg.map(Model::from)])
            .map_err(not_fittable("the better model of buying"))?,
        Err(_) => mbg.map(Model::from),
    };
    let spend = GammaGamma::fit(data.spends.iter().copied()).map_err(not_fittable("Gamma-Gamma"))?;
    let correlation = value::correlation(data.spends);
    Ok(Fits { bg, mbg, buying, spend, correlation })
}

fn not_fittable(model: &'static str) -> impl FnOnce(value::Error) -> Error {
    move |error| {
        let message = format!("{model} cannot be fitted: {error}");
        Error::Precondition { reason: ErrorReason::NotFittable, message }
    }
}

/// The fitted models in the order BG/NBD, MBG/NBD, Gamma-Gamma.
fn keep(job: &Job, fits: &Fits) -> Vec<Fitted> {
    let keep = |kind, parameters, log_likelihood, customers, correlation| Fitted {
        id: job.context.ids.next(),
        kind,
        parameters,
        log_likelihood,
        customers: i64::try_from(customers).unwrap_or(i64::MAX),
        as_of: job.operation.as_of,
        fit_time: job.context.clock.now(),
        correlation,
    };
    let four = |p: Parameters| vec![p.r, p.alpha, p.a, p.b];
    let mut kept = Vec::new();
    if let Ok(bg) = &fits.bg {
        let parameters = four(bg.model.parameters());
        kept.push(keep(pb::ModelKind::BgNbd, parameters, bg.log_likelihood, bg.customers, None));
    }
    let (mbg, spend) = (&fits.mbg, &fits.spend);
    let parameters = four(mbg.model.parameters());
    kept.push(keep(pb::ModelKind::MbgNbd, parameters, mbg.log_likelihood, mbg.customers, None));
    let parameters = vec![spend.model.p(), spend.model.q(), spend.model.gamma()];
    kept.push(keep(pb::ModelKind::GammaGamma, parameters, spend.log_likelihood, spend.customers, fits.correlation));
    kept
}

/// Which model of buying was chosen, and by which rule.
fn choice(fits: &Fits) -> String {
    let chosen = fits.buying.model.name();
    match &fits.bg {
        Err(error) => format!("{chosen}: BG/NBD cannot be fitted ({error})"),
        Ok(bg) => format!(
            "{chosen}: log-likelihood {:.1} of BG/NBD against {:.1} of MBG/NBD, and BG/NBD is taken only when it is \
             ahead by {} or more",
            bg.log_likelihood,
            fits.mbg.log_likelihood,
            value::TIE
        ),
    }
}
