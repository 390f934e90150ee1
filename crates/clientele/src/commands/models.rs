//! `fit`, `models`, `holdout`: the models, how sure they are, and how well they foretell.
use proto::scoring::v1 as scoring;

use super::wait;
use crate::{
    cli::Target,
    client::{Client, Error, Result, new_request_id, request},
    view,
};

/// Models asked for at a time: the largest page.
const PAGE: i32 = 1_000;

/// `fit`.
///
/// # Errors
/// Data that cannot be fitted; a server that does not answer.
pub async fn fit(target: &Target, as_of: Option<scoring::Date>, trial: bool) -> Result<()> {
    let client = target.client()?;
    let message = scoring::FitModelsRequest { request_id: new_request_id(), as_of, trial };
    let operation = client.scoring().fit_models(request(message)).await?.into_inner();
    let operation = wait(&client, operation, !target.json).await?;
    if target.json {
        return view::json("clientele.scoring.v1.Operation", &operation);
    }
    if let Some(scoring::operation::Outcome::Fit(fit)) = operation.outcome {
        view::line(table(&fit.models));
        view::line(fit.choice);
        view::line(fit.tie_rule);
        say_not_fitted(&fit.not_fitted);
        say_doubts(&fit.models);
        if !trial {
            view::line(
                "The cut-offs of tiers and codes are still those of the last ranking, if there was one: run `clientele rank`.",
            );
        }
    }
    Ok(())
}

/// `models`.
///
/// # Errors
/// A server that does not answer.
pub async fn models(target: &Target) -> Result<()> {
    let reply = scoring::ListModelsResponse { models: all(&target.client()?).await?, next_page_token: String::new() };
    if target.json {
        return view::json("clientele.scoring.v1.ListModelsResponse", &reply);
    }
    if reply.models.is_empty() {
        view::line("No model is fitted yet: run `clientele fit`.");
    } else {
        view::line(table(&reply.models));
    }
    Ok(())
}

/// All fitted models, newest first.
///
/// # Errors
/// A server that does not answer.
pub async fn all(client: &Client) -> Result<Vec<scoring::FittedModel>> {
    let (mut models, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = scoring::ListModelsRequest { page_size: PAGE, page_token };
        let reply = client.scoring().list_models(request(message)).await?.into_inner();
        models.extend(reply.models);
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(models);
        }
    }
}

/// `holdout`.
///
/// # Errors
/// A day that leaves nothing to compare; data that cannot be fitted; a server that does not answer.
pub async fn hold_out(target: &Target, until: scoring::Date, as_of: Option<scoring::Date>) -> Result<()> {
    let client = target.client()?;
    let operation = ask_to_hold_out(&client, until, as_of, !target.json).await?;
    if target.json {
        return view::json("clientele.scoring.v1.Operation", &operation);
    }
    view::line(describe(held_out(&operation)?));
    Ok(())
}

/// Asks for a comparison with what came after `until` and waits for it.
///
/// # Errors
/// As [`hold_out`].
pub async fn ask_to_hold_out(
    client: &Client,
    until: scoring::Date,
    as_of: Option<scoring::Date>,
    progress: bool,
) -> Result<scoring::Operation> {
    let message = scoring::HoldOutRequest { request_id: new_request_id(), until: Some(until), as_of };
    let operation = client.scoring().hold_out(request(message)).await?.into_inner();
    wait(client, operation, progress).await
}

/// What a comparison gave.
///
/// # Errors
/// An operation of another kind.
pub fn held_out(operation: &scoring::Operation) -> Result<&scoring::HoldOutResult> {
    match &operation.outcome {
        Some(scoring::operation::Outcome::HoldOut(result)) => Ok(result),
        _ => Err(Error::new("the comparison gave no result")),
    }
}

fn describe(found: &scoring::HoldOutResult) -> String {
    let digits = |number: Option<f64>, digits: usize| number.map_or("–".to_owned(), |n| format!("{n:.digits$}"));
    let share = |share: Option<f64>| share.map_or("–".to_owned(), view::percent);
    let rows = found.assessments.iter().map(|assessment| {
        let last = assessment.weeks.last();
        vec![
            assessment.model.as_ref().map_or("–", |model| model_name(model.kind)).to_owned(),
            rounded(assessment.expected),
            format!("{:.4}", assessment.rmse),
            digits(assessment.correlation, 4),
            share(assessment.top_decile_share),
            last.map_or("–".to_owned(), |week| rounded(week.expected_cumulative)),
        ]
    });
    let header =
        ["model", "occasions foretold", "RMSE", "correlation", "top tenth holds", "repeat occasions from the start"];
    let table = view::table(&header, &[1, 2, 3, 4, 5], rows);
    let bought = found.assessments.first().and_then(|a| a.weeks.last()).map_or(0, |week| week.cumulative);
    let not_fitted: String = found.not_fitted.iter().map(|missing| format!("\n{}", sentence(missing))).collect();
    format!(
        "Fitted on purchases to {}, held against those to {}: {} customers bought on {} more days.\n\
         {table}\nWhat came: {} occasions, {} of them those of the tenth that bought most; {} repeat occasions from the start.{not_fitted}",
        view::day(found.until.as_ref()),
        view::day(found.as_of.as_ref()),
        view::count(found.customers),
        view::count(found.occasions),
        view::count(found.occasions),
        share(found.top_decile_most),
        view::count(bought),
    )
}

/// A number of occasions, to whole ones.
pub fn rounded(number: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "the conversion stops at the limits")]
    view::count(number.round() as i64)
}

/// Name of a model as the literature writes it.
pub fn model_name(kind: i32) -> &'static str {
    match scoring::ModelKind::try_from(kind).unwrap_or_default() {
        scoring::ModelKind::BgNbd => "BG/NBD",
        scoring::ModelKind::MbgNbd => "MBG/NBD",
        scoring::ModelKind::ParetoNbd => "Pareto/NBD",
        scoring::ModelKind::GammaGamma => "Gamma-Gamma",
        scoring::ModelKind::Unspecified => "–",
    }
}

/// Parameters on one line.
pub fn parameters(model: &scoring::FittedModel) -> String {
    model.parameters.iter().map(|p| format!("{} {:.3}", p.name, p.value)).collect::<Vec<_>>().join("  ")
}

/// One parameter with its interval: `r 0.243 (0.219–0.269)`.
pub fn with_interval(parameter: &scoring::ModelParameter) -> String {
    let interval = parameter.interval_low.zip(parameter.interval_high);
    // Bounds of a parameter that is hardly determined run to many digits, which say nothing.
    let figure = |value: f64| if value.abs() < 1e4 { format!("{value:.3}") } else { format!("{value:.1e}") };
    let interval =
        interval.map_or("too flat to tell".to_owned(), |(low, high)| format!("{}–{}", figure(low), figure(high)));
    format!("{} {} ({interval})", parameter.name, figure(parameter.value))
}

fn table(models: &[scoring::FittedModel]) -> String {
    view::table(
        &[
            "model",
            "parameters (95 % interval)",
            "log likelihood",
            "starts that agree",
            "customers",
            "purchases to",
            "fitted",
            "in force",
        ],
        &[2, 3, 4],
        models.iter().map(|model| {
            let parameters: Vec<String> = model.parameters.iter().map(with_interval).collect();
            vec![
                model_name(model.kind).to_owned(),
                parameters.join("\n"),
                format!("{:.1}", model.log_likelihood),
                if model.starts > 0 {
                    format!("{} of {}", model.agreeing_starts, model.starts)
                } else {
                    "–".to_owned()
                },
                view::count(model.customers),
                view::day(model.as_of.as_ref()),
                view::time(model.fit_time.as_ref()),
                if model.in_force { "yes" } else { "" }.to_owned(),
            ]
        }),
    )
}

/// Why a model is not there.
fn sentence(missing: &scoring::NotFitted) -> String {
    format!("{} cannot be fitted: {}.", model_name(missing.kind), missing.reason)
}

fn say_not_fitted(missing: &[scoring::NotFitted]) {
    missing.iter().for_each(|missing| view::line(sentence(missing)));
}

fn say_doubts(models: &[scoring::FittedModel]) {
    for model in models.iter().filter(|model| model.independence() == scoring::Independence::Doubtful) {
        view::line(format!(
            "Frequency and spend correlate by {:.2}, more than the 0.10 up to which Gamma-Gamma takes them to be independent: \
             mind what is expected of frequent buyers.",
            model.frequency_spend_correlation
        ));
    }
}
