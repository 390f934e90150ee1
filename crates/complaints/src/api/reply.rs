//! How a complaint is shown.
use std::collections::BTreeMap;

use chassis::{
    clock::{at_micros, to_proto},
    parse::duration_to_proto,
};
use jiff::{SignedDuration, Timestamp};
use proto::complaints::v1 as pb;

use crate::{
    complaint::{Complaint, Rules, Step},
    store,
};

/// As of `now`.
pub(super) fn show(complaint: &Complaint, now: Timestamp, rules: &Rules) -> pb::Complaint {
    pb::Complaint {
        elapsed: Some(duration_to_proto(complaint.clock.elapsed_at(now, &rules.calendar))),
        breached: complaint.is_breached(now),
        ..stored(complaint)
    }
}

/// As it is stored: `elapsed` is what had run before the clock last began to run, `breached` what is marked.
pub(super) fn stored(complaint: &Complaint) -> pb::Complaint {
    pb::Complaint {
        complaint_id: complaint.id.to_string(),
        etag: complaint.etag(),
        revision: complaint.revision,
        customer_id: complaint.customer_id.to_string(),
        cause_id: complaint.cause_id.clone(),
        severity: complaint.severity.into(),
        description: complaint.description.clone(),
        state: complaint.state.into(),
        owner_id: complaint.owner_id.clone(),
        escalation_level: complaint.level,
        tier: complaint.tier.into(),
        due_time: complaint.due.map(to_proto),
        allowed: Some(duration_to_proto(complaint.clock.allowed)),
        elapsed: Some(duration_to_proto(complaint.clock.elapsed)),
        breached: complaint.breached,
        answer: complaint.answer.clone(),
        customer_word: complaint.customer_word.into(),
        create_time: Some(to_proto(complaint.create_time)),
        update_time: Some(to_proto(complaint.update_time)),
    }
}

/// Makes of [`stored`] what [`show`] would have given: a feed's snapshot knows neither clock nor calendar.
pub(super) fn as_of(complaint: &mut pb::Complaint, now: Timestamp, rules: &Rules) {
    let Some(due) = &complaint.due_time else { return };
    let due = at_micros(due.seconds.saturating_mul(1_000_000).saturating_add(i64::from(due.nanos) / 1_000));
    let read = |duration: &Option<prost_types::Duration>| {
        duration.map_or(SignedDuration::ZERO, |d| SignedDuration::new(d.seconds, d.nanos))
    };
    // Counted from the due time, when as much as is allowed has run, or what ran before, if that was more already.
    let before = read(&complaint.elapsed);
    let at_due = before.max(read(&complaint.allowed));
    let over = rules.calendar.business_time_between(due, now);
    let left = rules.calendar.business_time_between(now, due);
    complaint.elapsed = Some(duration_to_proto(at_due.saturating_add(over).saturating_sub(left).max(before)));
    complaint.breached |= due <= now;
}

/// What followers get: none of the words of customer and company.
pub(super) fn change(complaint: pb::Complaint, open_complaints: i32) -> pb::ComplaintChange {
    let complaint = pb::Complaint { description: String::new(), answer: String::new(), ..complaint };
    pb::ComplaintChange { complaint: Some(complaint), open_complaints }
}

pub(super) fn show_step(step: Step) -> pb::ComplaintStep {
    pb::ComplaintStep {
        time: Some(to_proto(step.time)),
        action: step.action,
        state: step.state.into(),
        actor_id: step.actor_id,
        note: step.note,
        owner_id: step.owner_id,
    }
}

pub(super) fn show_cause(cause: store::Cause) -> pb::Cause {
    pb::Cause { cause_id: cause.cause_id, parent_id: cause.parent_id, display_name: cause.display_name }
}

/// Each cause behind its parent, siblings by id.
pub(super) fn in_tree_order(causes: Vec<store::Cause>) -> Vec<pb::Cause> {
    let mut children = BTreeMap::<String, Vec<store::Cause>>::new();
    // Taken off the end below, so the last by id goes in first.
    for cause in causes.into_iter().rev() {
        children.entry(cause.parent_id.clone()).or_default().push(cause);
    }
    let mut ordered = Vec::new();
    let mut waiting = children.remove("").unwrap_or_default();
    while let Some(cause) = waiting.pop() {
        waiting.extend(children.remove(&cause.cause_id).unwrap_or_default());
        ordered.push(show_cause(cause));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        Config,
        complaint::{Filing, Present},
    };

    fn cause(id: &str, parent: &str) -> store::Cause {
        store::Cause { cause_id: id.into(), parent_id: parent.into(), display_name: id.into() }
    }

    #[test]
    fn every_cause_stands_behind_its_parent() {
        let causes =
            vec![cause("a", "z"), cause("b", ""), cause("c", "b"), cause("d", "b"), cause("e", "a"), cause("z", "")];
        let ordered: Vec<_> = in_tree_order(causes).into_iter().map(|cause| cause.cause_id).collect();
        assert_eq!(ordered, ["b", "c", "d", "z", "a", "e"]);
    }

    proptest! {
        #[test]
        fn a_snapshot_shows_what_a_reading_shows(
            begin in 0_i64..2_000_000, first in 0_i64..400_000, pause in 0_i64..400_000, second in -10_000_i64..1_000_000,
            small in any::<bool>(),
        ) {
            use proto::{complaints::v1::Severity, scoring::v1::Tier};
            let rules = Config::default().rules().unwrap();
            let mut now = Timestamp::from_second(1_767_000_000 + begin).unwrap();
            let filing = Filing {
                id: Uuid::nil(), customer_id: Uuid::nil(), cause_id: "other".into(), severity: Severity::Minor, description: "d".into(),
            };
            let present = |now, tier| Present { now, tier, rules: &rules };
            let (mut complaint, _) = Complaint::file(filing, &present(now, Tier::Small));
            let tier = if small { Tier::Small } else { Tier::Important };
            let step = |seconds| SignedDuration::from_secs(seconds);
            complaint = complaint.acknowledge("o", &present(now, Tier::Small)).unwrap().0;
            now += step(first);
            complaint = complaint.await_customer("w", &present(now, Tier::Small)).unwrap().0;
            now += step(pause);
            if let Some((changed, _)) = complaint.clone().follow_tier(&present(now, tier)) {
                complaint = changed;
            }
            complaint = complaint.resume(&present(now, tier)).unwrap().0;
            now += step(second);
            let mut from_snapshot = stored(&complaint);
            as_of(&mut from_snapshot, now, &rules);
            prop_assert_eq!(from_snapshot, show(&complaint, now, &rules));
        }
    }
}
