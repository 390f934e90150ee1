//! The channels and queues that stand there at the first start: a beginning, to be changed through the API.
//!
//! Standards: two rings (12 s) to an answer, 45 s until a usual request is done; better ones for key customers.
use jiff::SignedDuration;
use proto::{
    routing::v1::{
        ChannelKind::{self, Chat, Mail, Phone, SelfService, Shop, Visit},
        ContactPurpose::{self, Cancel, Complaint, Routine},
    },
    scoring::v1::Tier::{self, Important, Major, Ordinary, Small},
};

use crate::{channel::Channel, hours::Hours, queue::Queue};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Costs are in minor units of `currency`: a call 6.00, a visit 120.00 of a currency with two decimals.
pub fn channels(currency: &str) -> Vec<Channel> {
    let week = |days: std::ops::RangeInclusive<u8>, opens: u16, closes: u16| {
        Hours::from_rows(&days.map(|day| (day, opens * 60, closes * 60)).collect::<Vec<_>>())
    };
    let always = Hours::default;
    let channel = |id: &str, name: &str, kind: ChannelKind, cost, capacity, hours, relationship_building| Channel {
        display_name: name.to_owned(),
        kind,
        currency: currency.to_owned(),
        cost,
        capacity,
        hours,
        relationship_building,
        enabled: true,
        ..Channel::blank(id.to_owned())
    };
    vec![
        channel("phone", "Phone", Phone, 600, 100, always(), 0.7),
        channel("self-service", "Self-service", SelfService, 10, 100_000, always(), 0.1),
        channel("chat", "Chat", Chat, 300, 60, week(1..=6, 8, 20), 0.5),
        channel("mail", "Mail", Mail, 250, 500, always(), 0.3),
        channel("shop", "Shop", Shop, 900, 40, week(1..=6, 9, 18), 0.8),
        channel("visit", "Visit of the account manager", Visit, 12_000, 10, week(1..=5, 9, 17), 1.0),
    ]
}

/// For the channels above.
pub fn queues() -> Vec<Queue> {
    // One row each: id, name, channel, tiers, purposes, priority, answered within, done within.
    type Row<'r> = (&'r str, &'r str, &'r str, &'r [Tier], &'r [ContactPurpose], i32, i64, i64);
    let rows: [Row<'_>; 17] = [
        ("phone-vip", "Phone, important customers", "phone", &[Important], &[], 1, 6, 45),
        ("phone-key", "Phone, major customers", "phone", &[Major], &[], 5, 12, 45),
        ("phone-general", "Phone", "phone", &[], &[], 50, 45, 3 * MINUTE),
        ("phone-routine", "Phone, routine work", "phone", &[Ordinary, Small], &[Routine], 60, 60, 45),
        (
            "phone-complaints-key",
            "Phone, complaints of key customers",
            "phone",
            &[Important, Major],
            &[Complaint],
            12,
            6,
            5 * MINUTE,
        ),
        ("phone-complaints", "Phone, complaints", "phone", &[], &[Complaint], 20, 12, 5 * MINUTE),
        ("phone-stay", "Phone, cancellations", "phone", &[], &[Cancel], 20, 12, 5 * MINUTE),
        ("self-service", "Self-service", "self-service", &[], &[], 50, 1, 45),
        ("self-service-complaints", "Self-service, complaints", "self-service", &[], &[Complaint], 20, HOUR, DAY),
        ("chat-key", "Chat, key customers", "chat", &[Important, Major], &[], 10, 12, 3 * MINUTE),
        ("chat-general", "Chat", "chat", &[], &[], 50, 45, 5 * MINUTE),
        ("chat-complaints", "Chat, complaints", "chat", &[], &[Complaint], 20, 12, 5 * MINUTE),
        ("mail-key", "Mail, key customers", "mail", &[Important, Major], &[], 15, HOUR, 4 * HOUR),
        ("mail-general", "Mail", "mail", &[], &[], 50, 8 * HOUR, DAY),
        ("mail-complaints", "Mail, complaints", "mail", &[], &[Complaint], 20, HOUR, DAY),
        ("shop-general", "Shop", "shop", &[], &[], 50, 3 * MINUTE, 15 * MINUTE),
        ("visit-important", "Visits to important customers", "visit", &[Important], &[], 10, 7 * DAY, 14 * DAY),
    ];
    let queue = |(id, name, channel, tiers, purposes, priority, answer, handling): Row<'_>| Queue {
        display_name: name.to_owned(),
        channel_id: channel.to_owned(),
        tiers: tiers.to_vec(),
        purposes: purposes.to_vec(),
        priority,
        answer: SignedDuration::from_secs(answer),
        handling: SignedDuration::from_secs(handling),
        enabled: true,
        ..Queue::blank(id.to_owned())
    };
    rows.into_iter().map(queue).collect()
}
