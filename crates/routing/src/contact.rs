//! A contact: what happened when a customer and the company met.
use chassis::{clock::to_proto, parse::Check};
use jiff::{SignedDuration, Timestamp};
use proto::routing::v1::{self as pb, ContactOutcome};
use uuid::Uuid;

use crate::channel::MAX_ID;

/// How far a contact may seem to lie in the future: clocks of call centres differ, but not by more.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// Longest id of an agent.
const MAX_AGENT: usize = 64;

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its id.
    pub id: Uuid,
    /// The decision it followed.
    pub decision_id: Option<Uuid>,
    /// The customer; none for a prospect.
    pub customer_id: Option<Uuid>,
    /// The channel it was in.
    pub channel_id: String,
    /// The queue it waited in.
    pub queue_id: Option<String>,
    /// Why.
    pub purpose: pb::ContactPurpose,
    /// When it came in.
    pub arrive: Timestamp,
    /// When it was answered.
    pub answer: Option<Timestamp>,
    /// When it ended.
    pub end: Timestamp,
    /// How it ended.
    pub outcome: ContactOutcome,
    /// Who took it; may be empty.
    pub agent_id: String,
    /// When it was recorded.
    pub create: Timestamp,
}

impl Contact {
    /// Parses a contact that is recorded at `now` as `id`.
    pub fn parse(check: &mut Check, from: Option<&pb::Contact>, id: Uuid, now: Timestamp) -> Self {
        let blank = pb::Contact::default();
        check.require(from.is_some(), "contact", "is not set");
        let from = from.unwrap_or(&blank);
        let contact = Self {
            id,
            decision_id: check.optional_uuid("contact.decision_id", &from.decision_id),
            customer_id: check.optional_uuid("contact.customer_id", &from.customer_id),
            channel_id: check.slug("contact.channel_id", &from.channel_id, MAX_ID),
            queue_id: (!from.queue_id.is_empty()).then(|| check.slug("contact.queue_id", &from.queue_id, MAX_ID)),
            purpose: check.known_or_default("contact.purpose", from.purpose),
            arrive: check.time("contact.arrive_time", from.arrive_time.as_ref()),
            answer: check.optional_time("contact.answer_time", from.answer_time.as_ref()),
            end: check.time("contact.end_time", from.end_time.as_ref()),
            outcome: check.known("contact.outcome", from.outcome),
            agent_id: check.text("contact.agent_id", &from.agent_id, 0..=MAX_AGENT),
            create: now,
        };
        let latest = now.saturating_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX);
        check.require(contact.arrive <= latest, "contact.arrive_time", "lies in the future");
        match (contact.outcome, contact.answer) {
            (ContactOutcome::Abandoned, Some(_)) => {
                check.fault("contact.answer_time", "must be absent where the contact was abandoned");
            }
            (ContactOutcome::Resolved | ContactOutcome::Transferred | ContactOutcome::Sold, None) => {
                check.fault("contact.answer_time", "is not set; only an abandoned contact or a call-back may lack it");
            }
            _ => {}
        }
        if let Some(answer) = contact.answer {
            check.require(answer >= contact.arrive, "contact.answer_time", "is before `arrive_time`");
            check.require(answer <= latest, "contact.answer_time", "lies in the future");
        }
        // Faults above leave stand-ins at 1970, which must not cause further ones.
        if from.end_time.is_some() {
            let before = contact.end < contact.arrive || contact.answer.is_some_and(|answer| contact.end < answer);
            check.require(!before, "contact.end_time", "is before `arrive_time` or `answer_time`");
            check.require(contact.end <= latest, "contact.end_time", "lies in the future");
        }
        contact
    }

    /// The contact as a message.
    pub fn into_proto(self) -> pb::Contact {
        let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        pb::Contact {
            contact_id: self.id.to_string(),
            decision_id: id(self.decision_id),
            customer_id: id(self.customer_id),
            channel_id: self.channel_id,
            queue_id: self.queue_id.unwrap_or_default(),
            purpose: self.purpose.into(),
            arrive_time: Some(to_proto(self.arrive)),
            answer_time: self.answer.map(to_proto),
            end_time: Some(to_proto(self.end)),
            outcome: self.outcome.into(),
            agent_id: self.agent_id,
            create_time: Some(to_proto(self.create)),
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::testing::noon;

    use super::*;

    fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(to_proto(noon() - SignedDuration::from_secs(seconds)))
    }

    fn message() -> pb::Contact {
        pb::Contact {
            channel_id: "phone".into(),
            arrive_time: ago(60),
            answer_time: ago(50),
            end_time: ago(10),
            outcome: ContactOutcome::Resolved.into(),
            ..Default::default()
        }
    }

    fn faults(change: impl FnOnce(&mut pb::Contact)) -> Vec<String> {
        let mut from = message();
        change(&mut from);
        let mut check = Check::new();
        Contact::parse(&mut check, Some(&from), Uuid::nil(), noon());
        check.take().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn times_must_follow_each_other_and_not_lie_in_the_future() {
        assert_eq!(faults(|_| {}), Vec::<String>::new());
        assert_eq!(faults(|c| c.arrive_time = ago(40)), ["contact.answer_time"]);
        assert_eq!(faults(|c| c.end_time = ago(55)), ["contact.end_time"]);
        assert_eq!(faults(|c| c.end_time = ago(-300)), Vec::<String>::new());
        assert_eq!(faults(|c| c.end_time = ago(-301)), ["contact.end_time"]);
        assert_eq!(faults(|c| c.end_time = None), ["contact.end_time"]);
        assert_eq!(faults(|c| c.arrive_time = None), ["contact.arrive_time"]);
    }

    #[test]
    fn only_a_contact_that_was_answered_has_an_answer_time() {
        assert_eq!(faults(|c| c.outcome = ContactOutcome::Abandoned.into()), ["contact.answer_time"]);
        assert_eq!(faults(|c| c.answer_time = None), ["contact.answer_time"]);
        let callback = |c: &mut pb::Contact| (c.outcome, c.answer_time) = (ContactOutcome::Callback.into(), None);
        assert_eq!(faults(callback), Vec::<String>::new());
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(
            faults(|c| {
                c.decision_id = "x".into();
                c.customer_id = "y".into();
                c.channel_id = String::new();
                c.queue_id = "Q!".into();
                c.purpose = -1;
                c.outcome = 0;
                c.agent_id = "\u{7}".into();
            }),
            [
                "contact.decision_id",
                "contact.customer_id",
                "contact.channel_id",
                "contact.queue_id",
                "contact.purpose",
                "contact.outcome",
                "contact.agent_id"
            ]
        );
        let mut check = Check::new();
        Contact::parse(&mut check, None, Uuid::nil(), noon());
        assert_eq!(check.take()[0].field, "contact");
    }
}
