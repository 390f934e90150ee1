//! `segment …`: groups of customers by expression, and clusters of those who are alike.
use clap::Subcommand;
use proto::scoring::v1 as scoring;

use crate::{
    cli::Target,
    client::{Client, Error, Result, new_request_id, request},
    view,
};

/// What to do with segments.
#[derive(Debug, Subcommand)]
pub enum Segment {
    /// Create one, for example: segment create fading "tier in ['IMPORTANT', 'MAJOR'] && p_alive < 0.5"
    Create {
        /// Its id: letters a-z, digits and '-'
        id: String,
        /// Who is in it, in CEL; `clientele segment preview` counts them first
        expression: String,
        /// A name for people; left out, the id
        #[arg(long)]
        name: Option<String>,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        #[command(flatten)]
        target: Target,
    },
    /// List them
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show one: how many, where they stand, what they are worth
    Show {
        /// The segment's id
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Count who would be in it, and show a few, without saving anything
    Preview {
        /// Who would be in it, in CEL
        expression: String,
        #[command(flatten)]
        target: Target,
    },
    /// List its members
    Members {
        /// The segment's id
        id: String,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        target: Target,
    },
    /// Delete one
    Delete {
        /// The segment's id
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Part all who have bought into clusters of those who are alike, and make each a segment
    Cluster {
        /// How many; left out, as many as part them best
        #[arg(long, default_value_t = 0)]
        clusters: i32,
        /// Where chance begins
        #[arg(long, default_value_t = 0)]
        seed: i64,
        #[command(flatten)]
        target: Target,
    },
}

/// Members asked for at a time: the server's limit.
const PAGE: u32 = 1_000;

/// `segment`.
///
/// # Errors
/// What the service answered; a server that does not answer.
pub async fn segment(command: Segment) -> Result<()> {
    match command {
        Segment::Create { id, expression, name, description, target } => {
            let segment = scoring::Segment {
                display_name: name.unwrap_or_else(|| id.clone()),
                segment_id: id,
                description,
                expression,
                ..Default::default()
            };
            let message = scoring::CreateSegmentRequest { request_id: new_request_id(), segment: Some(segment) };
            let reply = target.client()?.scoring().create_segment(request(message)).await?.into_inner();
            if target.json {
                return view::json("clientele.scoring.v1.CreateSegmentResponse", &reply);
            }
            let id = reply.segment.unwrap_or_default().segment_id;
            view::line(format!(
                "{id} is being filled. See `clientele segment show {id}` and `clientele watch segment {id}`."
            ));
            Ok(())
        }
        Segment::List { target } => {
            let message = scoring::ListSegmentsRequest {};
            let reply = target.client()?.scoring().list_segments(request(message)).await?.into_inner();
            if target.json {
                return view::json("clientele.scoring.v1.ListSegmentsResponse", &reply);
            }
            if reply.segments.is_empty() {
                view::line(
                    "There are none yet: see `clientele segment create --help` and `clientele segment cluster --help`.",
                );
                return Ok(());
            }
            let rows = reply.segments.into_iter().map(|one| {
                let state = state(&one);
                vec![one.segment_id, one.display_name, state, one.expression]
            });
            view::line(view::table(&["id", "name", "state", "expression"], &[], rows));
            Ok(())
        }
        Segment::Show { id, target } => show(&target, id).await,
        Segment::Preview { expression, target } => preview(&target, expression).await,
        Segment::Members { id, limit, target } => list_members(&target, &id, limit).await,
        Segment::Delete { id, target } => {
            let client = target.client()?;
            let etag = get(&client, id.clone(), false).await?.segment.unwrap_or_default().etag;
            let message = scoring::DeleteSegmentRequest { request_id: new_request_id(), segment_id: id.clone(), etag };
            let reply = client.scoring().delete_segment(request(message)).await?.into_inner();
            if target.json {
                return view::json("clientele.scoring.v1.DeleteSegmentResponse", &reply);
            }
            view::line(format!("{id} is deleted; its members leave it one by one."));
            Ok(())
        }
        Segment::Cluster { clusters, seed, target } => cluster(&target, clusters, seed).await,
    }
}

/// How far a segment is: while it is being filled, what is said of its members is not all.
pub fn state(segment: &scoring::Segment) -> String {
    match segment.state() {
        scoring::SegmentState::Filling => "being filled".to_owned(),
        state => view::word(state.as_str_name(), "SEGMENT_STATE_"),
    }
}

async fn get(client: &Client, segment_id: String, with_values: bool) -> Result<scoring::GetSegmentResponse> {
    let message = scoring::GetSegmentRequest { segment_id: segment_id.clone(), with_values };
    let reply = client.scoring().get_segment(request(message)).await;
    Ok(reply.map_err(|status| missing(&segment_id, status))?.into_inner())
}

/// What is wrong with a segment that is not there.
fn missing(id: &str, status: tonic::Status) -> Error {
    match status.code() {
        tonic::Code::NotFound => {
            Error::new(format!("{id}: is no segment; `clientele segment list` shows which there are"))
        }
        _ => status.into(),
    }
}

async fn show(target: &Target, id: String) -> Result<()> {
    let reply = get(&target.client()?, id, true).await?;
    if target.json {
        return view::json("clientele.scoring.v1.GetSegmentResponse", &reply);
    }
    let (segment, statistics) = (reply.segment.unwrap_or_default(), reply.statistics.unwrap_or_default());
    view::line(format!("{} ({}), {}", segment.display_name, segment.segment_id, state(&segment)));
    if !segment.description.is_empty() {
        view::line(&segment.description);
    }
    view::line(format!("  {}", segment.expression));
    let values = statistics.values.unwrap_or_default();
    let customers = view::counted(statistics.customers.unsigned_abs(), "customer");
    let realised = view::money(values.realised_value.as_ref());
    view::line(match (&values.lifetime_value, &values.expected_value) {
        (None, None) => format!("{customers}, who brought {realised} so far; there is no forecast of what is to come"),
        (lifetime, expected) => {
            let (lifetime, expected) = (view::money(lifetime.as_ref()), view::money(expected.as_ref()));
            format!("{customers}, worth {lifetime}: {realised} so far and {expected} to come")
        }
    });
    if statistics.customers == 0 {
        return Ok(());
    }
    let mut standings = statistics.standings;
    standings.sort_by_key(|count| (count.tier, count.code, count.stage, count.relationship));
    let rows = standings.iter().map(|count| {
        vec![
            view::tier(count.tier),
            view::code(count.code),
            view::stage(count.stage),
            view::relationship(count.relationship),
            view::count(count.customers),
        ]
    });
    view::line(view::table(&["tier", "code", "stage", "relationship", "customers"], &[4], rows));
    Ok(())
}

/// Members, with since when they are where they are in it and not only would be.
fn members_table(members: &[scoring::SegmentMember]) -> String {
    let since = members.iter().any(|member| member.since.is_some());
    let rows = members.iter().map(|member| {
        let standing = member.standing.clone().unwrap_or_default();
        let mut row = vec![
            member.customer_id.clone(),
            view::tier(standing.tier),
            view::code(standing.code),
            view::stage(standing.stage),
            view::relationship(standing.relationship),
        ];
        row.extend(since.then(|| view::time(member.since.as_ref())));
        row
    });
    let header = ["customer", "tier", "code", "stage", "relationship", "since"];
    view::table(if since { &header } else { &header[..5] }, &[], rows)
}

async fn preview(target: &Target, expression: String) -> Result<()> {
    let message = scoring::PreviewSegmentRequest { expression };
    let reply = target.client()?.scoring().preview_segment(request(message)).await?.into_inner();
    if target.json {
        return view::json("clientele.scoring.v1.PreviewSegmentResponse", &reply);
    }
    let (customers, examined) = (view::count(reply.customers), view::count(reply.examined));
    let of = if reply.complete { "customers" } else { "customers examined in the time there was" };
    view::line(format!("{customers} of {examined} {of} would be in it."));
    if !reply.members.is_empty() {
        view::line(members_table(&reply.members));
    }
    Ok(())
}

async fn list_members(target: &Target, id: &str, limit: u32) -> Result<()> {
    let mut scoring = target.client()?.scoring();
    let mut all = scoring::ListSegmentMembersResponse::default();
    loop {
        let left = limit.saturating_sub(u32::try_from(all.members.len()).unwrap_or(u32::MAX)).min(PAGE);
        let message = scoring::ListSegmentMembersRequest {
            segment_id: id.to_owned(),
            page_size: i32::try_from(left).unwrap_or(i32::MAX),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = scoring.list_segment_members(request(message)).await;
        let page = page.map_err(|status| missing(id, status))?.into_inner();
        all.members.extend(page.members);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.members.len() as u64 >= u64::from(limit) {
            break;
        }
    }
    if target.json {
        return view::json("clientele.scoring.v1.ListSegmentMembersResponse", &all);
    }
    if all.members.is_empty() {
        view::line("Nobody is in it.");
        return Ok(());
    }
    view::line(members_table(&all.members));
    if !all.next_page_token.is_empty() {
        view::line("There are more; --limit shows more of them.");
    }
    Ok(())
}

async fn cluster(target: &Target, clusters: i32, seed: i64) -> Result<()> {
    let client = target.client()?;
    let message = scoring::ClusterCustomersRequest { request_id: new_request_id(), clusters, seed };
    let operation = client.scoring().cluster_customers(request(message)).await?.into_inner();
    let operation = super::wait(&client, operation, !target.json).await?;
    if target.json {
        return view::json("clientele.scoring.v1.Operation", &operation);
    }
    let Some(scoring::operation::Outcome::Cluster(result)) = operation.outcome else {
        return Err(Error::new("the operation ended without clusters"));
    };
    let rows = result.clusters.into_iter().map(|cluster| {
        let share = cluster.customers as f64 / result.customers.max(1) as f64;
        vec![
            cluster.segment_id,
            cluster.display_name,
            view::count(cluster.customers),
            view::percent(share),
            cluster.description,
        ]
    });
    view::line(view::table(&["segment", "name", "customers", "share", "what sets it apart"], &[2, 3], rows));
    view::line(format!(
        "Mean silhouette {:.2}. Each is a segment and is being filled; `clientele segment list` says when it is ready, and `clientele segment \
         show ID` who is in it.",
        result.silhouette
    ));
    Ok(())
}
