//! `export scores`: every customer's scores of one moment as CSV, page by page: no more than a page is ever held, and what broke off is gone on with.
use std::{
    collections::HashMap,
    io::{self, Write},
    path::PathBuf,
};

use chassis::Clock;
use jiff::Timestamp;
use proto::{common::v1::Money, profiles::v1 as profiles, scoring::v1 as scoring};
use tonic::{Code, Status};

use crate::{
    cli::Target,
    client::{Client, Error, Result, is_passing, request},
    output::Output,
    progress::Progress,
    view,
};

mod part;

use part::{Asked, Part, Reached};

/// Customers of one page: the most that one call answers.
const PAGE: usize = 1_000;
/// Records of customers asked for at a time: long ones must fit into one answer (4 MiB), so that a fifth of a page is asked for.
const RECORDS: usize = 200;
/// Tries of one call while the server is away or busy, with a second between them: a restart, not an outage.
const TRIES: u32 = 60;

/// Flags of `export scores`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write, replaced once the new one is complete; - writes to standard output
    ///
    /// Until then it is FILE.part. If the export breaks off, the same command goes on with it, as of the same moment; without --as-of only for
    /// twelve hours, and then it begins anew.
    file: PathBuf,
    /// Begin anew, whatever FILE.part there is
    #[arg(long)]
    anew: bool,
    /// The moment to compute for, such as 1998-06-30T12:00:00Z, or a day for its end in UTC; left out or today, now
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// Add the customer's id in this system of yours, where they have one
    #[arg(long, value_name = "SYSTEM")]
    identity: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// The columns, without the one of the other system.
const HEADER: [&str; 24] = [
    "customer_id",
    "as_of",
    "relationship",
    "stage",
    "tier",
    "code",
    "estimated",
    "first_day",
    "last_day",
    "occasions",
    "repeat_occasions",
    "recency_weeks",
    "age_weeks",
    "p_alive",
    "expected_occasions",
    "currency",
    "sales",
    "returns",
    "expected_spend",
    "realised_value",
    "expected_value",
    "lifetime_value",
    "model_id",
    "revision",
];

/// `export scores`.
///
/// # Errors
/// A moment that is none; a file that cannot be written; a server that stays away.
pub async fn scores(args: Args) -> Result<()> {
    let client = args.target.client()?;
    let clock = Clock::system();
    let as_of = args.as_of.as_deref().map(|text| moment(text, clock.now())).transpose()?.flatten();
    let total = customers(&client).await?.unsigned_abs();
    let (mut to, reached) = if args.file.as_os_str() == "-" {
        (To::Stdout(Output::create(&args.file)?), Reached::default())
    } else {
        let asked =
            Asked { server: args.target.server.clone(), as_of: args.as_of.clone(), identity: args.identity.clone() };
        let (part, reached) = Part::open(&args.file, asked, args.anew, clock.now())?;
        (To::Part(part, clock), reached)
    };
    let progress = Progress::customers("exporting", total, reached.customers, !args.target.json);
    let before = reached.customers;
    let written = write(&client, as_of, args.identity.as_deref(), reached, &mut to, &progress).await;
    progress.finish();
    let to_stdout = matches!(to, To::Stdout(_));
    let written = match written {
        Ok(written) => written,
        Err(error) if to.break_off() => {
            return Err(Error::new(format!("{error}\n  Run the same command again to go on with what is written.")));
        }
        Err(error) => return Err(error),
    };
    to.finish()?;
    if let (Some(system), 0, 0, 1..) = (&args.identity, written.identified, before, written.customers) {
        let _ = writeln!(
            io::stderr(),
            "warning: nobody is known in a system {system:?}, so the column external_id is empty"
        );
    }
    if args.target.json && !to_stdout {
        let before = if written.anew { 0 } else { before };
        view::line(
            serde_json::json!({ "customers": written.customers, "before": before, "as_of": written.as_of }).to_string(),
        );
    } else if !to_stdout {
        let before = match before {
            0 => String::new(),
            _ if written.anew => "; what an export before had written did not fit any more".to_owned(),
            before => format!("; {} of them had been written before it broke off", count(before)),
        };
        let file = args.file.display();
        view::line(format!("{} customers as of {} in {file}{before}.", count(written.customers), written.as_of));
    }
    Ok(())
}

fn count(number: u64) -> String {
    view::count(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Where an export goes.
enum To {
    Stdout(Output),
    Part(Part, Clock),
}

impl To {
    fn write(&mut self, bytes: &[u8], reached: &Reached) -> Result<()> {
        match self {
            Self::Stdout(output) => Ok(output.write_all(bytes)?),
            Self::Part(part, clock) => part.write(bytes, reached, clock.now()),
        }
    }

    fn break_off(self) -> bool {
        match self {
            Self::Stdout(_) => false,
            Self::Part(part, _) => part.break_off(),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Stdout(output) => output.finish(),
            Self::Part(part, _) => part.finish(),
        }
    }
}

/// A moment, or the end of a day; none for today, which has not ended: that is now.
fn moment(text: &str, now: Timestamp) -> Result<Option<prost_types::Timestamp>> {
    let wrong = || Error::new(format!("--as-of {text}: is not a moment such as 1998-06-30T12:00:00Z or 1998-06-30"));
    let moment = match text.parse::<Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let day: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
            if day == now.to_zoned(jiff::tz::TimeZone::UTC).date() {
                return Ok(None);
            }
            let end = day.at(23, 59, 59, 999_999_000).to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
            end.timestamp()
        }
    };
    Ok(Some(chassis::clock::to_proto(moment)))
}

/// About how many customers there are, for the progress bar.
async fn customers(client: &Client) -> Result<i64> {
    let message = scoring::GetStandingCountsRequest {};
    let reply = client.scoring().get_standing_counts(request(message)).await?.into_inner();
    Ok(reply.counts.iter().map(|count| count.customers).sum())
}

/// What was written.
#[derive(Debug, Default)]
struct Written {
    /// How many customers, those before a break included.
    customers: u64,
    /// How many of them have an id in the system that was asked for; those before a break not included.
    identified: u64,
    /// As of when.
    as_of: String,
    /// Whether what there was had to be thrown away.
    anew: bool,
}

/// Writes everybody's scores behind what is there already.
async fn write(
    client: &Client,
    as_of: Option<prost_types::Timestamp>,
    identity: Option<&str>,
    mut reached: Reached,
    to: &mut To,
    progress: &Progress,
) -> Result<Written> {
    let mut written = Written::default();
    let mut goes_on = !reached.page_token.is_empty();
    loop {
        let page = patiently(|| {
            let page_size = i32::try_from(PAGE).unwrap_or(i32::MAX);
            let message = scoring::ListScoresRequest { as_of, page_size, page_token: reached.page_token.clone() };
            let mut scoring = client.scoring();
            async move { scoring.list_scores(request(message)).await }
        })
        .await;
        let fits = match &page {
            Ok(page) => fits(&reached.model_id, &page.scores),
            Err(status) => status.code() != Code::InvalidArgument,
        };
        if goes_on && !fits {
            // Another server's page, or other models since: half a file of each would be neither.
            let To::Part(part, _) = to else { return Err(Error::new("standard output is never gone on with")) };
            part.begin_anew()?;
            (reached, goes_on, written.anew) = (Reached::default(), false, true);
            continue;
        }
        goes_on = false;
        let page = page?;
        written.as_of = page.as_of.as_ref().map(iso).unwrap_or_default();
        let ids = match identity {
            Some(system) => identities(client, system, &page.scores).await?,
            None => HashMap::new(),
        };
        written.identified += ids.len() as u64;
        let rows = rows(&page.scores, identity.map(|_| &ids), reached.bytes == 0)?;
        reached.customers += page.scores.len() as u64;
        reached.bytes += rows.len() as u64;
        reached.page_token = page.next_page_token;
        if let Some(score) = page.scores.iter().find(|score| !score.model_id.is_empty()) {
            reached.model_id.clone_from(&score.model_id);
        }
        to.write(&rows, &reached)?;
        progress.done(reached.customers);
        if reached.page_token.is_empty() {
            written.customers = reached.customers;
            return Ok(written);
        }
    }
}

/// Whether these scores come from the same model of buying as those before.
fn fits(model_id: &str, scores: &[scoring::Score]) -> bool {
    model_id.is_empty() || scores.iter().all(|score| score.model_id.is_empty() || score.model_id == model_id)
}

/// A page as CSV, with the header where it is the first.
fn rows(scores: &[scoring::Score], ids: Option<&HashMap<String, String>>, first: bool) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| Error::new(format!("cannot write: {error}"));
    let mut file = csv::Writer::from_writer(Vec::new());
    if first {
        file.write_record(HEADER.into_iter().chain(ids.map(|_| "external_id"))).map_err(|error| failed(&error))?;
    }
    for score in scores {
        let customer = score.standing.as_ref().map(|standing| standing.customer_id.as_str()).unwrap_or_default();
        let external = ids.map(|ids| ids.get(customer).cloned().unwrap_or_default());
        file.write_record(row(score).into_iter().chain(external)).map_err(|error| failed(&error))?;
    }
    file.into_inner().map_err(|error| failed(error.error()))
}

/// The ids that these customers have in a system.
async fn identities(client: &Client, system: &str, scores: &[scoring::Score]) -> Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    let ids: Vec<&str> = scores
        .iter()
        .filter_map(|score| score.standing.as_ref())
        .map(|standing| standing.customer_id.as_str())
        .collect();
    for chunk in ids.chunks(RECORDS) {
        let reply =
            patiently(|| {
                let customer_ids = chunk.iter().map(|id| (*id).to_owned()).collect();
                let mut profiles = client.profiles();
                async move {
                    profiles.batch_get_customers(request(profiles::BatchGetCustomersRequest { customer_ids })).await
                }
            })
            .await?;
        for customer in reply.customers {
            let identity = customer.identities.into_iter().find(|identity| identity.system == system);
            found.extend(identity.map(|identity| (customer.customer_id, identity.id)));
        }
    }
    Ok(found)
}

/// Asks again while the server is away or busy: a reading call does no harm.
async fn patiently<T, F>(call: impl Fn() -> F) -> std::result::Result<T, Status>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match call().await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(status) if is_passing(&status) && tries < TRIES => {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Err(status) => return Err(status),
        }
    }
}

fn row(score: &scoring::Score) -> Vec<String> {
    let standing = score.standing.clone().unwrap_or_default();
    let summary = score.summary.as_ref();
    let or_empty = |text: Option<String>| text.unwrap_or_default();
    let has_models = !score.model_id.is_empty() && summary.is_some();
    let figure = |value: f64| if has_models { format!("{value:.6}") } else { String::new() };
    let money = |money: Option<&Money>| money.map(plain).unwrap_or_default();
    let currency = [&score.realised_value, &score.lifetime_value].into_iter().flatten().next();
    vec![
        standing.customer_id.clone(),
        score.as_of.as_ref().map(iso).unwrap_or_default(),
        word(standing.relationship().as_str_name(), "RELATIONSHIP_"),
        word(standing.stage().as_str_name(), "LIFE_CYCLE_STAGE_"),
        word(standing.tier().as_str_name(), "TIER_"),
        word(standing.code().as_str_name(), "CUSTOMER_CODE_"),
        standing.estimated.to_string(),
        or_empty(summary.map(|summary| view::day(summary.first_day.as_ref()))),
        or_empty(summary.map(|summary| view::day(summary.last_day.as_ref()))),
        or_empty(summary.map(|summary| summary.occasions.to_string())),
        or_empty(summary.map(|summary| summary.repeat_occasions.to_string())),
        or_empty(summary.map(|summary| format!("{:.6}", summary.recency_weeks))),
        or_empty(summary.map(|summary| format!("{:.6}", summary.age_weeks))),
        figure(score.p_alive),
        figure(score.expected_occasions),
        or_empty(currency.map(|money| money.currency_code.clone())),
        money(summary.and_then(|summary| summary.sales.as_ref())),
        money(summary.and_then(|summary| summary.returns.as_ref())),
        money(score.expected_spend.as_ref()),
        money(score.realised_value.as_ref()),
        money(score.expected_value.as_ref()),
        money(score.lifetime_value.as_ref()),
        score.model_id.clone(),
        standing.revision.to_string(),
    ]
}

/// A state as the contract names it, without the prefix; empty where there is none.
fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => String::new(),
        word => word.to_owned(),
    }
}

/// Money with the digits of its currency and nothing else: `-1234.50`.
fn plain(money: &Money) -> String {
    let exponent = Money::exponent(&money.currency_code);
    let unit = 10_u64.pow(exponent);
    let (whole, rest) = (money.minor_units.unsigned_abs() / unit, money.minor_units.unsigned_abs() % unit);
    let sign = if money.minor_units < 0 { "-" } else { "" };
    let width = exponent as usize;
    if exponent == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest:0width$}") }
}

fn iso(time: &prost_types::Timestamp) -> String {
    Timestamp::new(time.seconds, time.nanos).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_digits_of_its_currency_and_no_marks() {
        let text = |code: &str, minor_units| plain(&Money { currency_code: code.into(), minor_units });
        assert_eq!(text("USD", -123_450), "-1234.50");
        assert_eq!([text("JPY", 1_234), text("KWD", 5)], ["1234", "0.005"]);
        assert_eq!(text("USD", i64::MIN), "-92233720368547758.08");
    }

    #[test]
    fn a_day_means_its_end_and_today_now() {
        let now = "1998-07-01T08:00:00Z".parse().unwrap();
        let at = |text| moment(text, now).map(|time| time.map_or("now".to_owned(), |time| iso(&time)));
        assert_eq!(at("1998-06-30").unwrap(), "1998-06-30T23:59:59.999999Z");
        assert_eq!(at("1998-07-01").unwrap(), "now");
        assert_eq!(at("1998-06-30T12:00:00+02:00").unwrap(), "1998-06-30T10:00:00Z");
        assert!(at("yesterday").is_err());
    }

    #[test]
    fn who_has_not_bought_has_empty_figures_rather_than_zeros() {
        let score = scoring::Score { standing: Some(scoring::Standing::default()), ..Default::default() };
        let row = row(&score);
        assert_eq!(row.len(), HEADER.len());
        assert!(row[7..22].iter().all(String::is_empty), "{row:?}");
    }
}
