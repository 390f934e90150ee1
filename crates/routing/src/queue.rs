//! A queue: a line of contacts waiting for the same people.
use chassis::parse::{Check, duration_to_proto};
use jiff::SignedDuration;
use proto::{routing::v1 as pb, scoring::v1::Tier};

use crate::channel::{MAX_ID, etag};

/// Most queues of one deployment: more than a large call centre has, few enough to be kept in memory and read at once.
pub const MAX_QUEUES: u64 = 500;
/// Longest time to an answer: 7 days.
const MAX_ANSWER_SECONDS: i64 = 7 * 24 * 3600;
/// Longest time until it is done: 30 days.
const MAX_HANDLING_SECONDS: i64 = 30 * 24 * 3600;

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its id.
    pub id: String,
    /// Grows with every change, from 1.
    pub revision: i64,
    /// For people.
    pub display_name: String,
    /// The channel it works in.
    pub channel_id: String,
    /// The tiers it is for; empty means anyone.
    pub tiers: Vec<Tier>,
    /// The purposes it is for; empty means any.
    pub purposes: Vec<pb::ContactPurpose>,
    /// 1 (first) to 100 (last).
    pub priority: i32,
    /// Within which time a contact should be answered.
    pub answer: SignedDuration,
    /// Within which time it should be done.
    pub handling: SignedDuration,
    /// Takes part in decisions.
    pub enabled: bool,
}

impl Queue {
    /// The paths that can be set.
    pub const PATHS: &[&str] = &[
        "display_name",
        "channel_id",
        "tiers",
        "purposes",
        "priority",
        "target_answer_time",
        "target_handling_time",
        "enabled",
    ];

    /// A queue of which nothing is known but its id.
    pub fn blank(id: String) -> Self {
        Self {
            id,
            revision: 1,
            display_name: String::new(),
            channel_id: String::new(),
            tiers: Vec::new(),
            purposes: Vec::new(),
            priority: 100,
            answer: SignedDuration::from_secs(1),
            handling: SignedDuration::from_secs(1),
            enabled: false,
        }
    }

    /// Parses a queue to be created.
    pub fn parse(check: &mut Check, from: &pb::Queue) -> Self {
        let mut queue = Self::blank(check.slug("queue.queue_id", &from.queue_id, MAX_ID));
        for path in Self::PATHS {
            queue.set(check, path, from);
        }
        queue
    }

    /// Sets one of [`Self::PATHS`] from a message.
    pub fn set(&mut self, check: &mut Check, path: &str, from: &pb::Queue) {
        match path {
            "display_name" => self.display_name = check.text("queue.display_name", &from.display_name, 1..=100),
            "channel_id" => self.channel_id = check.slug("queue.channel_id", &from.channel_id, MAX_ID),
            "tiers" => self.tiers = each_once(check, "queue.tiers", &from.tiers, 4),
            "purposes" => self.purposes = each_once(check, "queue.purposes", &from.purposes, 6),
            "priority" => self.priority = check.range("queue.priority", from.priority, 1..=100),
            "target_answer_time" => {
                let time = from.target_answer_time.as_ref();
                self.answer = check.duration("queue.target_answer_time", time, 1..=MAX_ANSWER_SECONDS);
            }
            "target_handling_time" => {
                let time = from.target_handling_time.as_ref();
                self.handling = check.duration("queue.target_handling_time", time, 1..=MAX_HANDLING_SECONDS);
            }
            "enabled" => self.enabled = from.enabled,
            _ => check.fault("update_mask", "names a path that cannot be set"),
        }
    }

    /// Whether it is for such a contact.
    pub fn takes(&self, tier: Tier, purpose: pb::ContactPurpose) -> bool {
        self.enabled
            && (self.tiers.is_empty() || self.tiers.contains(&tier))
            && (self.purposes.is_empty() || self.purposes.contains(&purpose))
    }

    /// Order of choice among those that take a contact, first one first: the most specific (a purpose says more than a tier), then by priority, then by id.
    pub fn choice_order(&self) -> (bool, bool, i32, &str) {
        (self.purposes.is_empty(), self.tiers.is_empty(), self.priority, &self.id)
    }

    /// The queue as a message.
    pub fn to_proto(&self) -> pb::Queue {
        pb::Queue {
            queue_id: self.id.clone(),
            etag: etag(self.revision),
            display_name: self.display_name.clone(),
            channel_id: self.channel_id.clone(),
            tiers: self.tiers.iter().map(|tier| i32::from(*tier)).collect(),
            purposes: self.purposes.iter().map(|purpose| i32::from(*purpose)).collect(),
            priority: self.priority,
            target_answer_time: Some(duration_to_proto(self.answer)),
            target_handling_time: Some(duration_to_proto(self.handling)),
            enabled: self.enabled,
        }
    }
}

/// Values of an enum, none unspecified and none twice.
fn each_once<E: TryFrom<i32> + Default + PartialEq>(
    check: &mut Check,
    field: &str,
    values: &[i32],
    most: usize,
) -> Vec<E> {
    check.count(field, values.len(), 0..=most);
    let mut found = Vec::new();
    for (index, value) in values.iter().enumerate().take(most) {
        let path = format!("{field}[{index}]");
        let value: E = check.known(&path, *value);
        check.require(!found.contains(&value) || value == E::default(), &path, "is there twice");
        found.push(value);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut pb::Queue);

    fn message() -> pb::Queue {
        pb::Queue {
            queue_id: "phone-key".into(),
            etag: "1".into(),
            display_name: "Key customers".into(),
            channel_id: "phone".into(),
            tiers: vec![Tier::Important.into(), Tier::Major.into()],
            purposes: vec![pb::ContactPurpose::Cancel.into()],
            priority: 2,
            target_answer_time: Some(prost_types::Duration { seconds: 12, nanos: 0 }),
            target_handling_time: Some(prost_types::Duration { seconds: 45, nanos: 500_000_000 }),
            enabled: true,
        }
    }

    #[test]
    fn a_queue_is_given_back_as_it_was_sent() {
        let mut check = Check::new();
        let queue = Queue::parse(&mut check, &message());
        check.done().unwrap();
        assert_eq!(queue.to_proto(), message());
    }

    #[test]
    fn every_malformed_field_is_named() {
        let cases: [(Spoil, &str); 12] = [
            (|q| q.queue_id = String::new(), "queue.queue_id"),
            (|q| q.display_name = "x".repeat(101), "queue.display_name"),
            (|q| q.channel_id = "No Such".into(), "queue.channel_id"),
            (|q| q.tiers = vec![0], "queue.tiers[0]"),
            (|q| q.tiers = vec![1, 1], "queue.tiers[1]"),
            (|q| q.tiers = vec![1; 5], "queue.tiers"),
            (|q| q.purposes = vec![1, 77], "queue.purposes[1]"),
            (|q| q.priority = 0, "queue.priority"),
            (|q| q.priority = 101, "queue.priority"),
            (|q| q.target_answer_time = None, "queue.target_answer_time"),
            (|q| q.target_answer_time.as_mut().unwrap().seconds = 604_801, "queue.target_answer_time"),
            (|q| q.target_handling_time.as_mut().unwrap().seconds = -1, "queue.target_handling_time"),
        ];
        for (spoil, field) in cases {
            let mut from = message();
            spoil(&mut from);
            let mut check = Check::new();
            Queue::parse(&mut check, &from);
            assert_eq!(check.take().first().map(|fault| fault.field.as_str()), Some(field));
        }
    }
}
