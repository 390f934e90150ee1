//! The first five minutes: every service in one process, real purchases in through the public API, decisions out.
//!
//! The data plays in its own time: the services run on a clock that reads the data's last day. Every request has a fixed id, so a second run on the
//! same folder finds what the first one left and doubles nothing.
use std::{
    future::Future,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use chassis::{Clock, clock::stopwatch};
use jiff::Timestamp;
use proto::{complaints::v1 as complaints, profiles::v1 as profiles, routing::v1 as routing, scoring::v1 as scoring};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, Error, Result, request},
    commands,
    config::Config,
    folder, import, serve, view,
};

/// The 1/10 sample of the CDNOW cohort: 6,919 purchases of 2,357 customers, distributed by Fader and Hardie with their papers.
const PURCHASES: &str = include_str!("../data/CDNOW_sample.txt");
/// Where the services' clock starts in a new folder: the data's last day, in business hours.
const NOW: &str = "1998-06-30T14:00:00Z";
/// The last day of the papers' calibration period.
const CALIBRATION: &str = "1997-09-30";
/// The data's last day.
const LAST_DAY: &str = "1998-06-30";
/// How long to wait for the services to start or to hear of each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the papers print: model, parameters, log-likelihood, where.
const PUBLISHED: [(scoring::ModelKind, &str, &str, &str); 4] = [
    (scoring::ModelKind::BgNbd, "r 0.243  alpha 4.414  a 0.793  b 2.426", "-9582.4", "Fader, Hardie & Lee 2005"),
    (scoring::ModelKind::MbgNbd, "r 0.525  alpha 6.183  a 0.891  b 1.614", "-9582.1", "Batislam et al. 2007"),
    (
        scoring::ModelKind::ParetoNbd,
        "r 0.553  alpha 10.578  s 0.606  beta 11.669",
        "-9595.0",
        "Schmittlein, Morrison & Colombo 1987",
    ),
    (scoring::ModelKind::GammaGamma, "p 6.25  q 3.74  gamma 15.44", "", "Fader & Hardie 2013"),
];

/// Runs the demo; with `exit` it ends after the tables, else it serves until Ctrl-C.
///
/// # Errors
/// What went wrong and what to do about it.
pub async fn run(config: Config, exit: bool) -> Result<()> {
    let begin: Timestamp = NOW.parse().map_err(|_| Error::new("the demo's clock"))?;
    let data_dir = config.data_dir.clone();
    // A folder that another demo claimed, which may be starting just now, stays that one's.
    let is_new = folder::refuse_the_demos(&data_dir).is_ok();
    let start = folder::claim_for_demo(&data_dir, begin)?;
    let end = CancellationToken::new();
    let started = async {
        let access = serve::access(&config).await?;
        let running = serve::start(config, Clock::starting_at(start), &[], end.clone().cancelled_owned()).await?;
        Ok::<_, Error>((access, running))
    };
    let give_back = |_: &Error| {
        if is_new {
            folder::give_back(&data_dir);
        }
    };
    let (access, running) = started.await.inspect_err(give_back)?;
    let url = format!("http://{}", running.address);
    let mut ended = tokio::spawn(running.ended());

    view::line(format!(
        "clientele: profiles, scoring, routing and complaints at {}",
        url.trim_start_matches("http://")
    ));
    view::line(format!(
        "data folder: {} (delete it to begin anew); the services' clock reads {}, so it is for `demo` alone",
        data_dir.display(),
        start.strftime("%-d %B %Y")
    ));

    let client = Client::with(std::slice::from_ref(&url), &access)?;
    let story = async {
        tell(&client, &data_dir).await?;
        if exit {
            return Ok(());
        }
        invite(&client, &url).await?;
        serve::signalled().await;
        Ok(())
    };
    let told = tokio::select! {
        told = story => told,
        early = &mut ended => return early.map_err(|error| Error::new(error.to_string()))?.map_err(Error::from),
        () = serve::signalled() => Ok(()),
    };
    end.cancel();
    let drained = ended.await.map_err(|error| Error::new(error.to_string()))?;
    told.and(drained.map_err(Error::from))
}

async fn tell(client: &Client, data_dir: &Path) -> Result<()> {
    load(client, data_dir).await?;
    fit(client).await?;
    let operation = client
        .scoring()
        .rank_customers(request(scoring::RankCustomersRequest {
            request_id: "demo-rank".to_owned(),
            as_of: Some(commands::date(LAST_DAY)?),
        }))
        .await?
        .into_inner();
    commands::wait(client, operation, true).await?;
    pyramids(client).await?;
    standings(client).await?;
    let pair = choose(client).await?;
    contacts(client, &pair).await?;
    complaints_of(client, &pair).await
}

/// How the CDNOW file is read.
pub fn plan(rejects: PathBuf) -> import::Plan {
    import::Plan {
        columns: import::Columns {
            customer: "2".to_owned(),
            id: None,
            amount: "5".to_owned(),
            rows: import::Rows::Purchases { time: "3".to_owned(), quantity: None, discount: None },
        },
        time_format: None,
        time_zone: jiff::tz::TimeZone::UTC,
        currency: "USD".to_owned(),
        delimiter: Some(import::Delimiter::Blanks),
        decimal: '.',
        header: false,
        system: "cdnow".to_owned(),
        source: "cdnow".to_owned(),
        skip: Vec::new(),
        after_line: 0,
        rejects,
    }
}

async fn load(client: &Client, data_dir: &Path) -> Result<()> {
    heading("Purchases");
    until("the services start", || async {
        let ready = client.scoring().get_standing_counts(request(scoring::GetStandingCountsRequest {})).await;
        let ready = ready.is_ok()
            && client.profiles().list_customers(request(profiles::ListCustomersRequest::default())).await.is_ok();
        Ok(ready.then_some(()))
    })
    .await?;
    let plan = plan(data_dir.join("rejected.csv"));
    let progress = std::io::stderr().is_terminal();
    let begin = stopwatch();
    let outcome = import::run(client, &plan, PURCHASES.as_bytes(), Some(PURCHASES.len() as u64), progress).await?;
    let text = import::describe(&outcome);
    if outcome.counts.recorded == 0 && outcome.counts.replaced == 0 {
        view::line(format!("The CDNOW sample is here already, and nothing was doubled: {text}"));
    } else {
        view::line(format!(
            "The CDNOW sample, loaded through the public API in {:.1} s: {text}",
            begin.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

async fn fit(client: &Client) -> Result<()> {
    heading("Models, fitted to the papers' calibration period");
    let mut scoring = client.scoring();
    let message = scoring::FitModelsRequest {
        request_id: "demo-fit-calibration".to_owned(),
        as_of: Some(commands::date(CALIBRATION)?),
        trial: true,
    };
    let operation = scoring.fit_models(request(message)).await?.into_inner();
    let operation = commands::wait(client, operation, true).await?;
    let Some(scoring::operation::Outcome::Fit(calibration)) = operation.outcome else {
        return Err(Error::new("the fit gave no models"));
    };
    let rows = calibration.models.iter().map(|model| {
        let published = PUBLISHED.iter().find(|(kind, ..)| i32::from(*kind) == model.kind);
        let (parameters, likelihood, paper) = published.map_or(("", "", ""), |(_, p, l, paper)| (*p, *l, *paper));
        let fitted = if likelihood.is_empty() { String::new() } else { format!("{:.1}", model.log_likelihood) };
        vec![
            commands::model_name(model.kind).to_owned(),
            view::firm(&commands::parameters(model)),
            view::firm(parameters),
            fitted,
            likelihood.to_owned(),
            paper.to_owned(),
        ]
    });
    view::line(view::table(&["model", "fitted here", "published", "LL here", "LL published", "paper"], &[3, 4], rows));

    // Scores use all that is known by now.
    let message = scoring::FitModelsRequest {
        request_id: "demo-fit".to_owned(),
        as_of: Some(commands::date(LAST_DAY)?),
        trial: false,
    };
    let operation = scoring.fit_models(request(message)).await?.into_inner();
    let operation = commands::wait(client, operation, true).await?;
    if let Some(scoring::operation::Outcome::Fit(fit)) = operation.outcome {
        view::line(in_force(&fit, &commands::all_models(client).await?));
    }
    Ok(())
}

/// What is in force by now: another than the demo's own fit, where somebody fitted after its first run.
fn in_force(own: &scoring::FitResult, all: &[scoring::FittedModel]) -> String {
    let in_force: Vec<&scoring::FittedModel> = all.iter().filter(|model| model.in_force).collect();
    if in_force.iter().all(|model| own.models.iter().any(|fitted| fitted.model_id == model.model_id)) {
        return format!("In force, fitted to all purchases: {}", own.choice);
    }
    let each = |model: &&scoring::FittedModel| {
        format!("{}, fitted to purchases to {}", commands::model_name(model.kind), view::day(model.as_of.as_ref()))
    };
    let text = in_force.iter().map(each).collect::<Vec<_>>().join("; ");
    format!("In force, since fitted after the demo's own: {text}.")
}

async fn pyramids(client: &Client) -> Result<()> {
    heading("The customer pyramid");
    for basis in [scoring::PyramidBasis::Realised, scoring::PyramidBasis::Lifetime] {
        let message = scoring::GetPyramidRequest { basis: basis.into() };
        let reply = client.scoring().get_pyramid(request(message)).await?.into_inner();
        view::line(commands::pyramid_table(&reply));
    }
    Ok(())
}

async fn standings(client: &Client) -> Result<()> {
    heading("Where the customers stand");
    let message = scoring::GetStandingCountsRequest {};
    let reply = client.scoring().get_standing_counts(request(message)).await?.into_inner();
    let total: i64 = reply.counts.iter().map(|count| count.customers).sum();
    let group = |name: fn(&scoring::StandingCount) -> (i32, String)| {
        let mut groups = std::collections::BTreeMap::<(i32, String), i64>::new();
        for count in &reply.counts {
            *groups.entry(name(count)).or_default() += count.customers;
        }
        groups
            .into_iter()
            .map(|((_, name), customers)| {
                #[allow(clippy::cast_precision_loss, reason = "counts of customers are far below 2^52")]
                let share = customers as f64 / total.max(1) as f64;
                vec![name, view::count(customers), view::percent(share), commands::bar(share)]
            })
            .collect::<Vec<_>>()
    };
    view::line(view::table(&["stage", "customers", "share", ""], &[1, 2], group(|c| (c.stage, view::stage(c.stage)))));
    let relationships = group(|c| (c.relationship, view::relationship(c.relationship)));
    view::line(view::table(&["relationship", "customers", "share", ""], &[1, 2], relationships));
    view::line(view::table(&["code", "customers", "share", ""], &[1, 2], group(|c| (c.code, view::code(c.code)))));
    Ok(())
}

/// An important customer and a small one, as profiles knows them by following scoring.
async fn choose(client: &Client) -> Result<[(&'static str, String); 2]> {
    let mut chosen = Vec::new();
    // Of each tier one with the code that is usual there.
    for (word, tier, code) in [
        ("important", scoring::Tier::Important, scoring::CustomerCode::A),
        ("small", scoring::Tier::Small, scoring::CustomerCode::C),
    ] {
        let customer = until("profiles follows scoring", || async {
            let message = profiles::ListCustomersRequest {
                filter: Some(profiles::CustomerFilter {
                    tiers: vec![tier.into()],
                    codes: vec![code.into()],
                    ..Default::default()
                }),
                page_size: 1,
                ..Default::default()
            };
            let reply = client.profiles().list_customers(request(message)).await?.into_inner();
            Ok(reply.customers.into_iter().next())
        })
        .await?;
        chosen.push((word, customer.customer_id));
    }
    <[_; 2]>::try_from(chosen).map_err(|_| Error::new("no two customers"))
}

async fn decide(client: &Client, customer_id: &str) -> Result<routing::DecideResponse> {
    until("routing follows scoring", || async {
        let message = routing::DecideRequest {
            who: Some(routing::decide_request::Who::CustomerId(customer_id.to_owned())),
            arrival_channel_id: "phone".to_owned(),
            purpose: routing::ContactPurpose::Inquiry.into(),
        };
        let reply = client.routing().decide(request(message)).await?.into_inner();
        // Its projection may be a moment behind the ranking.
        let tier = reply.standing.as_ref().map_or(0, |standing| standing.tier);
        Ok((tier != i32::from(scoring::Tier::Unspecified)).then_some(reply))
    })
    .await
}

async fn contacts(client: &Client, pair: &[(&'static str, String); 2]) -> Result<()> {
    heading("The same call, from an important customer and from a small one");
    let mut columns = Vec::new();
    for (_, customer_id) in pair {
        let decision = decide(client, customer_id).await?;
        columns.push(commands::decision_rows(&decision));
    }
    view::line(side_by_side(pair, &columns));
    Ok(())
}

fn side_by_side(pair: &[(&'static str, String); 2], columns: &[Vec<Vec<String>>]) -> String {
    let header: Vec<String> = pair.iter().map(|(word, id)| format!("{word} customer …{}", view::short(id))).collect();
    let rows = columns[0].iter().zip(&columns[1]).map(|(left, right)| {
        let cell = |row: &[String], index: usize| row.get(index).cloned().unwrap_or_default();
        vec![cell(left, 0), cell(left, 1), cell(right, 1)]
    });
    view::table(&["", &header[0], &header[1]], &[], rows)
}

async fn complaints_of(client: &Client, pair: &[(&'static str, String); 2]) -> Result<()> {
    heading("The same complaint, from each of them");
    let mut rows = Vec::new();
    let mut open = None;
    for (word, customer_id) in pair {
        let filed = until("complaints follows scoring", || async {
            let message = complaints::FileComplaintRequest {
                request_id: format!("demo-complaint-{customer_id}"),
                complaint: Some(complaints::Complaint {
                    customer_id: customer_id.clone(),
                    cause_id: "delivery".to_owned(),
                    severity: complaints::Severity::Moderate.into(),
                    description: "The parcel came two weeks late.".to_owned(),
                    ..Default::default()
                }),
            };
            Ok(client.complaints().file_complaint(request(message)).await?.into_inner().complaint)
        })
        .await?;
        // A second run replays the first answer; since then somebody may have settled it.
        let message = complaints::GetComplaintRequest { complaint_id: filed.complaint_id };
        let now = client.complaints().get_complaint(request(message)).await?.into_inner();
        let complaint = now.complaint.unwrap_or_default();
        if complaint.state().is_open() {
            open.get_or_insert((*word, customer_id));
        }
        rows.push(vec![
            format!("{word} …{}", view::short(customer_id)),
            view::tier(complaint.tier),
            complaint.cause_id.clone(),
            view::duration(complaint.allowed.as_ref()),
            commands::complaint_state(complaint.state),
            view::time(complaint.due_time.as_ref()),
        ]);
    }
    view::line(view::table(&["customer", "tier", "cause", "business time allowed", "state", "due"], &[3], rows));
    let Some((word, customer_id)) = open else {
        view::line("Both are settled by now, and selling is allowed again.");
        return Ok(());
    };
    let decision = until("routing follows complaints", || async {
        let decision = decide(client, customer_id).await?;
        Ok(decision.selling_paused.then_some(decision))
    })
    .await?;
    let lines: Vec<String> = decision.prompt.iter().map(|line| format!("  • {}", line.text)).collect();
    view::line(format!("While it is open, the agent of the {word} customer's next call reads:\n{}", lines.join("\n")));
    Ok(())
}

/// What to try next, ready to paste.
async fn invite(client: &Client, url: &str) -> Result<()> {
    heading("Try it (the services go on until Ctrl-C)");
    let address = url.trim_start_matches("http://");
    let [(_, important), _] = choose(client).await?;
    for text in [
        format!("grpcurl -plaintext {address} list"),
        format!(
            "grpcurl -plaintext -d '{{\"customer_id\":\"{important}\",\"with_evidence\":true}}' {address} clientele.scoring.v1.Scoring/GetScore"
        ),
        format!(
            "grpcurl -plaintext -d '{{\"customer_id\":\"{important}\",\"arrival_channel_id\":\"phone\",\"purpose\":\"CONTACT_PURPOSE_ORDER\"}}' {address} clientele.routing.v1.Routing/Decide"
        ),
        format!(
            "grpcurl -plaintext -d '{{\"customer_id\":\"{important}\",\"view\":\"CUSTOMER_VIEW_FULL\"}}' {address} clientele.profiles.v1.Profiles/GetCustomer"
        ),
        format!(
            "grpcurl -plaintext -d '{{\"states\":[\"COMPLAINT_STATE_FILED\"]}}' {address} clientele.complaints.v1.Complaints/ListComplaints"
        ),
        format!("grpcurl -plaintext -d '{{\"only_new\":true}}' {address} clientele.scoring.v1.Scoring/WatchScores"),
        format!("cargo run -- customer {important} --server {url}"),
    ] {
        view::line(format!("  {text}"));
    }
    Ok(())
}

fn heading(text: &str) {
    view::line(format!("\n── {text} ──"));
}

/// Asks until there is an answer.
async fn until<T, F>(what: &str, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let begin = stopwatch();
    loop {
        let last = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if begin.elapsed() > PATIENCE {
            return Err(last.unwrap_or_else(|| {
                Error::new(format!("waited in vain until {what}; is this machine very busy? Run it again"))
            }));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
