//! Requests, parsed once: all that is wrong with one is named at once.
use std::ops::RangeInclusive;

use chassis::{Result, idempotency::Key, page::Page, parse::Check};
use prost::Message;
use proto::complaints::v1::{self as pb, ComplaintState, CustomerWord, Severity};
use uuid::Uuid;

use super::PAGE_SIZE;
use crate::{
    complaint::{Filing, SCORING, SWEEP},
    store::{self, Filter, ListKey},
};

/// Longest description and answer: two pages of text.
const WORDS_CHARS: usize = 4_000;
/// Longest reason of a step.
const REASON_CHARS: usize = 1_000;
/// Longest id of an owner, and of a cause.
const ID_CHARS: usize = 64;
/// Longest name of a cause.
const NAME_CHARS: usize = 100;
/// There are six states to ask for.
const MAX_STATES: usize = 6;

/// Which complaint a change is for, at which etag.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) id: Uuid,
    pub(super) etag: String,
    /// Who does it; empty where the call does not say.
    pub(super) actor: String,
}

impl Target {
    fn parse(
        check: &mut Check,
        rpc: &'static str,
        request: &impl Message,
        [request_id, complaint_id, etag, actor_id]: [&str; 4],
    ) -> Self {
        Self {
            key: Key::parse(check, rpc, request_id, request),
            id: check.uuid("complaint_id", complaint_id),
            etag: check.text("etag", etag, 1..=ID_CHARS),
            actor: person(check, "actor_id", actor_id, 0..=ID_CHARS),
        }
    }
}

/// Who works on a complaint or changes it: anybody but the service itself, whose doings stand in the history under names of their own.
fn person(check: &mut Check, field: &str, text: &str, chars: RangeInclusive<usize>) -> String {
    let id = check.text(field, text, chars);
    let known = [SWEEP, SCORING].contains(&id.as_str());
    check.require(
        !known,
        field,
        "must be somebody's id: \"sweep\" and \"scoring\" are what the service calls itself in the history",
    );
    id
}

macro_rules! target {
    ($check:expr, $rpc:literal, $request:expr) => {
        Target::parse(
            $check,
            $rpc,
            &$request,
            [&$request.request_id, &$request.complaint_id, &$request.etag, &$request.actor_id],
        )
    };
}

/// The message inside; where it is missing, its fields need not be named one by one.
fn inner<M: Default>(check: &mut Check, field: &str, message: Option<M>) -> Result<M> {
    check.require(message.is_some(), field, "is not set");
    match message {
        Some(message) => Ok(message),
        None => check.done().map(|()| M::default()),
    }
}

pub(super) fn file(request: pb::FileComplaintRequest, id: Uuid) -> Result<(Key, Filing)> {
    let mut check = Check::new();
    let key = Key::parse(&mut check, "FileComplaint", &request.request_id, &request);
    let complaint = inner(&mut check, "complaint", request.complaint)?;
    let severity = match check.known_or_default("complaint.severity", complaint.severity) {
        Severity::Unspecified => Severity::Moderate,
        known @ (Severity::Minor | Severity::Moderate | Severity::Major | Severity::Critical) => known,
    };
    let filing = Filing {
        id,
        customer_id: check.uuid("complaint.customer_id", &complaint.customer_id),
        cause_id: check.slug("complaint.cause_id", &complaint.cause_id, ID_CHARS),
        severity,
        description: check.text("complaint.description", &complaint.description, 1..=WORDS_CHARS),
    };
    check.done()?;
    Ok((key, filing))
}

pub(super) fn acknowledge(request: pb::AcknowledgeComplaintRequest) -> Result<(Target, String)> {
    let mut check = Check::new();
    let target = target!(&mut check, "AcknowledgeComplaint", request);
    let owner = person(&mut check, "owner_id", &request.owner_id, 1..=ID_CHARS);
    check.done()?;
    Ok((target, owner))
}

pub(super) fn assign(request: pb::AssignComplaintRequest) -> Result<(Target, String, String)> {
    let mut check = Check::new();
    let target = target!(&mut check, "AssignComplaint", request);
    let owner = person(&mut check, "owner_id", &request.owner_id, 1..=ID_CHARS);
    let reason = check.text("reason", &request.reason, 0..=REASON_CHARS);
    check.done()?;
    Ok((target, owner, reason))
}

pub(super) fn escalate(request: pb::EscalateComplaintRequest) -> Result<(Target, String, String)> {
    let mut check = Check::new();
    let target = target!(&mut check, "EscalateComplaint", request);
    let owner = person(&mut check, "owner_id", &request.owner_id, 0..=ID_CHARS);
    let reason = check.text("reason", &request.reason, 1..=REASON_CHARS);
    check.done()?;
    Ok((target, owner, reason))
}

pub(super) fn await_customer(request: pb::AwaitCustomerRequest) -> Result<(Target, String)> {
    let mut check = Check::new();
    let target = target!(&mut check, "AwaitCustomer", request);
    let reason = check.text("reason", &request.reason, 1..=REASON_CHARS);
    check.done()?;
    Ok((target, reason))
}

pub(super) fn resume(request: pb::ResumeComplaintRequest) -> Result<Target> {
    let mut check = Check::new();
    let target = target!(&mut check, "ResumeComplaint", request);
    check.done()?;
    Ok(target)
}

pub(super) fn resolve(request: pb::ResolveComplaintRequest) -> Result<(Target, String)> {
    let mut check = Check::new();
    let target = target!(&mut check, "ResolveComplaint", request);
    let answer = check.text("answer", &request.answer, 1..=WORDS_CHARS);
    check.done()?;
    Ok((target, answer))
}

pub(super) fn reopen(request: pb::ReopenComplaintRequest) -> Result<(Target, String)> {
    let mut check = Check::new();
    let target = target!(&mut check, "ReopenComplaint", request);
    let reason = check.text("reason", &request.reason, 1..=REASON_CHARS);
    check.done()?;
    Ok((target, reason))
}

pub(super) fn close(request: pb::CloseComplaintRequest) -> Result<(Target, CustomerWord)> {
    let mut check = Check::new();
    let target = target!(&mut check, "CloseComplaint", request);
    let word = check.known_or_default("customer_word", request.customer_word);
    check.done()?;
    Ok((target, word))
}

/// A list that was asked for.
#[derive(Debug)]
pub(super) struct List {
    pub(super) filter: Filter,
    pub(super) page: Page<ListKey>,
}

impl List {
    pub(super) fn parse(mut request: pb::ListComplaintsRequest) -> Result<Self> {
        let mut check = Check::new();
        let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
        check.count("states", request.states.len(), 0..=MAX_STATES);
        let states = request.states.iter().take(MAX_STATES).enumerate();
        let states =
            states.map(|(index, state)| check.known::<ComplaintState>(&format!("states[{index}]"), *state)).collect();
        let owner_id = check.text("owner_id", &request.owner_id, 0..=ID_CHARS);
        let filter = Filter {
            states,
            owner_id: (!owner_id.is_empty()).then_some(owner_id),
            customer_id: check.optional_uuid("customer_id", &request.customer_id),
            due_before: check.optional_time("due_before", request.due_before.as_ref()),
        };
        let page = Page::parse(&mut check, "ListComplaints", &request, size, PAGE_SIZE, &token);
        check.done()?;
        Ok(Self { filter, page: page? })
    }
}

/// A cause to be added.
#[derive(Debug)]
pub(super) struct NewCause {
    pub(super) key: Key,
    pub(super) cause: store::Cause,
}

impl NewCause {
    pub(super) fn parse(request: pb::CreateCauseRequest) -> Result<Self> {
        let mut check = Check::new();
        let key = Key::parse(&mut check, "CreateCause", &request.request_id, &request);
        let cause = inner(&mut check, "cause", request.cause)?;
        let parent_id = match cause.parent_id.as_str() {
            "" => String::new(),
            id => check.slug("cause.parent_id", id, ID_CHARS),
        };
        let cause = store::Cause {
            cause_id: check.slug("cause.cause_id", &cause.cause_id, ID_CHARS),
            parent_id,
            display_name: check.text("cause.display_name", &cause.display_name, 1..=NAME_CHARS),
        };
        check.done()?;
        Ok(Self { key, cause })
    }
}
