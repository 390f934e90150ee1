//! What the agent is told: how to greet, how to handle it, what to offer. Plain speech, for reading at a glance.
use std::borrow::Cow;

use proto::{
    routing::v1::{ContactPurpose as Purpose, PromptKind},
    scoring::v1::{CustomerCode as Code, LifeCycleStage as Stage, Relationship},
};

use crate::decide::{Case, Standing};

/// A line on the agent's screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What kind of line.
    pub kind: PromptKind,
    /// The line.
    pub text: &'static str,
}

/// What besides the case a prompt depends on.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The channel that was chosen is open.
    pub open: bool,
    /// A self-service channel could do this now, and is not where they are.
    pub self_service: bool,
}

/// The lines in order: greeting, handling, selling or not.
pub fn lines(case: &Case, place: Place) -> Vec<Line> {
    let mut lines = Vec::with_capacity(6);
    let mut add = |kind, text| lines.push(Line { kind, text });
    let ours = case.arrival.is_none();
    add(PromptKind::Greeting, if ours { opening(case) } else { greeting(case) });
    if ours {
        add(PromptKind::Service, "It is we who get in touch: ask whether it suits them now, and take a no for a no.");
    }
    if case.caller.shared {
        add(PromptKind::Service, "Several customers share this contact point: make sure who it is before you act.");
    }
    match (place.open, ours) {
        (true, _) => {}
        (false, true) => add(PromptKind::Service, "This channel is closed now: get in touch when it opens."),
        (false, false) => {
            add(PromptKind::Service, "This channel is closed now: take down the request and say when we will answer.");
        }
    }
    match (case.caller.complaint_open, case.purpose, ours) {
        // Not the usual words: they would have another one filed.
        (true, Purpose::Complaint, false) => add(
            PromptKind::Service,
            "Listen, apologise, and ask whether it is about their open complaint: if so, take it up there; file one only for another matter.",
        ),
        (true, Purpose::Complaint, true) => {
            add(
                PromptKind::Service,
                "Say where their complaint stands and what comes next, and ask whether that is right for them.",
            );
        }
        (false, Purpose::Complaint, true) => {
            add(PromptKind::Service, "Ask whether all is well; if they complain, listen, apologise, and file it.");
        }
        (open, _, _) => {
            if open {
                add(PromptKind::Service, "A complaint of theirs is open: say where it stands before anything else.");
            }
            add(PromptKind::Service, service(case));
        }
    }
    if place.self_service {
        add(
            PromptKind::Service,
            "Mention that self-service does this at any hour and offer to show how; help here if they prefer.",
        );
    }
    if case.selling_paused() {
        add(PromptKind::HoldSelling, "Do not sell now: first the complaint must be settled.");
    } else if let Some(text) = sell(case) {
        add(PromptKind::Sell, text);
    }
    lines
}

/// Name and sentence of the rule that the lines follow.
pub fn reason(case: &Case) -> (&'static str, Cow<'static, str>) {
    let caller = &case.caller;
    if !caller.known {
        return ("prospect", "Nobody we know has this contact point: a prospect.".into());
    }
    if caller.complaint_open {
        return ("open_complaint", "A complaint is open: no selling until it is settled.".into());
    }
    if case.purpose == Purpose::Complaint {
        return ("complaint", "They complain: no selling until it is settled.".into());
    }
    let Some(standing) = caller.standing else {
        return ("standing_unknown", "Where this customer stands is not known yet.".into());
    };
    let code = match standing.code {
        Code::A => "A",
        Code::B => "B",
        Code::C | Code::Unspecified => "C",
    };
    let stage = match standing.stage {
        Stage::Acquisition => "acquisition",
        Stage::Growth => "growth",
        Stage::Maturity => "maturity",
        Stage::Decline => "decline",
        Stage::Departure => "departure",
        Stage::Unspecified => "not known",
    };
    let estimate = if standing.estimated { " (an estimate)" } else { "" };
    ("code_and_stage", format!("The customer's code is {code}{estimate}, the stage is {stage}.").into())
}

fn greeting(case: &Case) -> &'static str {
    let caller = &case.caller;
    if caller.complaint_open {
        return "Thank them for their patience and say that you know of their complaint.";
    }
    let Some(Standing { code, relationship, .. }) = caller.standing else {
        return if caller.known {
            "Welcome them as a customer; we know nothing of their buying yet."
        } else {
            "Welcome them as someone new: ask for the name and how they found us."
        };
    };
    match (relationship, code) {
        (Relationship::Lost, _) => "Welcome them back and say that we are glad to hear from them again.",
        (Relationship::NonCustomer | Relationship::Potential | Relationship::Target, Code::A | Code::B) => {
            "Welcome them warmly: they have not bought yet, and much speaks for it that they will."
        }
        (Relationship::NonCustomer | Relationship::Potential | Relationship::Target, Code::C | Code::Unspecified) => {
            "Welcome them: they have not bought yet; ask what brings them here."
        }
        (_, Code::A) => "Greet them as one of our best customers and thank them for their trust.",
        (_, Code::B) => "Greet them warmly and thank them for their business.",
        (_, Code::C | Code::Unspecified) => "Greet them in a friendly way and ask how you can help.",
    }
}

/// The first words where it is we who get in touch.
fn opening(case: &Case) -> &'static str {
    let caller = &case.caller;
    if caller.complaint_open {
        return "Say who you are, thank them for their patience, and say that you know of their complaint.";
    }
    let Some(Standing { code, relationship, .. }) = caller.standing else {
        return if caller.known {
            "Say who you are and thank them for being a customer; we know nothing of their buying yet."
        } else {
            "Say who you are, and where you have their number or address from."
        };
    };
    match (relationship, code) {
        (Relationship::Lost, _) => "Say who you are and that we have missed them.",
        (Relationship::NonCustomer | Relationship::Potential | Relationship::Target, _) => {
            "Say who you are and why you think that we have something for them; they have not bought yet."
        }
        (_, Code::A) => "Say who you are and thank them, one of our best customers, for their trust.",
        (_, Code::B) => "Say who you are and thank them for their business.",
        (_, Code::C | Code::Unspecified) => "Say who you are and in one sentence why you get in touch.",
    }
}

fn service(case: &Case) -> &'static str {
    let code = case.caller.standing.map_or(Code::C, |standing| standing.code);
    match (case.purpose, code) {
        (Purpose::Unspecified, Code::A) => "Ask what they need and see to it yourself until it is done.",
        (Purpose::Unspecified, Code::B) => "Ask what they need; take the time to hear what they plan.",
        (Purpose::Unspecified, _) => "Ask what they need.",
        (Purpose::Inquiry, Code::A) => "Answer in full and at once; fetch the expert rather than pass them on.",
        (Purpose::Inquiry, Code::B) => "Answer in full, and ask what they want to use it for.",
        (Purpose::Inquiry, _) => "Answer the question and ask whether that settles it.",
        (Purpose::Order, Code::A) => "Take the order first in line, confirm the day of delivery, see to it yourself.",
        (Purpose::Order, Code::B) => "Take the order and confirm the day of delivery.",
        (Purpose::Order, _) => "Take the order and say what happens next.",
        (Purpose::Routine, Code::A) => "Do it for them at once, without asking for more than you must.",
        (Purpose::Routine, Code::B) => "Do it for them at once.",
        (Purpose::Routine, _) => "Do it in the shortest way that is right.",
        (Purpose::Support, Code::A) => "Stay with them until it works; call back the next day to make sure.",
        (Purpose::Support, Code::B) => "Stay with them until it works.",
        (Purpose::Support, _) => "Solve it, or say who will and until when.",
        (Purpose::Complaint, Code::A) => {
            "Listen, apologise, file the complaint while they are here, and name the one who will see to it today."
        }
        (Purpose::Complaint, Code::B) => {
            "Listen, apologise, file the complaint while they are here, and say when they hear from us."
        }
        (Purpose::Complaint, _) => "Listen, apologise, file the complaint, and say when they hear from us.",
        (Purpose::Cancel, Code::A) => {
            "Ask why before anything else; bring in the account manager while they are here; let them go in peace if they insist."
        }
        (Purpose::Cancel, Code::B) => "Ask why before anything else, and note it; see whether we can mend it.",
        (Purpose::Cancel, _) => "Ask why, note it, and do as they wish without hurdles.",
    }
}

fn sell(case: &Case) -> Option<&'static str> {
    let Some(Standing { code, stage, .. }) = case.caller.standing else {
        return match (case.caller.known, case.purpose) {
            (_, Purpose::Cancel | Purpose::Complaint) => None,
            (false, _) => Some("Find out what they need and offer a first purchase that is easy to say yes to."),
            (true, _) => Some("Ask what else they need; offer only what fits the answer."),
        };
    };
    if case.purpose == Purpose::Cancel {
        return Some(match code {
            Code::A => "Offer what would keep them, up to the limit of your authority.",
            Code::B => "Offer better terms for staying, or a pause instead of an end.",
            Code::C | Code::Unspecified => "Offer the smaller plan; take a no for a no.",
        });
    }
    Some(match (code, stage) {
        (Code::A, Stage::Acquisition) => "Offer the best of the range with a personal introduction.",
        (Code::A, Stage::Growth) => "Offer the next higher grade and a quantity discount.",
        (Code::A, Stage::Maturity) => "Offer something new before others get to see it, as a thank-you.",
        (Code::A, Stage::Decline) => "Ask what has changed; offer a reason to come again, within your authority.",
        (Code::A, Stage::Departure) => "Win them back: offer a visit of the account manager and a welcome gift.",
        (Code::A, Stage::Unspecified) => "Offer what fits what they have; let them choose.",
        (Code::B, Stage::Acquisition) => "Offer a start package with room to grow.",
        (Code::B, Stage::Growth) => "Offer a bundle: what customers like them buy with it.",
        (Code::B, Stage::Maturity) => "Offer a product line that they do not have yet.",
        (Code::B, Stage::Decline) => "Offer a reward for the next purchase.",
        (Code::B, Stage::Departure) => "Offer terms that make coming back easy.",
        (Code::B, Stage::Unspecified) => "Ask about their plans; offer what would help them.",
        (Code::C | Code::Unspecified, Stage::Acquisition) => "Offer a first or second purchase at a small price.",
        (Code::C | Code::Unspecified, Stage::Growth) => "Offer the frequent buyer's card.",
        (Code::C | Code::Unspecified, Stage::Maturity) => "Offer this week's bundle once; no more than that.",
        (Code::C | Code::Unspecified, Stage::Decline) => "Offer this week's bundle if the talk goes there.",
        (Code::C | Code::Unspecified, Stage::Departure) => "Ask whether they want to hear of our offers again.",
        (Code::C | Code::Unspecified, Stage::Unspecified) => "Offer this week's bundle if the talk goes there.",
    })
}
