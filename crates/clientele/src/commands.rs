//! The client commands: each a thin caller of the public API.
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::civil;
use proto::{
    common::v1::{ErrorReason, Money},
    profiles::v1 as profiles,
    routing::v1 as routing,
    scoring::v1 as scoring,
};

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use uuid::Uuid;

use crate::{
    cli::{Target, shows_progress},
    client::{self, Client, Error, Result, SERVICES, new_request_id, next_step, reason_of, request, request_within},
    view,
};

mod assessment;
mod complaint;
mod models;
mod segment;
mod transitions;
mod watch;
pub use complaint::{Complaint, complaint, complaint_state, show_complaint};
pub use models::{
    all as all_models, ask_to_hold_out, fit, held_out, hold_out, model_name, models, parameters, rounded, with_interval,
};
pub use segment::{Segment, segment, state as segment_state};
pub use transitions::transitions;
pub use watch::{Feed, watch};

/// How long one wait for an operation may take; then its progress is shown and the next begins.
const WAIT: Duration = Duration::from_millis(500);

/// A day written YYYY-MM-DD.
///
/// # Errors
/// Anything else.
pub fn date(text: &str) -> Result<scoring::Date> {
    let date = civil_date(text)?;
    Ok(scoring::Date { year: date.year().into(), month: date.month().into(), day: date.day().into() })
}

/// The same for the calendar of this process.
///
/// # Errors
/// Anything else.
pub fn civil_date(text: &str) -> Result<civil::Date> {
    text.parse().map_err(|_| Error::new("is not a day such as 1998-06-30"))
}

/// A currency of ISO 4217.
///
/// # Errors
/// Anything else.
pub fn currency(text: &str) -> Result<String> {
    Money::is_currency(text).then(|| text.to_owned()).ok_or_else(|| Error::new(Money::CURRENCY))
}

/// `rank`.
///
/// # Errors
/// No model yet; a server that does not answer.
pub async fn rank(target: &Target, as_of: Option<scoring::Date>) -> Result<()> {
    let client = target.client()?;
    let message = scoring::RankCustomersRequest { request_id: new_request_id(), as_of };
    let operation = client.scoring().rank_customers(request(message)).await?.into_inner();
    let operation = wait(&client, operation, !target.json).await?;
    if target.json {
        return view::json("clientele.scoring.v1.Operation", &operation);
    }
    if let Some(scoring::operation::Outcome::Rank(rank)) = operation.outcome {
        view::line(format!(
            "{} ranked; {} changed their standing. See `clientele pyramid`.",
            view::counted(rank.customers.unsigned_abs(), "customer"),
            view::count(rank.changed)
        ));
        if !rank.realised_alone.is_empty() {
            let why = rank.realised_alone;
            view::line(format!("Ranked by realised value alone: {why}."));
        }
    }
    Ok(())
}

/// Waits for an operation with a progress bar.
///
/// # Errors
/// The operation's own; a server that does not answer.
pub async fn wait(client: &Client, mut operation: scoring::Operation, progress: bool) -> Result<scoring::Operation> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("  {msg:<28} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    if !progress || !shows_progress() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let mut scoring = client.scoring();
    while operation.end_time.is_none() {
        bar.set_message(operation.phase.clone());
        bar.set_length(operation.progress_total.unsigned_abs());
        bar.set_position(operation.progress_done.unsigned_abs());
        let message = scoring::WaitOperationRequest {
            operation_id: operation.operation_id.clone(),
            timeout: Some(prost_types::Duration { seconds: 0, nanos: i32::try_from(WAIT.as_nanos()).unwrap_or(0) }),
        };
        operation = scoring.wait_operation(request(message)).await?.into_inner();
    }
    bar.finish_and_clear();
    if let Some(scoring::operation::Outcome::Error(error)) = &operation.outcome {
        let reason = ErrorReason::try_from(error.reason).unwrap_or_default();
        let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        return Err(Error::new(format!("{} ({reason}){}", error.message, next_step(reason))));
    }
    Ok(operation)
}

/// `pyramid`.
///
/// # Errors
/// No ranking yet; a server that does not answer.
pub async fn pyramid(target: &Target, realised: bool) -> Result<()> {
    let client = target.client()?;
    let by = async |basis: scoring::PyramidBasis| {
        let message = scoring::GetPyramidRequest { basis: basis.into() };
        client.scoring().get_pyramid(request(message)).await.map(tonic::Response::into_inner)
    };
    let asked = if realised { scoring::PyramidBasis::Realised } else { scoring::PyramidBasis::Lifetime };
    match by(asked).await {
        Ok(reply) if target.json => view::json("clientele.scoring.v1.GetPyramidResponse", &reply),
        Ok(reply) => {
            view::line(pyramid_table(&reply));
            Ok(())
        }
        // There is one all the same, and a person gets it. A program gets what it asked for, or the error.
        Err(status) if !target.json && reason_of(&status) == "NO_MODEL" => {
            view::line(pyramid_table(&by(scoring::PyramidBasis::Realised).await?));
            view::line(format!("By lifetime value: {}", client::sentence(&status)));
            Ok(())
        }
        Err(status) => Err(status.into()),
    }
}

/// A pyramid as a table.
pub fn pyramid_table(reply: &scoring::GetPyramidResponse) -> String {
    let basis = match scoring::PyramidBasis::try_from(reply.basis).unwrap_or_default() {
        scoring::PyramidBasis::Realised => "realised value so far",
        _ => "lifetime value (realised and expected)",
    };
    let total = reply
        .tiers
        .iter()
        .fold(0_i64, |sum, tier| sum.saturating_add(tier.revenue.as_ref().map_or(0, |m| m.minor_units)));
    let currency =
        reply.tiers.iter().find_map(|tier| tier.revenue.as_ref()).map(|m| m.currency_code.clone()).unwrap_or_default();
    let (lowest, revenue) = (format!("lowest value, {currency}"), format!("revenue, {currency}"));
    let total = Money { currency_code: currency, minor_units: total };
    let table = view::table(
        &["tier", "customers", "share of revenue", "share of value", &lowest, &revenue, ""],
        &[1, 2, 3, 4, 5],
        reply.tiers.iter().map(|tier| {
            vec![
                view::tier(tier.tier),
                view::count(tier.customers),
                view::percent(tier.revenue_share),
                view::percent(tier.profit_share),
                view::amount(tier.lowest_value.as_ref()),
                view::amount(tier.revenue.as_ref()),
                bar(tier.revenue_share),
            ]
        }),
    );
    format!(
        "Pyramid by {basis}, purchases to {}, ranked {}: {}, revenue {}\n{table}",
        view::day(reply.as_of.as_ref()),
        view::time(reply.rank_time.as_ref()),
        view::counted(reply.customers.unsigned_abs(), "customer"),
        view::money(Some(&total))
    )
}

/// A share as a bar of at most twenty blocks.
pub fn bar(share: f64) -> String {
    let blocks = (share.clamp(0.0, 1.0) * 20.0).round();
    (0..20).take_while(|block| f64::from(*block) < blocks).map(|_| '█').collect()
}

/// `customer`.
///
/// # Errors
/// No such customer; a server that does not answer.
pub async fn customer(target: &Target, id: &str) -> Result<()> {
    let client = target.client()?;
    let customer_id = customer_id(&client, id).await?;
    let mut profiles = client.profiles();
    let message = profiles::GetCustomerRequest { customer_id, view: profiles::CustomerView::Full.into() };
    let reply = profiles.get_customer(request_within(message, Duration::from_secs(5))).await?.into_inner();
    if target.json {
        return view::json("clientele.profiles.v1.GetCustomerResponse", &reply);
    }
    show_customer(&reply);
    Ok(())
}

/// The id of a customer who was named by it, or as SYSTEM:ID.
///
/// # Errors
/// A name that is neither; an identity that is not known.
pub async fn customer_id(client: &Client, who: &str) -> Result<String> {
    if let Some(identity) = external(who) {
        let message = profiles::ResolveIdentityRequest { identity: Some(identity) };
        let reply = client.profiles().resolve_identity(request(message)).await;
        let reply = reply.map_err(|status| match status.code() {
            Code::NotFound => Error::new(format!("{who}: nobody is known under this identity")),
            _ => Error::from(status),
        })?;
        return Ok(reply.into_inner().customer.unwrap_or_default().customer_id);
    }
    Uuid::parse_str(who).map(|id| id.to_string()).map_err(|_| {
        Error::new(format!(
            "{who:?}: must be a customer's id (a UUID), or SYSTEM:ID of an external identity, such as import:4711 where an import told of them"
        ))
    })
}

/// SYSTEM:ID, where it is one.
fn external(text: &str) -> Option<profiles::ExternalIdentity> {
    let (system, id) = text.split_once(':')?;
    Some(profiles::ExternalIdentity { system: system.to_owned(), id: id.to_owned() })
}

fn show_customer(reply: &profiles::GetCustomerResponse) {
    let Some(customer) = &reply.customer else { return };
    let name = match &customer.kind {
        Some(profiles::customer::Kind::Person(person)) => format!("{} {}", person.given_name, person.family_name),
        Some(profiles::customer::Kind::Company(company)) => company.name.clone(),
        None => String::new(),
    };
    let name = name.trim();
    view::line(format!("{} {}", customer.customer_id, if name.is_empty() { "(no name yet)" } else { name }));
    for identity in &customer.identities {
        view::line(format!("  known in {} as {}", identity.system, identity.id));
    }
    if let Some(score) = &reply.score {
        view::line(score_table(score));
        for evidence in &score.evidence {
            view::line(format!("  {}: {} ({})", evidence.state, evidence.text, evidence.rule));
        }
        if let Some(assessment) = &score.assessment {
            assessment::show(assessment);
        }
    }
    for complaint in &reply.complaints {
        view::line(format!(
            "  open complaint {}: {}, {}, due {}",
            complaint.complaint_id,
            complaint.cause_id,
            complaint.state.trim_start_matches("COMPLAINT_STATE_").to_lowercase(),
            view::time(complaint.due_time.as_ref())
        ));
    }
    for part in &reply.missing_parts {
        let part = profiles::CustomerPart::try_from(*part).unwrap_or_default().as_str_name();
        view::line(format!("  missing: the {} (its service did not answer)", view::word(part, "CUSTOMER_PART_")));
    }
}

fn score_table(score: &scoring::Score) -> String {
    let standing = score.standing.clone().unwrap_or_default();
    let mut rows = vec![
        vec!["relationship".to_owned(), view::relationship(standing.relationship)],
        vec!["stage".to_owned(), view::stage(standing.stage)],
        vec!["tier".to_owned(), view::tier(standing.tier)],
        vec![
            "code".to_owned(),
            format!("{}{}", view::code(standing.code), if standing.estimated { " (estimated)" } else { "" }),
        ],
    ];
    if let Some(summary) = &score.summary {
        rows.push(vec!["purchase occasions".to_owned(), view::count(summary.occasions)]);
        let (first, last) = (view::day(summary.first_day.as_ref()), view::day(summary.last_day.as_ref()));
        rows.push(vec!["first and last".to_owned(), format!("{first} to {last}")]);
        rows.push(vec!["realised value".to_owned(), view::money(score.realised_value.as_ref())]);
        // Before the first fit there is no forecast, which is not the same as a forecast of nothing.
        if !score.model_id.is_empty() {
            rows.push(vec!["chance of still buying".to_owned(), view::percent(score.p_alive)]);
            rows.push(vec!["expected occasions, 52 weeks".to_owned(), format!("{:.2}", score.expected_occasions)]);
        }
        if score.expected_value.is_some() {
            let ahead = format!("expected value, {} months", score.horizon_months);
            rows.push(vec!["expected spend an occasion".to_owned(), view::money(score.expected_spend.as_ref())]);
            rows.push(vec![ahead, view::money(score.expected_value.as_ref())]);
            rows.push(vec!["lifetime value".to_owned(), view::money(score.lifetime_value.as_ref())]);
        }
    }
    view::table(&["score", ""], &[], rows)
}

/// `health`.
///
/// # Errors
/// A server that does not answer or is not serving; a name that is none.
pub async fn health(target: &Target, service: Option<&str>) -> Result<()> {
    let name = service
        .map(|text| {
            SERVICES
                .into_iter()
                .find(|name| *name == text)
                .ok_or_else(|| Error::new(format!("{text} is no service; there are {}", SERVICES.join(", "))))
        })
        .transpose()?;
    // Where servers are named by service, each is asked for its own: what one process says of itself as a whole is nothing of the others.
    let named: Vec<_> = target.server.iter().filter_map(|server| Some(client::named(server)?.0)).collect();
    let asked: Vec<Option<&'static str>> = match name {
        None if !named.is_empty() => {
            let another_has_the_rest = named.len() < target.server.len();
            SERVICES.into_iter().filter(|name| another_has_the_rest || named.contains(name)).map(Some).collect()
        }
        one => vec![one],
    };
    let client = target.client()?;
    let (mut said, mut ended) = (Vec::new(), Ok(()));
    for name in asked {
        let message = HealthCheckRequest { service: name.map(full_name).unwrap_or_default() };
        let reply = client.health(name).check(request_within(message, Duration::from_secs(5))).await;
        let (status, one) = match reply.map(|reply| reply.into_inner().status()) {
            Ok(ServingStatus::Serving) => (Some(ServingStatus::Serving), Ok(())),
            Ok(status) => (Some(status), Err(Error::new("not serving"))),
            Err(error) => (None, Err(error.into())),
        };
        ended = ended.and(one);
        said.push((name.unwrap_or("all"), status.map(|status| status.as_str_name())));
    }
    match said.as_slice() {
        // Why is said by the error.
        [(_, None)] => {}
        [(_, status)] if target.json => view::line(serde_json::json!({ "status": status }).to_string()),
        _ if target.json => {
            let services: serde_json::Map<_, _> =
                said.iter().map(|(name, status)| ((*name).to_owned(), serde_json::json!(status))).collect();
            view::line(serde_json::json!({ "services": services }).to_string());
        }
        _ => said.iter().for_each(|(name, status)| {
            let status = status.map_or("no answer".to_owned(), |status| view::word(status, ""));
            view::line(format!("{name}: {status}"));
        }),
    }
    ended
}

/// `clientele.scoring.v1.Scoring` of `scoring`.
fn full_name(service: &str) -> String {
    let (first, rest) = service.split_at(1);
    format!("clientele.{service}.v1.{}{rest}", first.to_uppercase())
}

/// `decide`.
///
/// # Errors
/// An unknown purpose or channel; a server that does not answer.
pub async fn decide(target: &Target, who: &str, purpose: &str, channel: Option<&str>) -> Result<()> {
    let name = format!("CONTACT_PURPOSE_{}", purpose.to_uppercase());
    let purpose = routing::ContactPurpose::from_str_name(&name).ok_or_else(|| {
        Error::new(format!("--purpose {purpose}: must be inquiry, order, routine, support, complaint or cancel"))
    })?;
    let point = |point| routing::decide_request::Who::ContactPoint(routing::ContactPoint { point: Some(point) });
    let who = if who.starts_with('+') {
        point(routing::contact_point::Point::Phone(who.to_owned()))
    } else if who.contains('@') {
        point(routing::contact_point::Point::Mail(who.to_owned()))
    } else if let Some(identity) = external(who) {
        point(routing::contact_point::Point::Identity(identity))
    } else {
        let known = Uuid::parse_str(who).map_err(|_| {
            Error::new(format!(
                "{who:?}: must be a customer's id (a UUID), SYSTEM:ID, a phone number (+…) or a mail address"
            ))
        })?;
        routing::decide_request::Who::CustomerId(known.to_string())
    };
    let message = routing::DecideRequest {
        who: Some(who),
        arrival_channel_id: channel.unwrap_or_default().to_owned(),
        purpose: purpose.into(),
    };
    let client = target.client()?;
    let reply = match client.routing().decide(request(message)).await {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == Code::InvalidArgument && status.message().contains("arrival_channel_id") => {
            return Err(unknown_channel(&client, channel.unwrap_or_default()).await);
        }
        Err(status) => return Err(status.into()),
    };
    if target.json {
        return view::json("clientele.routing.v1.DecideResponse", &reply);
    }
    view::line(view::table(&["decision", ""], &[], decision_rows(&reply)));
    Ok(())
}

/// What is wrong with a channel that is none.
async fn unknown_channel(client: &Client, channel: &str) -> Error {
    let channels = client.routing().list_channels(request(routing::ListChannelsRequest::default())).await;
    let channels = channels.map(|reply| reply.into_inner().channels).unwrap_or_default();
    let ids: Vec<&str> = channels.iter().map(|channel| channel.channel_id.as_str()).collect();
    Error::new(format!("--channel {channel}: is no channel; there are {}", ids.join(", ")))
}

/// A decision as rows of (what, answer).
pub fn decision_rows(reply: &routing::DecideResponse) -> Vec<Vec<String>> {
    let standing = reply.standing.clone().unwrap_or_default();
    let who = if reply.prospect {
        "not known: a prospect".to_owned()
    } else {
        format!(
            "{}, {}, {}",
            view::tier(standing.tier),
            view::relationship(standing.relationship),
            view::stage(standing.stage)
        )
    };
    let open =
        if reply.open { String::new() } else { format!(" (closed; opens {})", view::time(reply.opens_time.as_ref())) };
    let lines = |texts: Vec<&str>| texts.iter().map(|text| format!("• {text}")).collect::<Vec<_>>().join("\n");
    vec![
        vec!["customer".to_owned(), who],
        vec!["code".to_owned(), view::code(standing.code)],
        vec!["channel".to_owned(), format!("{}{open}", reply.channel_id)],
        vec!["queue".to_owned(), reply.queue_id.clone()],
        vec!["priority".to_owned(), reply.priority.to_string()],
        vec!["answer within".to_owned(), view::duration(reply.target_answer_time.as_ref())],
        vec!["done within".to_owned(), view::duration(reply.target_handling_time.as_ref())],
        vec![
            "selling".to_owned(),
            if reply.selling_paused { "paused until their complaint is settled" } else { "allowed" }.to_owned(),
        ],
        vec!["say".to_owned(), lines(reply.prompt.iter().map(|line| line.text.as_str()).collect())],
        vec!["because".to_owned(), lines(reply.reasons.iter().map(|reason| reason.text.as_str()).collect())],
    ]
}
