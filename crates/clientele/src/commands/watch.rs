//! `watch …`: follows a feed as any service would, and prints what changes.
use proto::{
    common::v1::{FeedMark, FeedPosition},
    complaints::v1 as complaints,
    profiles::v1 as profiles,
    routing::v1 as routing,
    scoring::v1 as scoring,
};
use tonic::{Request, Streaming};

use crate::{
    cli::Target,
    client::{Error, Result},
    view,
};

/// A feed to follow.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Feed {
    /// Changes of code, tier, stage and relationship
    Scores,
    /// Changes of the records
    Customers,
    /// Contacts recorded
    Contacts,
    /// Changes of complaints
    Complaints,
    /// Who enters and leaves a segment, or any
    Segment,
}

/// `watch`.
///
/// # Errors
/// What the service answered; a server that goes away.
pub async fn watch(target: &Target, feed: Feed, segment: Option<String>, cursor: &str, only_new: bool) -> Result<()> {
    if segment.is_some() && !matches!(feed, Feed::Segment) {
        return Err(Error::new("only `watch segment` takes a name"));
    }
    let client = target.client()?;
    let cursor = cursor.to_owned();
    match feed {
        Feed::Scores => {
            use scoring::watch_scores_response::Event;
            let message = scoring::WatchScoresRequest { cursor, only_new };
            let stream = client.scoring().watch_scores(Request::new(message)).await?.into_inner();
            follow(
                stream,
                only_new,
                |item| item.position.as_ref(),
                |item| {
                    if target.json {
                        return view::json("clientele.scoring.v1.WatchScoresResponse", &item);
                    }
                    match item.event {
                        Some(Event::Mark(mark)) => show_mark(mark, item.position.as_ref()),
                        Some(Event::Change(change)) => {
                            let standing = change.standing.unwrap_or_default();
                            let cause = scoring::ChangeCause::try_from(change.cause).unwrap_or_default();
                            let words = |s: &scoring::Standing| {
                                format!(
                                    "{} {} {} {}",
                                    view::code(s.code),
                                    view::tier(s.tier),
                                    view::stage(s.stage),
                                    view::relationship(s.relationship)
                                )
                            };
                            let before = change
                                .previous
                                .as_ref()
                                .map(|previous| format!("  was {}", words(previous)))
                                .unwrap_or_default();
                            let cause = view::word(cause.as_str_name(), "CHANGE_CAUSE_");
                            view::line(format!("{}  {}{before}  ({cause})", standing.customer_id, words(&standing)));
                        }
                        None => {}
                    }
                    Ok(())
                },
            )
            .await
        }
        Feed::Segment => {
            use scoring::watch_segment_response::Event;
            let segment_id = segment.unwrap_or_default();
            let message = scoring::WatchSegmentRequest { segment_id, cursor, only_new };
            let stream = client.scoring().watch_segment(Request::new(message)).await?.into_inner();
            follow(
                stream,
                only_new,
                |item| item.position.as_ref(),
                |item| {
                    if target.json {
                        return view::json("clientele.scoring.v1.WatchSegmentResponse", &item);
                    }
                    match item.event {
                        Some(Event::Mark(mark)) => show_mark(mark, item.position.as_ref()),
                        Some(Event::Change(change)) => {
                            let cause = view::word(change.cause().as_str_name(), "CHANGE_CAUSE_");
                            let entered = change.entered.iter().map(|id| format!("+{id}"));
                            let moves: Vec<_> = entered.chain(change.left.iter().map(|id| format!("-{id}"))).collect();
                            view::line(format!("{}  {}  ({cause})", change.customer_id, moves.join(" ")));
                        }
                        None => {}
                    }
                    Ok(())
                },
            )
            .await
        }
        Feed::Customers => {
            use profiles::watch_customers_response::Event;
            let message = profiles::WatchCustomersRequest { cursor, only_new };
            let stream = client.profiles().watch_customers(Request::new(message)).await?.into_inner();
            follow(
                stream,
                only_new,
                |item| item.position.as_ref(),
                |item| {
                    if target.json {
                        return view::json("clientele.profiles.v1.WatchCustomersResponse", &item);
                    }
                    match item.event {
                        Some(Event::Mark(mark)) => show_mark(mark, item.position.as_ref()),
                        Some(Event::Customer(customer)) => {
                            let standing = customer.standing.unwrap_or_default();
                            view::line(format!(
                                "{}  revision {}  {} {}  open complaints {}",
                                customer.customer_id,
                                customer.revision,
                                view::code(standing.code),
                                view::tier(standing.tier),
                                customer.open_complaints
                            ));
                        }
                        None => {}
                    }
                    Ok(())
                },
            )
            .await
        }
        Feed::Contacts => {
            use routing::watch_contacts_response::Event;
            let message = routing::WatchContactsRequest { cursor, only_new };
            let stream = client.routing().watch_contacts(Request::new(message)).await?.into_inner();
            follow(
                stream,
                only_new,
                |item| item.position.as_ref(),
                |item| {
                    if target.json {
                        return view::json("clientele.routing.v1.WatchContactsResponse", &item);
                    }
                    match item.event {
                        Some(Event::Mark(mark)) => show_mark(mark, item.position.as_ref()),
                        Some(Event::Contact(contact)) => {
                            let outcome = routing::ContactOutcome::try_from(contact.outcome).unwrap_or_default();
                            view::line(format!(
                                "{}  {}  {} {}  {}",
                                contact.contact_id,
                                view::time(contact.arrive_time.as_ref()),
                                contact.channel_id,
                                contact.queue_id,
                                view::word(outcome.as_str_name(), "CONTACT_OUTCOME_")
                            ));
                        }
                        None => {}
                    }
                    Ok(())
                },
            )
            .await
        }
        Feed::Complaints => {
            use complaints::watch_complaints_response::Event;
            let message = complaints::WatchComplaintsRequest { cursor, only_new };
            let stream = client.complaints().watch_complaints(Request::new(message)).await?.into_inner();
            follow(
                stream,
                only_new,
                |item| item.position.as_ref(),
                |item| {
                    if target.json {
                        return view::json("clientele.complaints.v1.WatchComplaintsResponse", &item);
                    }
                    match item.event {
                        Some(Event::Mark(mark)) => show_mark(mark, item.position.as_ref()),
                        Some(Event::Change(change)) => {
                            let one = change.complaint.unwrap_or_default();
                            let state = complaints::ComplaintState::try_from(one.state).unwrap_or_default();
                            view::line(format!(
                                "{}  {}  due {}  open for this customer {}",
                                one.complaint_id,
                                view::word(state.as_str_name(), "COMPLAINT_STATE_"),
                                view::time(one.due_time.as_ref()),
                                change.open_complaints
                            ));
                        }
                        None => {}
                    }
                    Ok(())
                },
            )
            .await
        }
    }
}

/// Shows each message until the feed ends, and says then how to go on.
async fn follow<T>(
    mut stream: Streaming<T>,
    only_new: bool,
    position: impl Fn(&T) -> Option<&FeedPosition>,
    show: impl Fn(T) -> Result<()>,
) -> Result<()> {
    let mut cursor = String::new();
    loop {
        let ended = match stream.message().await {
            Ok(Some(item)) => {
                // Items of a snapshot have none.
                if let Some(position) = position(&item).filter(|position| !position.cursor.is_empty()) {
                    cursor.clone_from(&position.cursor);
                }
                show(item)?;
                continue;
            }
            Ok(None) => "the server ended the feed".to_owned(),
            Err(status) => Error::from(status).to_string(),
        };
        let next = match (cursor.is_empty(), only_new) {
            (false, _) => format!("To miss nothing, go on with --cursor {cursor}"),
            (true, false) => "To miss nothing, start again".to_owned(),
            (true, true) => {
                "What comes until you start again is missed; without --only-new a watch begins with how things are"
                    .to_owned()
            }
        };
        return Err(Error::new(format!("{ended}\n  {next}")));
    }
}

fn show_mark(mark: i32, position: Option<&FeedPosition>) {
    // Signs of life are for programs.
    if mark == i32::from(FeedMark::SnapshotComplete) {
        let cursor = position.map(|position| position.cursor.as_str()).unwrap_or_default();
        view::line(format!("-- that is all so far; live from here (cursor {cursor})"));
    }
}
