//! `report`: one page of charts and tables that needs nothing else to be looked at, from the public API alone.
use std::{collections::BTreeMap, io::Write, path::PathBuf};

use jiff::civil;
use proto::{common::v1::Money, scoring::v1 as scoring};
use value::{BgNbd, MbgNbd, Model, Parameters, ParetoNbd};

use crate::{
    cli::Target,
    client::{Client, Error, Result, request, sentence},
    commands,
    output::Output,
    progress::Progress,
    view,
};

mod chart;
mod page;
mod standing;

use chart::{Axes, Series};
use page::{Page, figures, paragraph, table};
use standing::{stages, transitions};

/// Customers of one page of scores: the most that one call answers.
const PAGE: i32 = 1_000;
/// Points of the curve of concentration: more than its width in pixels tells apart.
const CURVE: usize = 200;
/// Columns of the map of P(alive), and the most rows: as many as stay squares.
const COLUMNS: u32 = 26;
const MOST_ROWS: u32 = 24;
/// Segments shown.
const SEGMENTS: usize = 100;

/// Flags of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write (HTML), replaced once the new one is complete; - writes to standard output
    file: PathBuf,
    /// What stands on top
    #[arg(long, default_value = "Customer value", value_name = "TEXT")]
    title: String,
    /// The first day of the moves shown; left out, the last 13 weeks, or all since the day after the first record
    #[arg(long, value_name = "DATE", value_parser = commands::date)]
    since: Option<scoring::Date>,
    /// For the tracking plots: fit up to this day and compare with what came after it; left out, two thirds of the time
    #[arg(long, value_name = "DATE", value_parser = commands::date)]
    until: Option<scoring::Date>,
    #[command(flatten)]
    target: Target,
}

/// `report`.
///
/// # Errors
/// A server that does not answer; a file that cannot be written.
pub async fn run(args: Args) -> Result<()> {
    let client = args.target.client()?;
    let content = Content { title: args.title, since: args.since, until: args.until };
    let html = write(&client, &content, !args.target.json).await?;
    let mut output = Output::create(&args.file)?;
    output.write_all(html.as_bytes())?;
    let to_stdout = output.is_stdout();
    output.finish()?;
    if args.target.json && !to_stdout {
        view::line(serde_json::json!({ "file": args.file.display().to_string(), "bytes": html.len() }).to_string());
    } else if !to_stdout {
        view::line(format!("Open {} in a browser.", args.file.display()));
    }
    Ok(())
}

/// What the page is to show.
#[derive(Debug)]
pub struct Content {
    /// What stands on top.
    pub title: String,
    /// The first day of the moves; absent takes the last 13 weeks of what is recorded.
    pub since: Option<scoring::Date>,
    /// The last day to fit on for the tracking plots; absent takes two thirds of the time.
    pub until: Option<scoring::Date>,
}

/// What the scores of everybody add up to.
#[derive(Debug, Default)]
struct Everybody {
    as_of: Option<prost_types::Timestamp>,
    customers: i64,
    /// Sales less returns of each who bought, in minor units: eight bytes a customer.
    revenue: Vec<i64>,
    currency: String,
    first_day: Option<civil::Date>,
    last_day: Option<civil::Date>,
    /// How many have so many repeat occasions.
    repeats: BTreeMap<u32, u64>,
}

/// The page. Sections of what is not there yet say why.
///
/// # Errors
/// A server that does not answer.
pub async fn write(client: &Client, content: &Content, progress: bool) -> Result<String> {
    let everybody = read(client, progress).await?;
    let subtitle = format!(
        "{} customers, {} of whom have bought; as of {}. Written by clientele {}.",
        view::count(everybody.customers),
        view::count(i64::try_from(everybody.revenue.len()).unwrap_or(i64::MAX)),
        view::time(everybody.as_of.as_ref()),
        env!("CARGO_PKG_VERSION")
    );
    let mut page = Page::new(&content.title, &subtitle);
    let models = commands::all_models(client).await?;
    page.section("pyramid", "The customer pyramid", &pyramids(client).await?);
    page.section("concentration", "Concentration of revenue", &concentration(&everybody)?);
    page.section("stages", "Where the customers stand", &stages(client).await?);
    page.section("transitions", "How they moved", &transitions(client, content.since, everybody.as_of.as_ref()).await?);
    page.section(
        "tracking",
        "What the models foretold and what came",
        &tracking(client, &everybody, content.until, progress).await?,
    );
    page.section("alive", "Who is still a customer", &alive(&models, &everybody)?);
    page.section("models", "The models", &model_table(&models));
    page.section("segments", "Segments", &segments(client).await);
    Ok(page.finish())
}

async fn read(client: &Client, progress: bool) -> Result<Everybody> {
    let counts =
        client.scoring().get_standing_counts(request(scoring::GetStandingCountsRequest {})).await?.into_inner();
    let total: i64 = counts.counts.iter().map(|count| count.customers).sum();
    let progress = Progress::customers("reading", total.unsigned_abs(), 0, progress);
    let (mut all, mut page_token) = (Everybody::default(), String::new());
    loop {
        let message = scoring::ListScoresRequest { as_of: None, page_size: PAGE, page_token };
        let reply = client.scoring().list_scores(request(message)).await?.into_inner();
        all.as_of = reply.as_of;
        for score in &reply.scores {
            all.customers += 1;
            let Some(summary) = &score.summary else { continue };
            let minor = |money: &Option<Money>| money.as_ref().map_or(0, |money| money.minor_units);
            all.revenue.push(minor(&summary.sales).saturating_sub(minor(&summary.returns)));
            if let Some(money) = &summary.sales {
                all.currency.clone_from(&money.currency_code);
            }
            let (first, last) = (summary.first_day.as_ref().and_then(day), summary.last_day.as_ref().and_then(day));
            all.first_day = [all.first_day, first].into_iter().flatten().min();
            all.last_day = [all.last_day, last].into_iter().flatten().max();
            *all.repeats.entry(u32::try_from(summary.repeat_occasions).unwrap_or(0)).or_default() += 1;
        }
        progress.done(all.customers.unsigned_abs());
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            progress.finish();
            return Ok(all);
        }
    }
}

fn day(date: &scoring::Date) -> Option<civil::Date> {
    let part = |value: i32| i8::try_from(value).ok();
    civil::Date::new(i16::try_from(date.year).ok()?, part(date.month)?, part(date.day)?).ok()
}

fn to_proto(date: civil::Date) -> scoring::Date {
    scoring::Date { year: date.year().into(), month: date.month().into(), day: date.day().into() }
}

#[allow(clippy::cast_precision_loss, reason = "charts show three digits")]
fn float(number: i64) -> f64 {
    number as f64
}

async fn pyramids(client: &Client) -> Result<String> {
    let mut html = String::new();
    let mut charts = Vec::new();
    for (basis, name) in
        [(scoring::PyramidBasis::Lifetime, "lifetime value"), (scoring::PyramidBasis::Realised, "realised value")]
    {
        let message = scoring::GetPyramidRequest { basis: basis.into() };
        let reply = match client.scoring().get_pyramid(request(message)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                html.push_str(&paragraph(&format!("By {name}: {}", sentence(&status))));
                continue;
            }
            Err(status) => return Err(status.into()),
        };
        let total = float(reply.customers).max(1.0);
        let labels: Vec<String> = reply.tiers.iter().map(|tier| view::tier(tier.tier)).collect();
        let groups = [
            ("customers", reply.tiers.iter().map(|tier| float(tier.customers) / total).collect()),
            ("revenue", reply.tiers.iter().map(|tier| tier.revenue_share).collect()),
        ];
        let title = format!("Share of customers and of revenue by tier, ranked by {name}");
        charts.push((
            chart::bars(&title, &labels, &groups)?,
            if basis == scoring::PyramidBasis::Lifetime {
                "Ranked by lifetime value: realised and expected"
            } else {
                "Ranked by what was realised so far"
            },
        ));
        let (to, made) = (view::day(reply.as_of.as_ref()), view::time(reply.rank_time.as_ref()));
        html.push_str(&paragraph(&format!("By {name}, purchases to {to}, ranked {made}:")));
        html.push_str(&table(
            &["tier", "customers", "share of revenue", "share of value", "lowest value", "revenue"],
            &[1, 2, 3, 4, 5],
            reply.tiers.iter().map(|tier| {
                vec![
                    view::tier(tier.tier),
                    view::count(tier.customers),
                    view::percent(tier.revenue_share),
                    view::percent(tier.profit_share),
                    view::money(tier.lowest_value.as_ref()),
                    view::money(tier.revenue.as_ref()),
                ]
            }),
        ));
    }
    Ok(figures(&charts) + &html)
}

fn concentration(everybody: &Everybody) -> Result<String> {
    let mut revenue: Vec<i64> = everybody.revenue.iter().copied().filter(|revenue| *revenue > 0).collect();
    if revenue.is_empty() {
        return Ok(paragraph("Nobody has bought yet."));
    }
    revenue.sort_unstable();
    let total: i128 = revenue.iter().map(|minor| i128::from(*minor)).sum();
    let count = revenue.len();
    let (mut points, mut sum, mut area) = (vec![(0.0, 0.0)], 0_i128, 0.0);
    #[allow(clippy::cast_precision_loss, reason = "shares of a sum")]
    let share = |part: i128, whole: i128| part as f64 / whole as f64;
    for (index, minor) in revenue.iter().enumerate() {
        let before = share(sum, total);
        sum += i128::from(*minor);
        area += before + share(sum, total);
        if (index + 1) * CURVE / count != index * CURVE / count || index + 1 == count {
            #[allow(clippy::cast_precision_loss, reason = "a share of a count")]
            points.push(((index + 1) as f64 / count as f64, share(sum, total)));
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "counts of customers are far below 2^52")]
    let gini = 1.0 - area / count as f64;
    let top: i128 = revenue.iter().rev().take(count.div_ceil(5)).map(|minor| i128::from(*minor)).sum();
    let series = [
        Series { name: "if all bought alike".to_owned(), points: vec![(0.0, 0.0), (1.0, 1.0)] },
        Series { name: "revenue".to_owned(), points },
    ];
    let axes = Axes {
        x: "share of customers, smallest first",
        y: "share of revenue",
        mark: None,
        x_label: |x| format!("{:.0} %", x * 100.0),
        y_label: |y| format!("{:.0} %", y * 100.0),
    };
    let chart = chart::lines("Lorenz curve of revenue over customers", &axes, &series)?;
    let sentence = format!(
        "The upper fifth of those who bought brings {} of the revenue of {}; the Gini coefficient is {gini:.2} (0: all alike, 1: one has all).",
        view::percent(share(top, total)),
        view::money(Some(&Money {
            currency_code: everybody.currency.clone(),
            minor_units: i64::try_from(total).unwrap_or(i64::MAX),
        })),
    );
    Ok(figures(&[(chart, "Lorenz curve: the further below the diagonal, the more a few customers carry")])
        + &paragraph(&sentence))
}

async fn tracking(
    client: &Client,
    everybody: &Everybody,
    until: Option<scoring::Date>,
    progress: bool,
) -> Result<String> {
    let (Some(first), Some(last)) = (everybody.first_day, everybody.last_day) else {
        return Ok(paragraph("Nobody has bought yet."));
    };
    let days = first.until(last).map_or(0, |span| span.get_days());
    let default = first.checked_add(jiff::Span::new().days(i64::from(days) * 2 / 3)).unwrap_or(first);
    let until = until.unwrap_or_else(|| to_proto(default));
    let operation = match commands::ask_to_hold_out(client, until, Some(to_proto(last)), progress).await {
        Ok(operation) => operation,
        Err(error) => return Ok(paragraph(&format!("Not available: {}.", error.to_string().trim_end_matches('.')))),
    };
    let found = commands::held_out(&operation)?;
    let Some(one) = found.assessments.first() else { return Ok(paragraph("No model could be fitted.")) };
    let weeks = |value: &dyn Fn(&scoring::HoldOutWeek) -> f64, of: &scoring::HoldOutAssessment| -> Vec<(f64, f64)> {
        of.weeks.iter().zip(1_u32..).map(|(week, number)| (f64::from(number), value(week))).collect()
    };
    let mark = one.weeks.iter().position(|week| week.end.as_ref().and_then(day) >= found.until.as_ref().and_then(day));
    #[allow(clippy::cast_precision_loss, reason = "a number of weeks")]
    let mark = mark.map(|index| (index as f64 + 1.0, "fitted to here"));
    let mut charts = Vec::new();
    type Of = fn(&scoring::HoldOutWeek) -> f64;
    let both: [(&str, &str, Of, Of); 2] = [
        ("Cumulative repeat occasions by week", "Cumulative", |w| float(w.cumulative), |w| w.expected_cumulative),
        ("Repeat occasions in each week", "In each week", |w| float(w.incremental), |w| w.expected_incremental),
    ];
    for (title, caption, actual, expected) in both {
        let mut series = vec![Series { name: "what came".to_owned(), points: weeks(&actual, one) }];
        for assessment in &found.assessments {
            let name = assessment.model.as_ref().map_or("–", |model| commands::model_name(model.kind));
            series.push(Series { name: name.to_owned(), points: weeks(&expected, assessment) });
        }
        let axes = Axes { x: "week", y: "repeat occasions", mark, x_label: |x| format!("{x:.0}"), y_label: short };
        charts.push((chart::lines(title, &axes, &series)?, caption));
    }
    let digits = |number: Option<f64>| number.map_or("–".to_owned(), |number| format!("{number:.3}"));
    let share = |share: Option<f64>| share.map_or("–".to_owned(), view::percent);
    let rows = found.assessments.iter().map(|assessment| {
        vec![
            assessment.model.as_ref().map_or("–", |model| commands::model_name(model.kind)).to_owned(),
            commands::rounded(assessment.expected),
            format!("{:.3}", assessment.rmse),
            digits(assessment.correlation),
            share(assessment.top_decile_share),
        ]
    });
    let assessed =
        table(&["model", "occasions foretold", "RMSE", "correlation", "held by the top tenth"], &[1, 2, 3, 4], rows);
    let sentence = format!(
        "Fitted on purchases to {}, held against those to {}: {} customers bought on {} more days, {} of them those of the tenth that \
         bought most.",
        view::day(found.until.as_ref()),
        view::day(found.as_of.as_ref()),
        view::count(found.customers),
        view::count(found.occasions),
        share(found.top_decile_most),
    );
    Ok(figures(&charts) + &paragraph(&sentence) + &assessed)
}

/// A number that fits beside an axis.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// A model of buying in force, as the library has it.
fn buying(model: &scoring::FittedModel) -> Option<Model> {
    let values: Vec<f64> = model.parameters.iter().map(|parameter| parameter.value).collect();
    let [r, alpha, a, b] = values[..] else { return None };
    match model.kind() {
        scoring::ModelKind::BgNbd => BgNbd::new(Parameters { r, alpha, a, b }).ok().map(Model::from),
        scoring::ModelKind::MbgNbd => MbgNbd::new(Parameters { r, alpha, a, b }).ok().map(Model::from),
        scoring::ModelKind::ParetoNbd => ParetoNbd::new(r, alpha, a, b).ok().map(Model::from),
        scoring::ModelKind::GammaGamma | scoring::ModelKind::Unspecified => None,
    }
}

fn alive(models: &[scoring::FittedModel], everybody: &Everybody) -> Result<String> {
    let model = models.iter().find_map(|model| model.in_force.then(|| buying(model)).flatten());
    let (Some(model), Some(first), Some(last)) = (model, everybody.first_day, everybody.last_day) else {
        return Ok(paragraph("No model of buying is in force: run `clientele fit`."));
    };
    let days = first.until(last).map_or(0, |span| span.get_days()).unsigned_abs().max(1);
    // Rows up to what one in two hundred exceeds.
    let all: u64 = everybody.repeats.values().sum();
    let mut seen = 0;
    let most = everybody.repeats.iter().find(|(_, count)| {
        seen += **count;
        seen * 200 >= all * 199
    });
    let rows = most.map_or(1, |(repeats, _)| *repeats).clamp(4, MOST_ROWS);
    let cells: Vec<Vec<Option<f64>>> = (0..=rows)
        .map(|repeats| {
            (0..COLUMNS)
                .map(|column| {
                    // Who never came back has no day of a last return.
                    let recency = if repeats == 0 { 0 } else { (days * (2 * column + 1)).div_ceil(2 * COLUMNS) };
                    let possible = repeats <= recency && (repeats > 0 || column == 0);
                    let summary = possible.then(|| value::Summary::from_days(repeats, recency, days).ok()).flatten();
                    summary.map(|summary| model.p_alive(&summary))
                })
                .collect()
        })
        .collect();
    let title = format!("Probability of being alive by frequency and recency under {}", model.name());
    let axes = ("weeks from first to last occasion", "repeat occasions");
    let chart = chart::heat(&title, axes, f64::from(days) / 7.0, &cells)?;
    let sentence = format!(
        "Of a customer who first bought {:.0} weeks ago, under {}, which is in force: the darker, the more likely they still are one, from hardly \
         (light) to certainly (dark). Who bought often and stopped is gone sooner than who buys seldom.",
        f64::from(days) / 7.0,
        model.name()
    );
    Ok(figures(&[(chart, "P(alive) over recency and frequency")]) + &paragraph(&sentence))
}

fn model_table(models: &[scoring::FittedModel]) -> String {
    let Some(newest) = models.first() else { return paragraph("No model is fitted yet: run `clientele fit`.") };
    let shown = models.iter().filter(|model| model.in_force || model.fit_time == newest.fit_time);
    table(
        &["model", "parameters (95 % interval)", "log-likelihood", "customers", "purchases to", "in force"],
        &[2, 3],
        shown.map(|model| {
            vec![
                commands::model_name(model.kind).to_owned(),
                model.parameters.iter().map(commands::with_interval).collect::<Vec<_>>().join("\n"),
                format!("{:.1}", model.log_likelihood),
                view::count(model.customers),
                view::day(model.as_of.as_ref()),
                if model.in_force { "yes" } else { "" }.to_owned(),
            ]
        }),
    )
}

async fn segments(client: &Client) -> String {
    let reply = match client.scoring().list_segments(request(scoring::ListSegmentsRequest {})).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return paragraph(&format!("Not available: {}.", Error::from(status))),
    };
    if reply.segments.is_empty() {
        return paragraph("There are none yet.");
    }
    let mut rows = Vec::new();
    for segment in reply.segments.into_iter().take(SEGMENTS) {
        let message = scoring::GetSegmentRequest { segment_id: segment.segment_id.clone(), with_values: true };
        let statistics = match client.scoring().get_segment(request(message)).await {
            Ok(reply) => reply.into_inner().statistics.unwrap_or_default(),
            // Deleted meanwhile, or still too large to add up: its row says what is known.
            Err(_) => scoring::SegmentStatistics::default(),
        };
        let values = statistics.values.as_ref();
        rows.push(vec![
            segment.display_name.clone(),
            commands::segment_state(&segment),
            segment.expression,
            view::count(statistics.customers),
            view::money(values.and_then(|values| values.realised_value.as_ref())),
            view::money(values.and_then(|values| values.lifetime_value.as_ref())),
        ]);
    }
    table(&["segment", "state", "who is in it", "customers", "realised", "lifetime"], &[3, 4, 5], rows)
}
