use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Config::default().rules().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// A Wednesday at noon.
const NOON: &str = "2026-01-14T12:00:00Z";

fn present<'a>(rules: &'a Rules, now: &str, tier: Tier) -> Present<'a> {
    Present { now: at(now), tier, rules }
}

fn filed(present: &Present<'_>) -> Complaint {
    let filing = Filing {
        id: Uuid::from_u128(1),
        customer_id: Uuid::from_u128(2),
        cause_id: "other".into(),
        severity: Severity::Moderate,
        description: "It is broken.".into(),
    };
    Complaint::file(filing, present).0
}

/// A complaint in each state, as its life leads there.
fn in_state(state: State, rules: &Rules) -> Complaint {
    let present = present(rules, NOON, Tier::Ordinary);
    let filed = filed(&present);
    let open = || filed.clone().acknowledge("o", &present).unwrap().0;
    let resolved = || filed.clone().resolve("a", &present).unwrap().0;
    match state {
        State::Unspecified => panic!("no complaint is in no state"),
        State::Filed => filed.clone(),
        State::Open => open(),
        State::Waiting => open().await_customer("r", &present).unwrap().0,
        State::Resolved => resolved(),
        State::Reopened => resolved().reopen("r", &present).unwrap().0,
        State::Closed => resolved().close(CustomerWord::Solved, &present).unwrap().0,
    }
}

const STATES: [State; 6] = [State::Filed, State::Open, State::Waiting, State::Resolved, State::Reopened, State::Closed];

#[test]
fn every_transition_is_allowed_from_its_states_and_refused_from_all_others() {
    use State::{Closed, Filed, Open, Reopened, Resolved, Waiting};
    type Act = fn(Complaint, &Present<'_>) -> Result<(Complaint, Step)>;
    let table: [(&str, Act, &[State], Option<State>); 7] = [
        ("acknowledged", |c, p| c.acknowledge("o", p), &[Filed, Reopened], Some(Open)),
        ("escalated", |c, p| c.escalate("m", "r", p), &[Filed, Open, Reopened], None),
        ("awaiting customer", |c, p| c.await_customer("r", p), &[Open], Some(Waiting)),
        ("resumed", |c, p| c.resume(p), &[Waiting], Some(Open)),
        ("resolved", |c, p| c.resolve("a", p), &[Filed, Open, Reopened], Some(Resolved)),
        ("reopened", |c, p| c.reopen("r", p), &[Resolved, Closed], Some(Reopened)),
        ("closed", |c, p| c.close(CustomerWord::Partly, p), &[Resolved], Some(Closed)),
    ];
    let rules = rules();
    let present = present(&rules, NOON, Tier::Ordinary);
    for (action, act, from, to) in table {
        for state in STATES {
            let before = in_state(state, &rules);
            match act(before.clone(), &present) {
                Ok((after, step)) => {
                    assert!(from.contains(&state), "{action} from {state:?}");
                    assert_eq!(after.state, to.unwrap_or(state), "{action} from {state:?}");
                    assert_eq!((after.revision, step.number), (before.revision + 1, before.revision + 1));
                    assert_eq!((step.action.as_str(), step.state), (action, after.state));
                    assert_eq!(after.clock.running_since.is_some(), with_company(after.state));
                    assert_eq!(after.due.is_some(), with_company(after.state));
                    assert_ne!(after.etag(), before.etag());
                }
                Err(Error::WrongState { what, state: named, rule }) => {
                    assert!(!from.contains(&state), "{action} from {state:?}");
                    assert_eq!((what, named.as_str()), ("complaint", name(state)));
                    assert!(rule.starts_with("only "), "{rule}");
                }
                Err(other) => panic!("{action} from {state:?}: {other}"),
            }
        }
    }
}

#[test]
fn pausing_keeps_what_has_run() {
    let rules = rules();
    let by = |now| present(&rules, now, Tier::Ordinary);
    let complaint = filed(&by(NOON)).acknowledge("o", &by("2026-01-14T13:00:00Z")).unwrap().0;
    let waiting = complaint.await_customer("r", &by("2026-01-14T15:30:00Z")).unwrap().0;
    assert_eq!(waiting.clock.elapsed, SignedDuration::from_mins(210));
    assert_eq!((waiting.due, waiting.sweep), (None, None));
    // A week later, on a Sunday.
    let open = waiting.resume(&by("2026-01-25T10:00:00Z")).unwrap().0;
    assert_eq!(open.clock.elapsed_at(at("2026-01-25T23:00:00Z"), &rules.calendar), SignedDuration::from_mins(210));
    // 24 h less 3.5 h from Monday on: 8 + 8 + 4.5.
    assert_eq!(open.due, Some(at("2026-01-28T13:30:00Z")));
}

#[test]
fn another_tier_changes_what_is_allowed_and_keeps_what_has_run() {
    let rules = rules();
    let complaint = filed(&present(&rules, NOON, Tier::Ordinary));
    let (complaint, step) = complaint.follow_tier(&present(&rules, "2026-01-14T14:00:00Z", Tier::Important)).unwrap();
    assert_eq!(complaint.clock.allowed, hours(8));
    assert_eq!(complaint.due, Some(at("2026-01-15T12:00:00Z")));
    assert_eq!((step.action.as_str(), step.actor_id.as_str()), ("tier changed", SCORING));
    // The same again is no news; nor is it any to a case that is answered.
    let again = present(&rules, "2026-01-14T15:00:00Z", Tier::Important);
    assert!(complaint.clone().follow_tier(&again).is_none());
    let answered = complaint.resolve("a", &again).unwrap().0;
    assert!(answered.follow_tier(&present(&rules, "2026-01-14T16:00:00Z", Tier::Small)).is_none());
}

#[test]
fn a_case_that_waits_follows_the_tier_and_still_stands() {
    let rules = rules();
    let waiting = in_state(State::Waiting, &rules);
    let (waiting, _) = waiting.follow_tier(&present(&rules, "2026-01-16T12:00:00Z", Tier::Small)).unwrap();
    assert_eq!((waiting.clock.allowed, waiting.due), (hours(40), None));
}

#[test]
fn a_breach_stays_one_whatever_comes_after() {
    let rules = rules();
    // Due on Monday at noon; the customer becomes a small one the hour after, before any sweep.
    let complaint = filed(&present(&rules, NOON, Tier::Ordinary));
    let late = present(&rules, "2026-01-19T13:00:00Z", Tier::Small);
    assert!(complaint.is_breached(late.now) && !complaint.breached);
    assert!(!complaint.is_breached(at("2026-01-19T11:59:59Z")));
    let (longer, _) = complaint.clone().follow_tier(&late).unwrap();
    assert!(longer.breached && longer.due > Some(late.now));
    let (resolved, _) = complaint.resolve("a", &late).unwrap();
    assert!(resolved.breached);
}

#[test]
fn reopening_leaves_what_was_left_but_at_least_the_grace() {
    let rules = rules();
    let by = |now| present(&rules, now, Tier::Ordinary);
    let early = filed(&by(NOON)).resolve("a", &by("2026-01-14T14:00:00Z")).unwrap().0;
    let early = early.reopen("r", &by("2026-01-20T09:00:00Z")).unwrap().0;
    // 22 h were left: 8 + 8 + 6.
    assert_eq!((early.due, early.clock.allowed), (Some(at("2026-01-22T15:00:00Z")), hours(24)));

    let late = filed(&by(NOON)).resolve("a", &by("2026-01-20T12:00:00Z")).unwrap().0;
    assert_eq!(late.clock.elapsed, hours(32));
    let late = late.reopen("r", &by("2026-01-21T09:00:00Z")).unwrap().0;
    assert_eq!((late.due, late.clock.allowed), (Some(at("2026-01-21T13:00:00Z")), hours(36)));
    // The grace holds against a tier that allows less.
    let (late, _) = late.follow_tier(&present(&rules, "2026-01-21T10:00:00Z", Tier::Important)).unwrap();
    assert_eq!(late.due, Some(at("2026-01-21T13:00:00Z")));
}

#[test]
fn reopening_goes_by_the_tier_of_that_day_and_takes_the_word_back() {
    let rules = rules();
    let closed = in_state(State::Closed, &rules);
    assert_eq!(closed.customer_word, CustomerWord::Solved);
    let (reopened, _) = closed.reopen("r", &present(&rules, "2026-01-15T09:00:00Z", Tier::Important)).unwrap();
    assert_eq!((reopened.tier, reopened.clock.allowed), (Tier::Important, hours(8)));
    assert_eq!(reopened.customer_word, CustomerWord::Unspecified);
}

#[test]
fn the_sweep_escalates_before_the_breach_and_marks_the_breach_each_once() {
    let rules = rules();
    let by = |now| present(&rules, now, Tier::Ordinary);
    let complaint = filed(&by(NOON));
    // 19.2 of 24 h: 5 + 8, and 6.2 on Friday.
    assert_eq!(complaint.sweep, Some(at("2026-01-16T15:12:00Z")));
    assert!(complaint.clone().sweep(&by("2026-01-16T15:11:59Z")).is_none());
    let (complaint, step) = complaint.sweep(&by("2026-01-16T15:12:00Z")).unwrap();
    assert_eq!((complaint.level, step.action.as_str(), step.actor_id.as_str()), (1, "escalated", SWEEP));
    assert!(!complaint.breached);
    assert!(complaint.clone().sweep(&by("2026-01-19T11:59:59Z")).is_none());
    let (complaint, step) = complaint.sweep(&by("2026-01-19T12:00:00Z")).unwrap();
    assert_eq!((complaint.level, step.action.as_str(), complaint.breached), (2, "breached", true));
    assert!(complaint.sweep(&by("2030-01-01T12:00:00Z")).is_none());
}

#[test]
fn a_sweep_that_comes_late_marks_the_breach_alone() {
    let rules = rules();
    let complaint = filed(&present(&rules, NOON, Tier::Ordinary));
    let late = present(&rules, "2026-02-01T12:00:00Z", Tier::Ordinary);
    let (complaint, step) = complaint.sweep(&late).unwrap();
    assert_eq!((complaint.level, step.action.as_str()), (1, "breached"));
    assert!(complaint.sweep(&late).is_none());
}

#[test]
fn a_due_time_that_has_passed_stays_passed_whoever_gets_the_case() {
    let rules = rules();
    let (noon, late) = (present(&rules, NOON, Tier::Ordinary), present(&rules, "2026-01-19T12:00:00Z", Tier::Ordinary));
    let early = present(&rules, "2026-01-19T11:00:00Z", Tier::Ordinary);
    let assigned = filed(&noon).assign("p", "", &late).unwrap().0;
    let escalated = filed(&noon).escalate("p", "r", &late).unwrap().0;
    for case in [assigned, escalated] {
        // Also for a clock that was set back since.
        assert!(case.breached && case.is_breached(early.now), "{case:?}");
        assert_eq!(case.sweep(&late).unwrap().1.action, "breached", "the sweep still marks it");
    }
    assert!(!filed(&noon).assign("p", "", &early).unwrap().0.breached);
}

#[test]
fn reopening_arms_the_sweep_anew() {
    let rules = rules();
    let late = present(&rules, "2026-02-02T12:00:00Z", Tier::Ordinary);
    let (breached, _) = filed(&present(&rules, NOON, Tier::Ordinary)).sweep(&late).unwrap();
    let (reopened, _) = breached.resolve("a", &late).unwrap().0.reopen("r", &late).unwrap();
    assert!(reopened.sweep.is_some() && reopened.breached);
}

#[test]
fn the_level_never_passes_the_highest() {
    let rules = rules();
    let by = present(&rules, NOON, Tier::Ordinary);
    let mut complaint = filed(&by);
    for level in 1..=5 {
        complaint = complaint.escalate("", "r", &by).unwrap().0;
        assert_eq!((complaint.level, complaint.owner_id.as_str()), (level, ""));
    }
    let error = complaint.clone().escalate("", "r", &by).unwrap_err().to_string();
    assert_eq!(error, "complaint is at escalation level 5: 5 is the highest level; nobody stands above");
    let (complaint, _) = complaint.sweep(&present(&rules, "2026-02-01T12:00:00Z", Tier::Ordinary)).unwrap();
    assert_eq!((complaint.level, complaint.breached), (5, true));
}

proptest! {
    /// Whatever happens to a case in whatever order, also when the machine's clock jumps back.
    #[test]
    fn the_clock_of_a_case_is_always_right(
        steps in prop::collection::vec((0_usize..10, -3_600_i64..200_000, 0_i32..5), 1..40),
    ) {
        let rules = rules();
        let mut now = at(NOON);
        let mut complaint = filed(&Present { now, tier: Tier::Ordinary, rules: &rules });
        for (act, seconds, tier) in steps {
            now += SignedDuration::from_secs(seconds);
            let tier = Tier::try_from(tier).unwrap();
            let present = Present { now, tier, rules: &rules };
            let before = complaint.clone();
            let ran = before.clock.elapsed_at(now, &rules.calendar);
            let next = match act {
                0 => complaint.acknowledge("o", &present).ok(),
                1 => complaint.escalate("m", "r", &present).ok(),
                2 => complaint.await_customer("r", &present).ok(),
                3 => complaint.resume(&present).ok(),
                4 => complaint.resolve("a", &present).ok(),
                5 => complaint.reopen("r", &present).ok(),
                6 => complaint.close(CustomerWord::NotSolved, &present).ok(),
                7 => complaint.assign("p", "r", &present).ok(),
                8 => complaint.follow_tier(&present),
                _ => complaint.sweep(&present),
            };
            let Some((after, step)) = next else {
                complaint = before;
                continue;
            };
            // What has run is neither lost nor invented.
            prop_assert_eq!(after.clock.elapsed_at(now, &rules.calendar), ran);
            prop_assert_eq!(after.due.is_some(), with_company(after.state));
            prop_assert_eq!(after.clock.running_since.is_some(), with_company(after.state));
            if let Some(due) = after.due {
                let left = after.clock.allowed.saturating_sub(ran);
                // A clock that jumped back stands before the stretch began, and what lies between is counted by nobody.
                let began = after.clock.running_since.is_some_and(|since| since <= now);
                if began && left >= SignedDuration::ZERO && due >= now {
                    prop_assert_eq!(rules.calendar.business_time_between(now, due), left);
                }
                prop_assert!(after.sweep.is_none_or(|sweep| sweep <= due));
            }
            if after.state == State::Reopened && before.state != State::Reopened {
                prop_assert!(after.clock.allowed.saturating_sub(ran) >= rules.grace);
            }
            prop_assert!(after.breached || !before.breached);
            prop_assert!((before.level..=before.level + 1).contains(&after.level) && after.level <= 5);
            prop_assert_eq!(step.number, before.revision + 1);
            complaint = after;
        }
    }
}
