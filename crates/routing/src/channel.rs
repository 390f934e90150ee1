//! A channel: a way in which customers and the company meet.
use chassis::parse::Check;
use proto::{common::v1::Money, routing::v1 as pb};

use crate::hours::Hours;

/// Most channels of one deployment: the decision weighs every one.
pub const MAX_CHANNELS: u64 = 200;
/// Longest id of a channel or queue.
pub const MAX_ID: usize = 32;
/// Dearest contact, in minor units: a million dollars; far above any visit, and costs stay exact as a float.
const MAX_COST: i64 = 100_000_000;
/// Most contacts at one time.
const MAX_CAPACITY: i32 = 1_000_000;

/// A channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its id.
    pub id: String,
    /// Grows with every change, from 1.
    pub revision: i64,
    /// For people.
    pub display_name: String,
    /// What it is.
    pub kind: pb::ChannelKind,
    /// Currency of the cost.
    pub currency: String,
    /// What one contact costs, in minor units.
    pub cost: i64,
    /// Contacts at one time.
    pub capacity: i32,
    /// When it is open.
    pub hours: Hours,
    /// How well it builds relationships, 0 to 1.
    pub relationship_building: f64,
    /// Takes part in decisions.
    pub enabled: bool,
}

impl Channel {
    /// The paths that can be set.
    pub const PATHS: &[&str] =
        &["display_name", "kind", "cost_per_contact", "capacity", "opening_hours", "relationship_building", "enabled"];

    /// A channel of which nothing is known but its id.
    pub fn blank(id: String) -> Self {
        Self {
            id,
            revision: 1,
            display_name: String::new(),
            kind: pb::ChannelKind::Unspecified,
            currency: String::new(),
            cost: 0,
            capacity: 1,
            hours: Hours::default(),
            relationship_building: 0.0,
            enabled: false,
        }
    }

    /// Parses a channel to be created; costs must be in `currency`.
    pub fn parse(check: &mut Check, from: &pb::Channel, currency: &str) -> Self {
        let mut channel = Self::blank(check.slug("channel.channel_id", &from.channel_id, MAX_ID));
        for path in Self::PATHS {
            channel.set(check, path, from, currency);
        }
        channel
    }

    /// Sets one of [`Self::PATHS`] from a message.
    pub fn set(&mut self, check: &mut Check, path: &str, from: &pb::Channel, currency: &str) {
        match path {
            "display_name" => self.display_name = check.text("channel.display_name", &from.display_name, 1..=100),
            "kind" => self.kind = check.known("channel.kind", from.kind),
            "cost_per_contact" => {
                let field = "channel.cost_per_contact";
                let money = check.money(field, from.cost_per_contact.as_ref(), 0..=MAX_COST);
                if from.cost_per_contact.is_some() && money.currency_code != currency {
                    check.fault(format!("{field}.currency_code"), format!("must be {currency}, as all costs here"));
                }
                (self.currency, self.cost) = (money.currency_code, money.minor_units);
            }
            "capacity" => self.capacity = check.range("channel.capacity", from.capacity, 1..=MAX_CAPACITY),
            "opening_hours" => self.hours = Hours::parse(check, "channel.opening_hours", &from.opening_hours),
            "relationship_building" => {
                self.relationship_building =
                    check.range("channel.relationship_building", from.relationship_building, 0.0..=1.0);
            }
            "enabled" => self.enabled = from.enabled,
            _ => check.fault("update_mask", mask_fault(Self::PATHS)),
        }
    }

    /// The channel as a message.
    pub fn to_proto(&self) -> pb::Channel {
        pb::Channel {
            channel_id: self.id.clone(),
            etag: etag(self.revision),
            display_name: self.display_name.clone(),
            kind: self.kind.into(),
            cost_per_contact: Some(Money { currency_code: self.currency.clone(), minor_units: self.cost }),
            capacity: self.capacity,
            opening_hours: self.hours.to_proto(),
            relationship_building: self.relationship_building,
            enabled: self.enabled,
        }
    }
}

/// The etag of a revision.
pub fn etag(revision: i64) -> String {
    format!("{revision:x}")
}

/// The paths of an update mask, each one of `allowed`.
pub fn parse_mask(
    check: &mut Check,
    mask: Option<&prost_types::FieldMask>,
    allowed: &'static [&'static str],
) -> Vec<&'static str> {
    let paths = mask.map_or(&[][..], |mask| &mask.paths);
    check.count("update_mask", paths.len(), 1..=allowed.len());
    let mut known = Vec::new();
    for path in paths.iter().take(allowed.len()) {
        match allowed.iter().find(|allowed| *allowed == path) {
            Some(path) => known.push(*path),
            None => check.fault("update_mask", mask_fault(allowed)),
        }
    }
    known
}

fn mask_fault(allowed: &[&str]) -> String {
    format!("names a path that cannot be set; these can: {}", allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut pb::Channel);

    fn message() -> pb::Channel {
        pb::Channel {
            channel_id: "phone".into(),
            etag: "1".into(),
            display_name: "Phone".into(),
            kind: pb::ChannelKind::Phone.into(),
            cost_per_contact: Some(Money { currency_code: "USD".into(), minor_units: 600 }),
            capacity: 10,
            opening_hours: vec![pb::OpeningHours { weekday: 1, opens: "08:00".into(), closes: "24:00".into() }],
            relationship_building: 0.5,
            enabled: true,
        }
    }

    #[test]
    fn a_channel_is_given_back_as_it_was_sent() {
        let mut check = Check::new();
        let channel = Channel::parse(&mut check, &message(), "USD");
        check.done().unwrap();
        assert_eq!(channel.to_proto(), message());
    }

    #[test]
    fn every_malformed_field_is_named() {
        let cases: [(Spoil, &str); 12] = [
            (|c| c.channel_id = "Phone".into(), "channel.channel_id"),
            (|c| c.channel_id = "a".repeat(33), "channel.channel_id"),
            (|c| c.display_name = " ".into(), "channel.display_name"),
            (|c| c.display_name = "\u{0}".into(), "channel.display_name"),
            (|c| c.kind = 99, "channel.kind"),
            (|c| c.kind = 0, "channel.kind"),
            (|c| c.cost_per_contact = None, "channel.cost_per_contact"),
            (|c| c.cost_per_contact.as_mut().unwrap().minor_units = i64::MIN, "channel.cost_per_contact.minor_units"),
            (
                |c| c.cost_per_contact.as_mut().unwrap().currency_code = "EUR".into(),
                "channel.cost_per_contact.currency_code",
            ),
            (|c| c.capacity = 0, "channel.capacity"),
            (|c| c.relationship_building = f64::NAN, "channel.relationship_building"),
            (|c| c.relationship_building = -0.1, "channel.relationship_building"),
        ];
        for (spoil, field) in cases {
            let mut from = message();
            spoil(&mut from);
            let mut check = Check::new();
            Channel::parse(&mut check, &from, "USD");
            assert_eq!(check.take().first().map(|fault| fault.field.as_str()), Some(field));
        }
    }

    #[test]
    fn a_mask_must_name_paths_that_can_be_set() {
        let mask = |paths: &[&str]| prost_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() };
        for paths in [&[][..], &["channel_id"], &["etag"], &["cost_per_contact.minor_units"], &["*"]] {
            let mut check = Check::new();
            parse_mask(&mut check, Some(&mask(paths)), Channel::PATHS);
            assert_eq!(check.take().first().map(|fault| fault.field.as_str()), Some("update_mask"), "{paths:?}");
        }
        let mut check = Check::new();
        assert_eq!(parse_mask(&mut check, Some(&mask(&["kind", "enabled"])), Channel::PATHS), ["kind", "enabled"]);
        check.done().unwrap();
    }
}
