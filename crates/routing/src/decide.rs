//! The decision: channel, queue, priority, times and prompt of one contact, each with its reason. Pure: the same case, setup and
//! moment always give the same decision, and nothing else takes part. In particular no attribute of a person does: only where the
//! customer stands, whether a complaint is open, where they came in and why.
//!
//! **Channel.**
//! 1. Who came in by themselves stays, if that channel is open and has a queue for them: there is no refusal and no shoving off. Only key customers
//!    move on, and only to a channel that weighs more for them (preference, relationship, cost): from self-service to a person.
//! 2. Where the channel is closed, an open one of comparable kind takes over (phone and chat; shop and visit; mail and
//!    self-service); if there is none, they stay, and are told when it opens.
//! 3. Where the channel takes no part or has no queue for them, or the company chooses, the channels are weighed.
//!
//! **Queue.** The most specific one of the channel that takes tier and purpose; see [`Queue::choice_order`].
//!
//! **Priority.** The queue's; key customers in a queue that is not for their tier alone, and anyone with an open complaint, move forward.
use std::borrow::Cow;

use chassis::{Error, Result};
use jiff::SignedDuration;
use proto::{
    routing::v1::{ChannelKind, ContactPurpose as Purpose},
    scoring::v1::{CustomerCode, LifeCycleStage, Relationship, Tier},
};
use serde::{Deserialize, Serialize};

use crate::{
    channel::Channel,
    hours::Opening,
    prompt::{self, Line, Place},
    queue::Queue,
    setup::{Moment, Setup},
};

/// How channels are weighed, by kind of case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Key customers, complaints and cancellations.
    pub key: Weight,
    /// Everyone else.
    pub others: Weight,
    /// Routine work of everyone else.
    pub routine: Weight,
}

/// What each part counts, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// For the channel they came in.
    pub preference: f64,
    /// For building relationships.
    pub relationship: f64,
    /// Against the cost.
    pub cost: f64,
}

/// How many places a contact moves forward, 0 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lift {
    /// Important customers in a queue for more than their tier.
    pub important: i32,
    /// Major customers in a queue for more than their tier.
    pub major: i32,
    /// Anyone with an open complaint.
    pub open_complaint: i32,
}

/// Where a customer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Relationship.
    pub relationship: Relationship,
    /// Stage.
    pub stage: LifeCycleStage,
    /// Tier.
    pub tier: Tier,
    /// Code.
    pub code: CustomerCode,
    /// The code rests on potential value alone.
    pub estimated: bool,
}

/// What a decision may know of whoever is in touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// A customer; false for a prospect.
    pub known: bool,
    /// The contact point is that of several customers.
    pub shared: bool,
    /// Absent where scoring has not spoken of them yet.
    pub standing: Option<Standing>,
    /// A complaint of theirs is not settled.
    pub complaint_open: bool,
}

/// What is to be decided. Two contacts with the same case get the same answer, so there is nothing in it but what a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// Who.
    pub caller: Caller,
    /// The channel they came in, by its place in the setup; absent where the company chooses.
    pub arrival: Option<usize>,
    /// Why.
    pub purpose: Purpose,
}

impl Case {
    fn tier(&self) -> Tier {
        self.caller.standing.map_or(Tier::Unspecified, |standing| standing.tier)
    }

    fn is_key_customer(&self) -> bool {
        matches!(self.tier(), Tier::Important | Tier::Major)
    }

    /// No selling while a complaint is open or being made.
    pub fn selling_paused(&self) -> bool {
        self.caller.complaint_open || self.purpose == Purpose::Complaint
    }
}

/// Why a thing is decided as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason<'s> {
    /// What was decided.
    pub decides: &'static str,
    /// Name of the rule.
    pub rule: &'static str,
    /// One sentence for people.
    pub text: Cow<'s, str>,
}

/// What was decided.
#[derive(Clone, Debug)]
pub struct Decision<'s> {
    /// The channel to use.
    pub channel: &'s Channel,
    /// The queue in it.
    pub queue: &'s Queue,
    /// 1 (first) to 100 (last).
    pub priority: i32,
    /// Answer within.
    pub answer: SignedDuration,
    /// Done within.
    pub handling: SignedDuration,
    /// Whether the channel is open.
    pub opening: Opening,
    /// No selling.
    pub selling_paused: bool,
    /// What the agent should say.
    pub prompt: Vec<Line>,
    /// Channel, queue, priority, target, prompt.
    pub reasons: [Reason<'s>; 5],
}

/// Decides a case.
///
/// # Errors
/// `WrongState` where no channel takes part that has a queue for it.
pub fn decide<'s>(
    setup: &'s Setup,
    moment: &Moment,
    weights: &Weights,
    lift: Lift,
    case: &Case,
) -> Result<Decision<'s>> {
    let desk = Desk { setup, moment, weights, case };
    let (at, queue_at, why_channel) = desk.choose()?;
    let (channel, queue, texts) = (&setup.channels[at], &setup.queues[queue_at], &setup.texts[queue_at]);
    let opening = moment.openings[at];
    let (priority, why_priority) = place_in_line(queue, lift, case, &texts.place);
    let self_service = case.purpose == Purpose::Routine
        && !case.is_key_customer()
        && channel.kind != ChannelKind::SelfService
        && desk
            .candidates()
            .any(|(other, _)| setup.channels[other].kind == ChannelKind::SelfService && moment.openings[other].open);
    let prompt = prompt::lines(case, Place { open: opening.open, self_service });
    let (rule, text) = prompt::reason(case);
    Ok(Decision {
        channel,
        queue,
        priority,
        answer: queue.answer,
        handling: queue.handling,
        opening,
        selling_paused: case.selling_paused(),
        prompt,
        reasons: [
            why_channel,
            Reason { decides: "queue", rule: "most_specific", text: Cow::Borrowed(&texts.chosen) },
            why_priority,
            Reason { decides: "target", rule: "queue_standard", text: Cow::Borrowed(&texts.standard) },
            Reason { decides: "prompt", rule, text },
        ],
    })
}

fn place_in_line<'s>(queue: &Queue, lift: Lift, case: &Case, place: &'s str) -> (i32, Reason<'s>) {
    let own = queue.tiers.len() == 1;
    let for_tier = match case.tier() {
        Tier::Important if !own => lift.important,
        Tier::Major if !own => lift.major,
        _ => 0,
    };
    let for_complaint = if case.caller.complaint_open { lift.open_complaint } else { 0 };
    let lifted = queue.priority - for_tier - for_complaint;
    // The first place is 1, however much lifts add up to.
    let priority = lifted.max(1);
    let (rule, text): (_, Cow<'s, str>) = match (for_tier, for_complaint) {
        (0, 0) => ("queue_priority", Cow::Borrowed(place)),
        (tier, 0) => ("key_customer_first", format!("{place} A key customer comes {tier} places earlier.").into()),
        (0, complaint) => {
            ("open_complaint_first", format!("{place} With an open complaint {complaint} places earlier.").into())
        }
        (tier, complaint) => {
            let text = format!("{place} A key customer comes {tier}, an open complaint {complaint} places earlier.");
            ("key_customer_and_complaint_first", text.into())
        }
    };
    let text = if lifted < 1 { format!("{text} No place is before the first.").into() } else { text };
    (priority, Reason { decides: "priority", rule, text })
}

/// Channels that can stand in for each other.
fn comparable(a: ChannelKind, b: ChannelKind) -> bool {
    use ChannelKind::{Chat, Mail, Partner, Phone, SelfService, Shop, Unspecified, Visit};
    let group = |kind| match kind {
        Phone | Chat => 1,
        Shop | Visit => 2,
        Mail | SelfService => 3,
        Partner => 4,
        Unspecified => 5,
    };
    group(a) == group(b)
}

/// Channels that a contact can be handed to at once, wherever it came in: nobody can be sent to a shop while on the phone.
fn can_take_over(kind: ChannelKind) -> bool {
    matches!(kind, ChannelKind::Phone | ChannelKind::Chat | ChannelKind::Mail | ChannelKind::SelfService)
}

struct Desk<'s, 'c> {
    setup: &'s Setup,
    moment: &'c Moment,
    weights: &'c Weights,
    case: &'c Case,
}

type Choice<'s> = (usize, usize, Reason<'s>);

impl<'s> Desk<'s, '_> {
    /// The channels that take part and have a queue for the case, with that queue.
    fn candidates(&self) -> impl Iterator<Item = (usize, usize)> {
        let (tier, purpose) = (self.case.tier(), self.case.purpose);
        (0..self.setup.channels.len()).filter_map(move |at| Some((at, self.setup.queue(at, tier, purpose)?)))
    }

    fn is_open(&self, at: usize) -> bool {
        self.moment.openings[at].open
    }

    fn kind(&self, at: usize) -> ChannelKind {
        self.setup.channels[at].kind
    }

    fn choose(&self) -> Result<Choice<'s>> {
        let because = |rule, text: Cow<'static, str>| Reason { decides: "channel", rule, text };
        let Some(arrival) = self.case.arrival else {
            let may = |at| can_take_over(self.kind(at)) || self.kind(at) == ChannelKind::Visit;
            let (at, queue) = self.any(may)?;
            let text =
                format!("{} weighs most of the channels that we can choose.", self.setup.channels[at].display_name);
            return Ok((at, queue, because("weighed", text.into())));
        };
        let Some(queue) = self.setup.queue(arrival, self.case.tier(), self.case.purpose) else {
            let (at, queue) = self.any(|at| can_take_over(self.kind(at)))?;
            let name = &self.setup.channels[at].display_name;
            let text = format!("The channel they came in has no queue for this; {name} weighs most of those that do.");
            return Ok((at, queue, because("arrival_cannot_take_it", text.into())));
        };
        if !self.is_open(arrival) {
            let kind = self.kind(arrival);
            let stand_in = self.best(|at| self.is_open(at) && comparable(kind, self.kind(at)));
            return Ok(match stand_in {
                Some((at, queue)) => {
                    let name = &self.setup.channels[at].display_name;
                    let text = format!("The channel they came in is closed; {name} is open and comparable.");
                    (at, queue, because("closed_comparable_open", text.into()))
                }
                None => {
                    let text = "The channel they came in is closed and no comparable one is open: it waits.";
                    (arrival, queue, because("closed_waits", text.into()))
                }
            });
        }
        if !self.case.is_key_customer() {
            let text = "They came in here and it is open: everyone may stay where they came in.";
            return Ok((arrival, queue, because("came_in_here", text.into())));
        }
        let best = self.best(|at| at == arrival || (self.is_open(at) && can_take_over(self.kind(at))));
        Ok(match best {
            Some((at, queue)) if at != arrival => {
                let name = &self.setup.channels[at].display_name;
                let text = format!("A key customer: {name} builds the relationship better than where they came in.");
                (at, queue, because("key_customer_relationship", text.into()))
            }
            _ => {
                let text = "A key customer: where they came in weighs most of preference, relationship and cost.";
                (arrival, queue, because("key_customer_stays", text.into()))
            }
        })
    }

    /// The best of those that `may` be chosen and are open, else of those that may, else of all.
    fn any(&self, may: impl Fn(usize) -> bool) -> Result<(usize, usize)> {
        self.best(|at| may(at) && self.is_open(at))
            .or_else(|| self.best(&may))
            .or_else(|| self.best(|_| true))
            .ok_or_else(|| Error::WrongState {
                what: "the setup of channels and queues",
                state: "without a queue for this contact".to_owned(),
                rule: "enable a channel and a queue in it for this tier and purpose".to_owned(),
            })
    }

    /// The candidate that weighs most; of equals the cheaper one, then the first by id.
    fn best(&self, may: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        let weight = match self.case.purpose {
            _ if self.case.is_key_customer() => self.weights.key,
            Purpose::Complaint | Purpose::Cancel => self.weights.key,
            Purpose::Routine => self.weights.routine,
            Purpose::Unspecified | Purpose::Inquiry | Purpose::Order | Purpose::Support => self.weights.others,
        };
        let cost = |at: usize| self.setup.channels[at].cost as f64;
        let dearest = self.candidates().map(|(at, _)| at).filter(|at| may(*at)).map(cost).fold(1.0, f64::max);
        let score = |at: usize| {
            let preferred = f64::from(u8::from(self.case.arrival == Some(at)));
            weight.preference * preferred + weight.relationship * self.setup.channels[at].relationship_building
                - weight.cost * cost(at) / dearest
        };
        let mut best: Option<(f64, usize, usize)> = None;
        for (at, queue) in self.candidates().filter(|(at, _)| may(*at)) {
            let score = score(at);
            let better = best.is_none_or(|(top, of, _)| score > top || (score == top && cost(at) < cost(of)));
            if better {
                best = Some((score, at, queue));
            }
        }
        best.map(|(_, at, queue)| (at, queue))
    }
}

#[cfg(test)]
mod tests;
