//! The channels and queues as a decision needs them: never changed, only replaced as a whole.
use std::collections::HashMap;

use jiff::{Timestamp, tz::TimeZone};
use proto::{routing::v1::ContactPurpose, scoring::v1::Tier};

use crate::{channel::Channel, hours::Opening, queue::Queue};

/// Values of the enum of tiers, the unknown one included.
const TIERS: [Tier; 5] = [Tier::Unspecified, Tier::Important, Tier::Major, Tier::Ordinary, Tier::Small];
/// Values of the enum of purposes, the unknown one included.
const PURPOSES: [ContactPurpose; 7] = [
    ContactPurpose::Unspecified,
    ContactPurpose::Inquiry,
    ContactPurpose::Order,
    ContactPurpose::Routine,
    ContactPurpose::Support,
    ContactPurpose::Complaint,
    ContactPurpose::Cancel,
];

/// All channels and queues.
#[derive(Debug)]
pub struct Setup {
    /// By id.
    pub channels: Vec<Channel>,
    /// By id.
    pub queues: Vec<Queue>,
    /// What is said of each queue, in the same order.
    pub texts: Vec<Texts>,
    zone: TimeZone,
    index: HashMap<String, usize>,
    /// For each channel, tier and purpose the queue of choice.
    choice: Vec<[[Option<usize>; PURPOSES.len()]; TIERS.len()]>,
}

/// What is said of a queue in a decision's reasons: written once, not in every call.
#[derive(Debug)]
pub struct Texts {
    /// Why a contact goes to it.
    pub chosen: String,
    /// Whose place it takes.
    pub place: String,
    /// Its standard.
    pub standard: String,
}

impl Texts {
    fn of(queue: &Queue) -> Self {
        let tiers: Vec<_> = queue.tiers.iter().map(|tier| name_of(tier.as_str_name(), "TIER_")).collect();
        let purposes: Vec<_> =
            queue.purposes.iter().map(|purpose| name_of(purpose.as_str_name(), "CONTACT_PURPOSE_")).collect();
        let list = |of: &str, names: &[String]| match names {
            [] => format!("any {of}"),
            names => format!("{of} {}", names.join(" or ")),
        };
        let Queue { id, priority, answer, handling, .. } = queue;
        let (tiers, purposes) = (list("tier", &tiers), list("purpose", &purposes));
        Self {
            chosen: format!("Queue {id} is the most specific one here: for {purposes} and {tiers}."),
            place: format!("Queue {id} is served at place {priority}."),
            standard: format!("The standard of queue {id}: answered within {answer:#}, done within {handling:#}."),
        }
    }
}

fn name_of(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

impl Setup {
    /// Puts channels and queues in order. Opening hours are meant in `zone`.
    pub fn new(mut channels: Vec<Channel>, mut queues: Vec<Queue>, zone: TimeZone) -> Self {
        channels.sort_by(|a, b| a.id.cmp(&b.id));
        queues.sort_by(|a, b| a.id.cmp(&b.id));
        let index = channels.iter().enumerate().map(|(at, channel)| (channel.id.clone(), at)).collect();
        let mut by_choice: Vec<usize> = (0..queues.len()).collect();
        by_choice.sort_by(|a, b| queues[*a].choice_order().cmp(&queues[*b].choice_order()));
        let first = |channel: &Channel, tier, purpose| {
            let takes = |at: &&usize| queues[**at].channel_id == channel.id && queues[**at].takes(tier, purpose);
            by_choice.iter().find(takes).copied()
        };
        let choice = channels
            .iter()
            .map(|channel| TIERS.map(|tier| PURPOSES.map(|purpose| first(channel, tier, purpose))))
            .collect();
        let texts = queues.iter().map(Texts::of).collect();
        Self { channels, queues, texts, zone, index, choice }
    }

    /// The place of a channel in [`Self::channels`].
    pub fn find(&self, channel_id: &str) -> Option<usize> {
        self.index.get(channel_id).copied()
    }

    /// The queue of choice in a channel, if the channel takes part and has one.
    pub fn queue(&self, channel: usize, tier: Tier, purpose: ContactPurpose) -> Option<usize> {
        let tier = TIERS.iter().position(|known| *known == tier)?;
        let purpose = PURPOSES.iter().position(|known| *known == purpose)?;
        self.choice[channel][tier][purpose].filter(|_| self.channels[channel].enabled)
    }

    /// Which channels are open at `now`, and how long that holds.
    pub fn moment(&self, now: Timestamp) -> Moment {
        let openings: Vec<_> = self.channels.iter().map(|channel| channel.hours.at(&self.zone, now)).collect();
        let until = openings.iter().map(|opening| opening.until).min().unwrap_or(Timestamp::MAX);
        Moment { from: now, until, openings }
    }
}

/// Which channels are open, from a moment on until the first of them opens or closes.
#[derive(Debug)]
pub struct Moment {
    from: Timestamp,
    until: Timestamp,
    /// In the order of the setup's channels.
    pub openings: Vec<Opening>,
}

impl Moment {
    /// Whether it still holds, and already: a clock may jump back.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}
