//! `complaint …`: files and handles complaints.
use clap::{Args, Subcommand};
use proto::complaints::v1 as complaints;

use super::customer_id;
use crate::{
    cli::Target,
    client::{Client, Error, Result, new_request_id, request},
    view,
};

/// Who does what is done.
#[derive(Debug, Args)]
pub struct Actor {
    /// Who does this, for the history; left out, the owner, if there is one (of a reopening, the customer)
    #[arg(long, value_name = "WHO", default_value = "", hide_default_value = true)]
    by: String,
}

/// What to do with complaints.
#[derive(Debug, Subcommand)]
pub enum Complaint {
    /// File one
    File {
        /// The customer's id, or SYSTEM:ID
        customer: String,
        /// A cause from `complaint causes`
        #[arg(long)]
        cause: String,
        /// minor, moderate, major or critical
        #[arg(long, default_value = "moderate")]
        severity: String,
        /// In the customer's words
        #[arg(long)]
        text: String,
        /// Send the same id again to be sure that it is filed once
        #[arg(long)]
        request_id: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Show one with its history
    #[command(visible_alias = "show")]
    Get {
        /// The complaint's id
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// List them, soonest due first
    List {
        /// filed, open, waiting, resolved, reopened or closed; may be given many times
        #[arg(long)]
        state: Vec<String>,
        /// Only this owner's
        #[arg(long)]
        owner: Option<String>,
        /// Only this customer's: an id, or SYSTEM:ID
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Show the tree of causes
    Causes {
        #[command(flatten)]
        target: Target,
    },
    /// Tell the customer that we have it, and set the owner
    Acknowledge {
        /// The complaint's id
        id: String,
        /// Who works on it
        #[arg(long)]
        owner: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// To another owner; state and clock stay
    Assign {
        /// The complaint's id
        id: String,
        /// Who works on it from now on
        #[arg(long)]
        owner: String,
        /// Why
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// One level up
    Escalate {
        /// The complaint's id
        id: String,
        /// Who takes it over
        #[arg(long, default_value = "")]
        owner: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// Wait for the customer: the clock stands
    Await {
        /// The complaint's id
        id: String,
        /// What the customer was asked
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// The customer answered: the clock goes on
    Resume {
        /// The complaint's id
        id: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// Answer the customer
    Resolve {
        /// The complaint's id
        id: String,
        /// What the customer is told
        #[arg(long)]
        answer: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// Not solved after all
    Reopen {
        /// The complaint's id
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
    /// The end
    Close {
        /// The complaint's id
        id: String,
        /// The customer's own word: solved, partly or not-solved
        #[arg(long)]
        word: Option<String>,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs one of them.
///
/// # Errors
/// What the service answered.
pub async fn complaint(command: Complaint) -> Result<()> {
    match command {
        Complaint::File { customer, cause, severity, text, request_id, target } => {
            let name = format!("SEVERITY_{}", severity.to_uppercase());
            let severity = complaints::Severity::from_str_name(&name).ok_or_else(|| {
                Error::new(format!("--severity {severity}: must be minor, moderate, major or critical"))
            })?;
            let client = target.client()?;
            let complaint = complaints::Complaint {
                customer_id: customer_id(&client, &customer).await?,
                cause_id: cause.clone(),
                severity: severity.into(),
                description: text,
                ..Default::default()
            };
            let request_id = request_id.unwrap_or_else(new_request_id);
            let message = complaints::FileComplaintRequest { request_id, complaint: Some(complaint) };
            let reply = client.complaints().file_complaint(request(message)).await;
            let reply = reply.map_err(|status| match status.code() {
                tonic::Code::NotFound if status.message().contains("cause") => Error::new(format!(
                    "--cause {cause}: is no cause of complaints; `clientele complaint causes` lists those there are"
                )),
                _ => Error::from(status),
            })?;
            answer(&target, reply.into_inner().complaint)
        }
        Complaint::Get { id, target } => {
            let message = complaints::GetComplaintRequest { complaint_id: id };
            let reply = target.client()?.complaints().get_complaint(request(message)).await?.into_inner();
            if target.json {
                return view::json("clientele.complaints.v1.GetComplaintResponse", &reply);
            }
            answer(&target, reply.complaint)?;
            let rows = reply.steps.iter().map(|step| {
                vec![
                    view::time(step.time.as_ref()),
                    step.action.clone(),
                    complaint_state(step.state),
                    step.actor_id.clone(),
                    step.owner_id.clone(),
                    step.note.clone(),
                ]
            });
            view::line(view::table(&["when", "what", "state", "by", "owner then", "note"], &[], rows));
            Ok(())
        }
        Complaint::List { state: states, owner, customer, target } => {
            let states = states
                .iter()
                .map(|text| {
                    complaints::ComplaintState::from_str_name(&format!("COMPLAINT_STATE_{}", text.to_uppercase()))
                        .map(i32::from)
                        .ok_or_else(|| {
                            Error::new(format!(
                                "--state {text}: must be filed, open, waiting, resolved, reopened or closed"
                            ))
                        })
                })
                .collect::<Result<_>>()?;
            let client = target.client()?;
            let customer_id = match customer {
                Some(customer) => customer_id(&client, &customer).await?,
                None => String::new(),
            };
            let message = complaints::ListComplaintsRequest {
                states,
                owner_id: owner.unwrap_or_default(),
                customer_id,
                ..Default::default()
            };
            let reply = client.complaints().list_complaints(request(message)).await?.into_inner();
            if target.json {
                return view::json("clientele.complaints.v1.ListComplaintsResponse", &reply);
            }
            let rows = reply.complaints.iter().map(|one| {
                let due = view::time(one.due_time.as_ref());
                vec![
                    one.complaint_id.clone(),
                    one.customer_id.clone(),
                    complaint_state(one.state),
                    view::tier(one.tier),
                    severity_word(one.severity),
                    one.cause_id.clone(),
                    if one.breached { format!("{due}, late") } else { due },
                    one.owner_id.clone(),
                ]
            });
            if reply.complaints.is_empty() {
                view::line("No complaints.");
            } else {
                view::line(view::table(
                    &["complaint", "customer", "state", "tier", "severity", "cause", "due", "owner"],
                    &[],
                    rows,
                ));
            }
            Ok(())
        }
        Complaint::Causes { target } => {
            let reply = target
                .client()?
                .complaints()
                .list_causes(request(complaints::ListCausesRequest {}))
                .await?
                .into_inner();
            if target.json {
                return view::json("clientele.complaints.v1.ListCausesResponse", &reply);
            }
            let rows = reply
                .causes
                .iter()
                .map(|cause| vec![cause.cause_id.clone(), cause.parent_id.clone(), cause.display_name.clone()]);
            view::line(view::table(&["cause", "below", "name"], &[], rows));
            Ok(())
        }
        Complaint::Acknowledge { id, owner, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::AcknowledgeComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                owner_id: owner,
                actor_id: actor.by,
            };
            let reply = client.complaints().acknowledge_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Assign { id, owner, reason, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::AssignComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                owner_id: owner,
                reason,
                actor_id: actor.by,
            };
            let reply = client.complaints().assign_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Escalate { id, owner, reason, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::EscalateComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                owner_id: owner,
                reason,
                actor_id: actor.by,
            };
            let reply = client.complaints().escalate_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Await { id, reason, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::AwaitCustomerRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                reason,
                actor_id: actor.by,
            };
            let reply = client.complaints().await_customer(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Resume { id, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::ResumeComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                actor_id: actor.by,
            };
            let reply = client.complaints().resume_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Resolve { id, answer: text, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::ResolveComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                answer: text,
                actor_id: actor.by,
            };
            let reply = client.complaints().resolve_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Reopen { id, reason, actor, target } => {
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::ReopenComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                reason,
                actor_id: actor.by,
            };
            let reply = client.complaints().reopen_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
        Complaint::Close { id, word, actor, target } => {
            let word = match word.as_deref() {
                None => complaints::CustomerWord::Unspecified,
                Some(text) => {
                    let name = format!("CUSTOMER_WORD_{}", text.to_uppercase().replace('-', "_"));
                    complaints::CustomerWord::from_str_name(&name)
                        .ok_or_else(|| Error::new(format!("--word {text}: must be solved, partly or not-solved")))?
                }
            };
            let (client, etag) = current(&target, &id).await?;
            let message = complaints::CloseComplaintRequest {
                request_id: new_request_id(),
                complaint_id: id,
                etag,
                customer_word: word.into(),
                actor_id: actor.by,
            };
            let reply = client.complaints().close_complaint(request(message)).await?.into_inner();
            answer(&target, reply.complaint)
        }
    }
}

/// The etag as it now is: a person at a terminal acts on the case as it stands.
async fn current(target: &Target, id: &str) -> Result<(Client, String)> {
    let client = target.client()?;
    let message = complaints::GetComplaintRequest { complaint_id: id.to_owned() };
    let reply = client.complaints().get_complaint(request(message)).await?.into_inner();
    Ok((client, reply.complaint.unwrap_or_default().etag))
}

fn answer(target: &Target, complaint: Option<complaints::Complaint>) -> Result<()> {
    let complaint = complaint.unwrap_or_default();
    if target.json {
        return view::json("clientele.complaints.v1.Complaint", &complaint);
    }
    view::line(show_complaint(&complaint));
    Ok(())
}

/// State of a case for people.
pub fn complaint_state(value: i32) -> String {
    view::word(complaints::ComplaintState::try_from(value).unwrap_or_default().as_str_name(), "COMPLAINT_STATE_")
}

fn severity_word(value: i32) -> String {
    view::word(complaints::Severity::try_from(value).unwrap_or_default().as_str_name(), "SEVERITY_")
}

/// A case as a table.
pub fn show_complaint(one: &complaints::Complaint) -> String {
    let due = match &one.due_time {
        Some(time) => view::time(Some(time)),
        None => "the clock stands".to_owned(),
    };
    let rows = vec![
        vec!["customer".to_owned(), one.customer_id.clone()],
        vec!["state".to_owned(), complaint_state(one.state)],
        vec!["cause".to_owned(), one.cause_id.clone()],
        vec!["severity".to_owned(), severity_word(one.severity)],
        vec!["tier".to_owned(), view::tier(one.tier)],
        vec!["due".to_owned(), due],
        vec!["business time allowed".to_owned(), view::duration(one.allowed.as_ref())],
        vec!["business time run".to_owned(), view::duration(one.elapsed.as_ref())],
        vec!["owner".to_owned(), one.owner_id.clone()],
        vec!["escalation level".to_owned(), one.escalation_level.to_string()],
        vec!["in the customer's words".to_owned(), one.description.clone()],
        vec!["our answer".to_owned(), if one.answer.is_empty() { "–".to_owned() } else { one.answer.clone() }],
    ];
    view::table(&["complaint", &one.complaint_id], &[], rows)
}
