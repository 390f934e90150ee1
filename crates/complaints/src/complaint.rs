//! The case: its states, what may follow what, and its clock.
//!
//! - With the company (`FILED`, `OPEN`, `REOPENED`) the clock runs; otherwise (`WAITING`, `RESOLVED`, `CLOSED`) it stands and the case
//!   has no due time.
//! - Due is when the allowed business time has run: `add_business_time(running_since, allowed − elapsed)`. What has run is kept through
//!   everything; another tier or severity changes only what is allowed.
//! - By itself the clock does two things in a case, each once: it escalates when the configured share of the allowed time is left, and it marks
//!   the breach at the due time, escalating again. If both times have passed, the breach alone. Reopening arms both anew.
//! - The level of escalation never passes the configured maximum: by hand that is refused; the clock marks the breach all the same.
use chassis::{Error, Result, parse::Check};
use jiff::{SignedDuration, Timestamp};
use proto::{
    complaints::v1::{ComplaintState as State, CustomerWord, Severity},
    scoring::v1::Tier,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Config, calendar::Calendar};

/// Who stands in the history for the clock itself.
pub const SWEEP: &str = "sweep";
/// Who stands in the history for a change of tier.
pub const SCORING: &str = "scoring";

/// Business hours allowed, by tier and severity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedHours {
    /// For `IMPORTANT`.
    pub important: BySeverity,
    /// For `MAJOR`.
    pub major: BySeverity,
    /// For `ORDINARY`, and for customers without a tier.
    pub ordinary: BySeverity,
    /// For `SMALL`.
    pub small: BySeverity,
}

/// Business hours allowed, by severity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BySeverity {
    /// For `CRITICAL`.
    pub critical: u32,
    /// For `MAJOR`.
    pub major: u32,
    /// For `MODERATE`, and where the severity is not given.
    pub moderate: u32,
    /// For `MINOR`.
    pub minor: u32,
}

/// What cases are handled by: the configuration, checked.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When clocks run.
    pub calendar: Calendar,
    allowed: AllowedHours,
    lead_percent: u32,
    grace: SignedDuration,
    max_level: i32,
}

impl Rules {
    /// Reads a configuration, noting everything that is wrong. Use the rules only once `check` is done.
    pub fn parse(check: &mut Check, config: &Config) -> Self {
        let calendar = Calendar::parse(check, "complaints.calendar", &config.calendar);
        check.range("complaints.escalation_lead_percent", config.escalation_lead_percent, 0..=90);
        check.range("complaints.max_escalation_level", config.max_escalation_level, 1..=20);
        // A promise of more than a year is none; and it keeps every due time within the calendar's horizon.
        let weekly = calendar.weekly();
        let year = if weekly.is_zero() { 2_000 } else { u32::try_from(weekly.as_hours() * 52).unwrap_or(u32::MAX) };
        let hours = 1..=year.clamp(1, 2_000);
        check.range("complaints.reopen_grace_hours", config.reopen_grace_hours, hours.clone());
        let table = &config.allowed_hours;
        let tiers = [
            ("important", &table.important),
            ("major", &table.major),
            ("ordinary", &table.ordinary),
            ("small", &table.small),
        ];
        for (tier, row) in tiers {
            let cells =
                [("critical", row.critical), ("major", row.major), ("moderate", row.moderate), ("minor", row.minor)];
            for (severity, value) in cells {
                check.range(&format!("complaints.allowed_hours.{tier}.{severity}"), value, hours.clone());
            }
        }
        Self {
            calendar,
            allowed: table.clone(),
            lead_percent: config.escalation_lead_percent,
            grace: SignedDuration::from_hours(i64::from(config.reopen_grace_hours)),
            max_level: config.max_escalation_level,
        }
    }

    /// Business time allowed for a case.
    pub fn allowed(&self, tier: Tier, severity: Severity) -> SignedDuration {
        let row = match tier {
            Tier::Important => &self.allowed.important,
            Tier::Major => &self.allowed.major,
            Tier::Ordinary | Tier::Unspecified => &self.allowed.ordinary,
            Tier::Small => &self.allowed.small,
        };
        let hours = match severity {
            Severity::Critical => row.critical,
            Severity::Major => row.major,
            Severity::Moderate | Severity::Unspecified => row.moderate,
            Severity::Minor => row.minor,
        };
        SignedDuration::from_hours(i64::from(hours))
    }

    /// What may have run before the case is escalated: all that is allowed but the lead, in whole microseconds.
    fn before_escalation(&self, allowed: SignedDuration) -> SignedDuration {
        let micros = allowed.as_micros() * i128::from(100 - self.lead_percent.min(100)) / 100;
        SignedDuration::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// The clock of a case. All of it is stored, so a restart loses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Business time allowed in all.
    pub allowed: SignedDuration,
    /// What is allowed at least, whatever the tier: set by the grace of a reopening.
    pub floor: SignedDuration,
    /// Business time that ran before `running_since`.
    pub elapsed: SignedDuration,
    /// Since when it runs; absent while it stands.
    pub running_since: Option<Timestamp>,
}

impl Clock {
    /// A clock that starts to run.
    pub fn start(allowed: SignedDuration, now: Timestamp) -> Self {
        Self { allowed, floor: SignedDuration::ZERO, elapsed: SignedDuration::ZERO, running_since: Some(now) }
    }

    /// Business time that has run, as of `now`.
    pub fn elapsed_at(&self, now: Timestamp, calendar: &Calendar) -> SignedDuration {
        let since = self.running_since.map(|since| calendar.business_time_between(since, now));
        self.elapsed.saturating_add(since.unwrap_or(SignedDuration::ZERO))
    }

    /// When so much will have run in all; absent while it stands. Where it had run before this stretch began, the beginning of the stretch.
    fn reaches(&self, total: SignedDuration, calendar: &Calendar) -> Option<Timestamp> {
        Some(calendar.add_business_time(self.running_since?, total.saturating_sub(self.elapsed)))
    }

    /// Stands from `now` on and keeps what has run.
    pub fn pause(&mut self, now: Timestamp, calendar: &Calendar) {
        self.elapsed = self.elapsed_at(now, calendar);
        self.running_since = None;
    }

    /// Runs from `now` on, if it stands.
    pub fn resume(&mut self, now: Timestamp) {
        self.running_since.get_or_insert(now);
    }

    /// Another time is allowed; what has run stays.
    pub fn allow(&mut self, allowed: SignedDuration) {
        self.allowed = allowed.max(self.floor);
    }

    /// Makes sure that so much is left of a clock that stands.
    pub fn leave_at_least(&mut self, grace: SignedDuration) {
        self.floor = self.floor.max(self.elapsed.saturating_add(grace));
        self.allowed = self.allowed.max(self.floor);
    }
}

/// What the clock has done by itself in a case since it was filed or reopened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Nothing yet.
    Nothing,
    /// Escalated before the breach.
    Escalated,
    /// Marked the breach.
    Breached,
}

/// A case.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    /// Its id.
    pub id: Uuid,
    /// Grows by one with every change.
    pub revision: i64,
    /// The customer.
    pub customer_id: Uuid,
    /// The cause, from the tree.
    pub cause_id: String,
    /// How grave.
    pub severity: Severity,
    /// In the customer's words: personal data.
    pub description: String,
    /// Where it stands.
    pub state: State,
    /// Who works on it; empty before somebody does.
    pub owner_id: String,
    /// 0, and one more with each escalation.
    pub level: i32,
    /// The tier that the due time was computed with.
    pub tier: Tier,
    /// Its clock.
    pub clock: Clock,
    /// When it is due; absent while the clock stands.
    pub due: Option<Timestamp>,
    /// When the sweep must act next; absent where it has nothing to do.
    pub sweep: Option<Timestamp>,
    /// What the sweep has done.
    pub swept: Swept,
    /// Whether a due time has passed unanswered; see [`Complaint::is_breached`].
    pub breached: bool,
    /// What the customer was told: personal data.
    pub answer: String,
    /// The customer's own word at the end.
    pub customer_word: CustomerWord,
    /// When it was filed.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
}

/// A step of the history, numbered by the revision that it led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which case.
    pub complaint_id: Uuid,
    /// The revision after it.
    pub number: i64,
    /// When.
    pub time: Timestamp,
    /// What was done.
    pub action: String,
    /// State after it.
    pub state: State,
    /// Who.
    pub actor_id: String,
    /// Who owned the case after it.
    pub owner_id: String,
    /// Why.
    pub note: String,
}

/// A complaint as it is filed.
#[derive(Clone, Debug)]
pub struct Filing {
    /// Id of the new case.
    pub id: Uuid,
    /// The customer.
    pub customer_id: Uuid,
    /// The cause.
    pub cause_id: String,
    /// How grave.
    pub severity: Severity,
    /// In the customer's words.
    pub description: String,
}

/// What a transition goes by: the moment, the customer's tier then, the rules.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// Now.
    pub now: Timestamp,
    /// The customer's tier, as last followed from scoring.
    pub tier: Tier,
    /// The rules.
    pub rules: &'a Rules,
}

impl Complaint {
    /// A new case: its clock runs from now on.
    pub fn file(filing: Filing, present: &Present<'_>) -> (Self, Step) {
        let Filing { id, customer_id, cause_id, severity, description } = filing;
        let complaint = Self {
            id,
            revision: 0,
            customer_id,
            cause_id,
            severity,
            description,
            state: State::Filed,
            owner_id: String::new(),
            level: 0,
            tier: present.tier,
            clock: Clock::start(present.rules.allowed(present.tier, severity), present.now),
            due: None,
            sweep: None,
            swept: Swept::Nothing,
            breached: false,
            answer: String::new(),
            customer_word: CustomerWord::Unspecified,
            create_time: present.now,
            update_time: present.now,
        };
        let actor = customer_id.to_string();
        complaint.done("filed", &actor, "", present)
    }

    /// Opaque, and another one after every change.
    pub fn etag(&self) -> String {
        format!("{:x}", self.revision)
    }

    /// The case, if `etag` is its current one.
    ///
    /// # Errors
    /// `Etag`.
    pub fn at(self, etag: &str) -> Result<Self> {
        if self.etag() == etag { Ok(self) } else { Err(Error::Etag { what: "complaint" }) }
    }

    /// Whether a due time has passed unanswered, also where no sweep has come by yet.
    pub fn is_breached(&self, now: Timestamp) -> bool {
        self.breached || self.due.is_some_and(|due| due <= now)
    }

    /// `FILED` or `REOPENED` → `OPEN`, with an owner.
    ///
    /// # Errors
    /// `WrongState`, as for all below.
    pub fn acknowledge(mut self, owner: &str, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand(&[State::Filed, State::Reopened], "only a filed or reopened complaint can be acknowledged")?;
        owner.clone_into(&mut self.owner_id);
        self.enter(State::Open, present);
        Ok(self.done("acknowledged", owner, "", present))
    }

    /// To another owner, in any state that is not answered; nothing else changes.
    pub fn assign(mut self, owner: &str, reason: &str, present: &Present<'_>) -> Result<(Self, Step)> {
        let rule = "only a filed, open, waiting or reopened complaint can be assigned to another owner";
        self.demand(&State::ALL_OPEN, rule)?;
        self.settle(present.now);
        let actor = self.hand_over(owner);
        Ok(self.done("assigned", &actor, reason, present))
    }

    /// One level up, in any state that is with the company; an empty owner leaves the one there is.
    pub fn escalate(mut self, owner: &str, reason: &str, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand_with_company("escalated")?;
        let highest = present.rules.max_level;
        if self.level >= highest {
            return Err(Error::WrongState {
                what: "complaint",
                state: format!("at escalation level {}", self.level),
                rule: format!("{highest} is the highest level; nobody stands above"),
            });
        }
        self.settle(present.now);
        let actor = if owner.is_empty() { self.owner_id.clone() } else { self.hand_over(owner) };
        self.level += 1;
        Ok(self.done("escalated", &actor, reason, present))
    }

    /// `OPEN` → `WAITING`: the clock stands.
    pub fn await_customer(mut self, reason: &str, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand(&[State::Open], "only an open complaint can wait for the customer; acknowledge it first")?;
        self.enter(State::Waiting, present);
        let actor = self.owner_id.clone();
        Ok(self.done("awaiting customer", &actor, reason, present))
    }

    /// `WAITING` → `OPEN`: the clock goes on with what was left.
    pub fn resume(mut self, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand(&[State::Waiting], "only a complaint that waits for the customer can be resumed")?;
        self.enter(State::Open, present);
        let actor = self.owner_id.clone();
        Ok(self.done("resumed", &actor, "", present))
    }

    /// Any state that is with the company → `RESOLVED`: the clock stops.
    pub fn resolve(mut self, answer: &str, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand_with_company("resolved")?;
        answer.clone_into(&mut self.answer);
        self.enter(State::Resolved, present);
        let actor = self.owner_id.clone();
        // A reopening leads to another answer; the history keeps this one.
        Ok(self.done("resolved", &actor, answer, present))
    }

    /// `RESOLVED` or `CLOSED` → `REOPENED`: the clock goes on with what was left by the customer's present tier, at least the grace.
    pub fn reopen(mut self, reason: &str, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand(&[State::Resolved, State::Closed], "only a resolved or closed complaint can be reopened")?;
        self.assess(present.tier, self.severity, present.rules);
        self.clock.leave_at_least(present.rules.grace);
        self.swept = Swept::Nothing;
        self.customer_word = CustomerWord::Unspecified;
        self.enter(State::Reopened, present);
        let actor = self.customer_id.to_string();
        Ok(self.done("reopened", &actor, reason, present))
    }

    /// `RESOLVED` → `CLOSED`, with the customer's own word.
    pub fn close(mut self, word: CustomerWord, present: &Present<'_>) -> Result<(Self, Step)> {
        self.demand(&[State::Resolved], "only a resolved complaint can be closed")?;
        self.customer_word = word;
        self.enter(State::Closed, present);
        let actor = self.owner_id.clone();
        // A reopening takes the word off the case; the history keeps it.
        let note = match word {
            CustomerWord::Unspecified => "the customer did not say",
            CustomerWord::Solved => "the customer says: solved",
            CustomerWord::Partly => "the customer says: solved in part",
            CustomerWord::NotSolved => "the customer says: not solved",
        };
        Ok(self.done("closed", &actor, note, present))
    }

    /// The customer's tier is another one now: what has run stays, what is allowed changes. Nothing for a case that is answered, or one
    /// that has this tier already.
    pub fn follow_tier(mut self, present: &Present<'_>) -> Option<(Self, Step)> {
        if self.tier == present.tier || !self.state.is_open() {
            return None;
        }
        self.settle(present.now);
        self.assess(present.tier, self.severity, present.rules);
        Some(self.done("tier changed", SCORING, "", present))
    }

    /// What the clock does by itself, if its time has come.
    pub fn sweep(mut self, present: &Present<'_>) -> Option<(Self, Step)> {
        if self.sweep.is_none_or(|time| time > present.now) {
            return None;
        }
        self.settle(present.now);
        let due = self.due.is_some_and(|due| due <= present.now);
        self.level = self.level.saturating_add(1).min(present.rules.max_level).max(self.level);
        let (swept, action, note) = if due {
            (Swept::Breached, "breached", "the due time has passed unanswered")
        } else {
            (Swept::Escalated, "escalated", "the due time is near")
        };
        self.swept = swept;
        Some(self.done(action, SWEEP, note, present))
    }

    /// Takes tier and severity into account: what is allowed follows, what has run stays.
    fn assess(&mut self, tier: Tier, severity: Severity, rules: &Rules) {
        self.tier = tier;
        self.severity = severity;
        self.clock.allow(rules.allowed(tier, severity));
    }

    /// To another owner; gives the one until now, who does it unless somebody else says so, or where there is none, the new one.
    fn hand_over(&mut self, owner: &str) -> String {
        let before = std::mem::replace(&mut self.owner_id, owner.to_owned());
        if before.is_empty() { owner.to_owned() } else { before }
    }

    /// A due time that has passed stays passed, whatever happens to the case next.
    fn settle(&mut self, now: Timestamp) {
        self.breached = self.is_breached(now);
    }

    fn enter(&mut self, state: State, present: &Present<'_>) {
        self.settle(present.now);
        self.state = state;
        if with_company(state) {
            self.clock.resume(present.now);
        } else {
            self.clock.pause(present.now, &present.rules.calendar);
        }
    }

    /// Ends a change: the times that follow from it, the next revision, the step.
    fn done(mut self, action: &str, actor: &str, note: &str, present: &Present<'_>) -> (Self, Step) {
        let calendar = &present.rules.calendar;
        self.due = self.clock.reaches(self.clock.allowed, calendar);
        self.sweep = match self.swept {
            Swept::Nothing => self.clock.reaches(present.rules.before_escalation(self.clock.allowed), calendar),
            Swept::Escalated => self.due,
            Swept::Breached => None,
        };
        self.revision += 1;
        self.update_time = present.now;
        let step = Step {
            complaint_id: self.id,
            number: self.revision,
            time: present.now,
            action: action.to_owned(),
            state: self.state,
            actor_id: actor.to_owned(),
            owner_id: self.owner_id.clone(),
            note: note.to_owned(),
        };
        (self, step)
    }

    fn demand(&self, states: &[State], rule: &str) -> Result<()> {
        if states.contains(&self.state) {
            return Ok(());
        }
        Err(Error::WrongState { what: "complaint", state: name(self.state).to_owned(), rule: rule.to_owned() })
    }

    fn demand_with_company(&self, done: &str) -> Result<()> {
        let states = [State::Filed, State::Open, State::Reopened];
        self.demand(&states, &format!("only a filed, open or reopened complaint can be {done}"))
    }
}

/// Whether the clock runs in this state.
pub fn with_company(state: State) -> bool {
    match state {
        State::Filed | State::Open | State::Reopened => true,
        State::Unspecified | State::Waiting | State::Resolved | State::Closed => false,
    }
}

fn name(state: State) -> &'static str {
    match state {
        State::Unspecified => "of an unknown state",
        State::Filed => "filed",
        State::Open => "open",
        State::Waiting => "waiting for the customer",
        State::Resolved => "resolved",
        State::Reopened => "reopened",
        State::Closed => "closed",
    }
}

#[cfg(test)]
mod tests;
