//! Holding the models against the future: fitted up to a day, compared with what came after it.
use chassis::{Error, Result};
use proto::scoring::v1 as pb;
use uuid::Uuid;
use value::{
    History, Occasion,
    holdout::{Assessment, Report, Week},
};

use crate::{
    calendar, fit,
    fitted::{Fitted, kind},
    operation::{Job, Outcome},
    score::Day,
    standing::PAGE,
    store,
};

/// Compares and writes the result. Run again after a crash, it compares again.
///
/// # Errors
/// `Precondition` with NOT_FITTABLE where nobody had bought by then or no model can be fitted; `Database`.
pub async fn run(job: &Job) -> Result<()> {
    let request: pb::HoldOutRequest = prost::Message::decode(job.operation.request.as_slice())
        .map_err(|error| Error::Internal(format!("kept request of an operation: {error}")))?;
    let date = request.until.as_ref().and_then(calendar::find);
    let until = date.ok_or_else(|| Error::Internal("a comparison without its day".to_owned()))?;
    let as_of = job.operation.as_of;
    let histories = read(job, as_of).await?;
    let customers = i64::try_from(histories.len()).unwrap_or(i64::MAX);
    job.progress("fits and compares", customers, customers);
    let report = tokio::task::spawn_blocking(move || value::holdout::report(&histories, until, as_of))
        .await
        .map_err(|error| Error::Internal(format!("the comparison broke off: {error}")))?
        .map_err(|error| {
            let all = [pb::ModelKind::BgNbd, pb::ModelKind::MbgNbd, pb::ModelKind::ParetoNbd];
            fit::not_fittable(&all.map(|kind| (kind, error.clone())))
        })?;
    let outcome = &Outcome::HeldOut(to_proto(job, &report));
    job.db
        .run_tx("end_hold_out", |tx| {
            Box::pin(store::operation::end(tx, job.operation.id, job.context.replica, outcome))
        })
        .await
        .map(|_| ())
}

/// The occasions of everybody who bought: 16 bytes each, and some 40 a customer.
async fn read(job: &Job, as_of: Day) -> Result<Vec<History>> {
    let (total, _) = store::customer::count(job.db.read()).await?;
    let (mut histories, mut after, mut seen) = (Vec::new(), None, 0);
    loop {
        let page = store::customer::ids(job.db.read(), after, PAGE).await?;
        let (Some(first), Some(last)) = (page.first().copied(), page.last().copied()) else { break };
        let days = store::purchase::days_between(job.db.read(), first, last, as_of).await?;
        for days in days.chunk_by(|(left, _), (right, _)| left == right) {
            // What was spent plays no part.
            let occasions = days.iter().map(|(_, day)| Occasion { day: *day, value: 0.0 });
            histories.push(History::new(occasions).map_err(|error| Error::Internal(format!("the ledger: {error}")))?);
        }
        seen += i64::try_from(page.len()).unwrap_or(0);
        job.progress("reads purchases", seen, total);
        if (page.len() as u64) < PAGE {
            break;
        }
        after = Some(last);
    }
    Ok(histories)
}

fn to_proto(job: &Job, report: &Report) -> pb::HoldOutResult {
    let (until, now) = (report.calibration_end, job.context.clock.now());
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let week = |week: &Week| pb::HoldOutWeek {
        end: Some(calendar::to_proto(week.end)),
        cumulative: count(week.cumulative),
        expected_cumulative: week.expected_cumulative,
        incremental: count(week.incremental),
        expected_incremental: week.expected_incremental,
    };
    let assessment = |found: &Assessment| {
        let fitted = Fitted::new(Uuid::nil(), kind(&found.fit.model), &found.fit, until, now);
        pb::HoldOutAssessment {
            model: Some(pb::FittedModel { model_id: String::new(), fit_time: None, ..fitted.to_proto(false) }),
            expected: found.expected,
            rmse: found.rmse,
            correlation: found.correlation,
            top_decile_share: found.captured,
            weeks: found.tracking.iter().map(week).collect(),
        }
    };
    let not_fitted = |(name, error): &(&'static str, value::Error)| {
        let kinds = [pb::ModelKind::BgNbd, pb::ModelKind::MbgNbd, pb::ModelKind::ParetoNbd];
        let kind = kinds.into_iter().find(|kind| crate::fitted::name(*kind) == *name).unwrap_or_default();
        fit::not_fitted(kind, error)
    };
    pb::HoldOutResult {
        until: Some(calendar::to_proto(until)),
        as_of: Some(calendar::to_proto(report.end)),
        customers: count(report.customers),
        occasions: count(report.occasions),
        top_decile_most: report.capturable,
        assessments: report.assessments.iter().map(assessment).collect(),
        not_fitted: report.not_fitted.iter().map(not_fitted).collect(),
    }
}
