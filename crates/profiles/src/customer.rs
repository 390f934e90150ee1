//! The record of a customer: what callers set ([`Details`]) and what is followed from the peers, each with a counter of its own.
use chassis::clock::{at_micros, to_proto};
use jiff::Timestamp;
use proto::{profiles::v1 as pb, scoring::v1::Standing};
use uuid::Uuid;

mod details;
mod patch;
pub(crate) use details::{Details, Identity, Kind, MAX_NAME, line, name_key};
pub(crate) use patch::Patch;

/// One customer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Customer {
    pub(crate) id: Uuid,
    /// Counts every change, so that followers can tell older from newer.
    pub(crate) revision: i64,
    /// Counts what callers changed. The etag is made of it, so that a changed standing does not spoil somebody's update.
    pub(crate) edit: i64,
    pub(crate) details: Details,
    pub(crate) standing: Option<Standing>,
    pub(crate) open_complaints: i32,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
}

impl Customer {
    pub(crate) fn new(id: Uuid, details: Details, now: Timestamp) -> Self {
        Self {
            id,
            revision: 1,
            edit: 1,
            details,
            standing: None,
            open_complaints: 0,
            create_time: now,
            update_time: now,
        }
    }

    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.edit)
    }

    /// Changes what the patch names.
    pub(crate) fn update(mut self, etag: &str, patch: &Patch, now: Timestamp) -> chassis::Result<Self> {
        if self.etag() != etag {
            return Err(chassis::Error::Etag { what: "customer" });
        }
        patch.apply(&mut self.details)?;
        self.edit += 1;
        self.touch(now);
        Ok(self)
    }

    /// Takes over a standing, unless it says nothing new or is older news that is not `authoritative`; whether it did.
    pub(crate) fn follow_standing(&mut self, standing: &Standing, authoritative: bool, now: Timestamp) -> bool {
        let is_news = |known: &Standing| {
            if authoritative { standing != known } else { standing.revision > known.revision }
        };
        if !self.standing.as_ref().is_none_or(is_news) {
            return false;
        }
        self.standing = Some(standing.clone());
        self.touch(now);
        true
    }

    /// Takes over the number of open complaints; whether it changed.
    pub(crate) fn follow_open_complaints(&mut self, open: i32, now: Timestamp) -> bool {
        let changed = self.open_complaints != open;
        if changed {
            self.open_complaints = open;
            self.touch(now);
        }
        changed
    }

    fn touch(&mut self, now: Timestamp) {
        self.revision += 1;
        // A clock that jumped back must not make a record look older than it was.
        self.update_time = self.update_time.max(now);
    }

    pub(crate) fn to_proto(&self) -> pb::Customer {
        pb::Customer {
            customer_id: self.id.to_string(),
            etag: self.etag(),
            revision: self.revision,
            standing: self.standing.clone(),
            open_complaints: self.open_complaints,
            create_time: Some(to_proto(self.create_time)),
            update_time: Some(to_proto(self.update_time)),
            ..self.details.as_proto().clone()
        }
    }
}

/// Microseconds of a peer's timestamp; beyond the calendar's end it is the end.
pub(crate) fn micros(time: &prost_types::Timestamp) -> i64 {
    let micros = time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000);
    at_micros(micros).as_microsecond()
}

#[cfg(test)]
mod tests {
    use chassis::{parse::Check, testing::noon};

    use super::*;

    fn customer() -> Customer {
        let details = Details::parse(
            &mut Check::new(),
            "customer",
            &pb::Customer { kind: Some(pb::customer::Kind::Person(pb::Person::default())), ..Default::default() },
            noon(),
        );
        Customer::new(Uuid::nil(), details, noon())
    }

    fn standing(revision: i64) -> Standing {
        Standing { customer_id: Uuid::nil().to_string(), revision, tier: 1, ..Default::default() }
    }

    #[test]
    fn news_of_a_peer_raises_the_revision_and_leaves_the_etag() {
        let mut customer = customer();
        let etag = customer.etag();
        assert!(customer.follow_standing(&standing(1), false, noon()));
        assert!(customer.follow_open_complaints(2, noon()));
        assert_eq!((customer.revision, customer.etag()), (3, etag));
    }

    #[test]
    fn older_news_is_ignored() {
        let mut customer = customer();
        assert!(customer.follow_standing(&standing(5), false, noon()));
        let before = customer.clone();
        assert!(!customer.follow_standing(&standing(5), false, noon()));
        assert!(!customer.follow_standing(&standing(4), false, noon()));
        assert!(!customer.follow_open_complaints(0, noon()));
        assert_eq!(customer, before);
    }

    #[test]
    fn an_authoritative_standing_replaces_any_other_and_says_nothing_twice() {
        let mut customer = customer();
        assert!(customer.follow_standing(&standing(5), false, noon()));
        assert!(customer.follow_standing(&standing(4), true, noon()));
        assert!(!customer.follow_standing(&standing(4), true, noon()));
        // The same count of another history.
        assert!(customer.follow_standing(&Standing { tier: 2, ..standing(4) }, true, noon()));
        assert_eq!(customer.revision, 4);
    }

    #[test]
    fn a_record_never_gets_younger() {
        let mut customer = customer();
        customer.follow_open_complaints(1, noon() - jiff::SignedDuration::from_hours(1));
        assert_eq!(customer.update_time, noon());
    }
}
