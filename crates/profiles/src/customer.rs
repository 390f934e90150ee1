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
    /// Counts what callers changed, so that followers can tell older from newer; the etag is made of it. What is followed from peers does not count:
    /// it is theirs to tell, and must not spoil somebody's update.
    pub(crate) revision: i64,
    pub(crate) details: Details,
    pub(crate) standing: Option<Standing>,
    pub(crate) open_complaints: i32,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
}

impl Customer {
    pub(crate) fn new(id: Uuid, details: Details, now: Timestamp) -> Self {
        Self { id, revision: 1, details, standing: None, open_complaints: 0, create_time: now, update_time: now }
    }

    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.revision)
    }

    /// Changes what the patch names.
    pub(crate) fn update(mut self, etag: &str, patch: &Patch, now: Timestamp) -> chassis::Result<Self> {
        if self.etag() != etag {
            return Err(chassis::Error::Etag { what: "customer" });
        }
        patch.apply(&mut self.details)?;
        self.revision += 1;
        // A clock that jumped back must not make a record look older than it was.
        self.update_time = self.update_time.max(now);
        Ok(self)
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

    fn targeted() -> Patch {
        let mut check = Check::new();
        let customer = pb::Customer { targeted: true, ..customer().to_proto() };
        let mask = prost_types::FieldMask { paths: vec!["targeted".to_owned()] };
        let patch = Patch::parse(&mut check, &customer, Some(&mask), noon());
        check.done().unwrap();
        patch
    }

    #[test]
    fn an_update_needs_the_etag_of_what_it_changes_and_makes_a_new_one() {
        let customer = customer();
        let etag = customer.etag();
        let updated = customer.update(&etag, &targeted(), noon()).unwrap();
        assert_eq!(updated.revision, 2);
        assert_ne!(updated.etag(), etag);
        assert!(matches!(updated.update(&etag, &targeted(), noon()), Err(chassis::Error::Etag { .. })));
    }

    #[test]
    fn a_record_never_gets_younger() {
        let customer = customer();
        let etag = customer.etag();
        let updated = customer.update(&etag, &targeted(), noon() - jiff::SignedDuration::from_hours(1)).unwrap();
        assert_eq!(updated.update_time, noon());
    }
}
