//! Fitting the models to what is in the ledger.
use chassis::{Error, Result};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use uuid::Uuid;
use value::{BgNbd, Fit, GammaGamma, MbgNbd, Model, ParetoNbd, Spend, Summary};

use crate::{
    estimate,
    fitted::{Fitted, kind, name},
    operation::{Job, Outcome},
    score::{self, Day},
    standing::PAGE,
    store,
    store::in_force::Chosen,
};

/// What the models are fitted to: some 60 bytes a customer.
#[derive(Debug, Default)]
struct Data {
    histories: Vec<(Summary, u64)>,
    spends: Vec<(Spend, u64)>,
}

/// What a fit gave.
#[derive(Debug)]
struct Fits {
    /// In the order of the contract.
    buying: Vec<Fit<Model>>,
    /// The one to compute with.
    chosen: Option<Fit<Model>>,
    spend: Option<Fit<GammaGamma>>,
    correlation: Option<f64>,
    not_fitted: Vec<(pb::ModelKind, value::Error)>,
}

/// Fits the models, keeps them, and puts the chosen ones into force.
///
/// # Errors
/// `Precondition` with NOT_FITTABLE and the reasons in the data where nothing can be fitted; `Database`.
pub async fn run(job: &Job) -> Result<()> {
    let data = read(job).await?;
    let customers = i64::try_from(data.histories.len()).unwrap_or(i64::MAX);
    job.progress("fits the models", customers, customers);
    let fits = tokio::task::spawn_blocking(move || fit(data))
        .await
        .map_err(|error| Error::Internal(format!("the fit broke off: {error}")))??;

    let kept = keep(job, &fits);
    let id_of = |wanted| kept.iter().find(|fitted| fitted.kind == wanted).map(|fitted| fitted.id);
    let chosen = &Chosen {
        buying: fits.chosen.and_then(|fit| id_of(kind(&fit.model))),
        one_timers: id_of(pb::ModelKind::MbgNbd),
        spend: id_of(pb::ModelKind::GammaGamma),
    };
    let estimate = &estimate::fit(job, models(job, &fits)).await?;
    let trial = job.operation.trial;
    let in_force = |id: Uuid| !trial && [chosen.buying, chosen.spend].contains(&Some(id));
    let outcome = &Outcome::Fitted(pb::FitResult {
        models: kept.iter().map(|fitted| fitted.to_proto(in_force(fitted.id))).collect(),
        choice: choice(&fits),
        tie_rule: tie_rule(),
        not_fitted: fits.not_fitted.iter().map(|(kind, error)| not_fitted(*kind, error)).collect(),
        potential: Some(estimate.to_proto()),
    });
    let potential = job.context.ids.next();
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
                    store::in_force::set_models(tx, chosen).await?;
                    if let Ok(fitted) = &estimate.fitted {
                        let customers = i64::try_from(estimate.buyers).unwrap_or(i64::MAX);
                        store::potential::insert(tx, potential, job.operation.as_of, customers, fitted).await?;
                    }
                }
                store::operation::end(tx, job.operation.id, job.context.replica, outcome).await?;
                Ok(())
            })
        })
        .await
}

/// What this fit would compute with; absent where it found no model of buying or none of spending.
fn models(job: &Job, fits: &Fits) -> Option<score::Models> {
    let one_timers = fits.buying.iter().find_map(|fit| match fit.model {
        Model::MbgNbd(model) => Some(model),
        _ => None,
    });
    let (buying, spend) = (fits.chosen.as_ref()?.model, fits.spend.as_ref()?.model);
    Some(score::Models::new(Uuid::nil(), buying, one_timers, Some(spend), job.scorer.future))
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
    /// Customers to read in all.
    pub total: i64,
}

impl Pages {
    /// Nothing read yet.
    ///
    /// # Errors
    /// `Database`.
    pub async fn new(job: &Job, as_of: Day) -> Result<Self> {
        let (everybody, buyers) = store::customer::count(job.db.read()).await?;
        let from_ledger = as_of < job.scorer.day(job.context.clock.now());
        // Whose books are to be added up again is not known before.
        let total = if from_ledger { everybody } else { buyers };
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
        let (ids, kept) = if self.from_ledger {
            (store::customer::ids(job.db.read(), self.after, PAGE).await?, None)
        } else {
            let after = self.after;
            let read = move |connection| async move { store::customer::buyers(&connection, after, PAGE).await };
            let page = job.db.read_apart(read).await?;
            (page.iter().map(|(id, _)| *id).collect(), Some(page))
        };
        let (Some(first), Some(last)) = (ids.first().copied(), ids.last().copied()) else { return Ok(None) };
        self.after = Some(last);
        self.done = (ids.len() as u64) < PAGE;
        self.seen += i64::try_from(ids.len()).unwrap_or(0);
        if kept.is_some() {
            return Ok(kept);
        }
        let mut summaries = store::purchase::summaries_between(job.db.read(), first, last, self.as_of).await?;
        // Who had only given things back by then had not bought.
        summaries.retain(|(_, summary)| summary.occasions > 0);
        store::service_cost::add_between(job.db.read(), first, last, self.as_of, &mut summaries).await?;
        Ok(Some(summaries))
    }
}

fn fit(data: Data) -> Result<Fits> {
    let histories = || data.histories.iter().copied();
    let fits = [
        (pb::ModelKind::BgNbd, BgNbd::fit(histories()).map(|fit| fit.map(Model::from))),
        (pb::ModelKind::MbgNbd, MbgNbd::fit(histories()).map(|fit| fit.map(Model::from))),
        (pb::ModelKind::ParetoNbd, ParetoNbd::fit(histories()).map(|fit| fit.map(Model::from))),
    ];
    let (mut buying, mut not_fitted) = (Vec::new(), Vec::new());
    for (kind, fit) in fits {
        match fit {
            Ok(fit) => buying.push(fit),
            Err(error) => not_fitted.push((kind, error)),
        }
    }
    let spend = GammaGamma::fit(data.spends.iter().copied())
        .map_err(|error| not_fitted.push((pb::ModelKind::GammaGamma, error)))
        .ok();
    if buying.is_empty() && spend.is_none() {
        return Err(not_fittable(&not_fitted));
    }
    // All are fitted to the same customers, so only none at all cannot be chosen from.
    let chosen = value::choose(buying.iter().copied()).ok();
    Ok(Fits { buying, chosen, spend, correlation: value::correlation(data.spends), not_fitted })
}

/// The refusal where nothing can be fitted, models with one reason together.
pub fn not_fittable(not_fitted: &[(pb::ModelKind, value::Error)]) -> Error {
    let mut reasons: Vec<(String, &value::Error)> = Vec::new();
    for (kind, error) in not_fitted {
        match reasons.iter_mut().find(|(_, reason)| *reason == error) {
            Some((names, _)) => *names = format!("{names}, {}", name(*kind)),
            None => reasons.push((name(*kind).to_owned(), error)),
        }
    }
    let reasons: Vec<String> = reasons.into_iter().map(|(names, reason)| format!("{names}: {reason}")).collect();
    let message = format!("nothing can be fitted: {}", reasons.join("; "));
    Error::Precondition { reason: ErrorReason::NotFittable, message }
}

/// A model that the data do not carry, as protobuf has it.
pub fn not_fitted(kind: pb::ModelKind, error: &value::Error) -> pb::NotFitted {
    pb::NotFitted { kind: kind.into(), reason: error.to_string() }
}

/// The fitted models in the order of the contract.
fn keep(job: &Job, fits: &Fits) -> Vec<Fitted> {
    let (as_of, now) = (job.operation.as_of, job.context.clock.now());
    let next = || job.context.ids.next();
    let buying = fits.buying.iter().map(|fit| Fitted::new(next(), kind(&fit.model), fit, as_of, now));
    let spend = fits.spend.iter().map(|fit| Fitted {
        correlation: fits.correlation,
        ..Fitted::new(next(), pb::ModelKind::GammaGamma, fit, as_of, now)
    });
    buying.chain(spend).collect()
}

/// Which model of buying was chosen, and why.
fn choice(fits: &Fits) -> String {
    let Some(chosen) = &fits.chosen else {
        return "None: no model of buying can be fitted. The one in force before, if any, stays.".to_owned();
    };
    let others: Vec<String> = fits
        .buying
        .iter()
        .filter(|fit| fit.model != chosen.model)
        .map(|fit| format!("{:.1} of {}", fit.log_likelihood, fit.model.name()))
        .collect();
    let (name, likelihood) = (chosen.model.name(), chosen.log_likelihood);
    if others.is_empty() {
        return format!("{name}, the only one that can be fitted (log-likelihood {likelihood:.1})");
    }
    let ahead = fits.buying.iter().all(|fit| fit.log_likelihood <= likelihood);
    let why = if ahead { "the highest" } else { "as good as the highest" };
    format!("{name}: its log-likelihood of {likelihood:.1} is {why}, against {}", others.join(" and "))
}

fn tie_rule() -> String {
    format!(
        "Of those less than {} units of log-likelihood behind the best, the first of MBG/NBD, Pareto/NBD, BG/NBD is taken.",
        value::TIE
    )
}
