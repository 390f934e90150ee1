use chassis::testing::noon;
use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;
use proto::{common::v1::ErrorReason, routing::v1::PromptKind};

use super::*;
use crate::{Config, seed};

/// Wednesday, 21:00: phone, mail and self-service alone are open.
fn evening() -> Timestamp {
    "2026-01-14T21:00:00Z".parse().unwrap()
}

fn setup_with(change: impl FnOnce(&mut Vec<Channel>, &mut Vec<Queue>)) -> Setup {
    let (mut channels, mut queues) = (seed::channels("USD"), seed::queues());
    change(&mut channels, &mut queues);
    Setup::new(channels, queues, TimeZone::UTC)
}

fn setup() -> Setup {
    setup_with(|_, _| {})
}

fn channel<'c>(channels: &'c mut [Channel], id: &str) -> &'c mut Channel {
    channels.iter_mut().find(|channel| channel.id == id).unwrap()
}

fn of_tier(tier: Tier) -> Caller {
    let code = if matches!(tier, Tier::Important | Tier::Major) { CustomerCode::A } else { CustomerCode::C };
    Caller { known: true, standing: Some(standing(tier, code)), ..Caller::default() }
}

fn standing(tier: Tier, code: CustomerCode) -> Standing {
    Standing { relationship: Relationship::Repeat, stage: LifeCycleStage::Maturity, tier, code, estimated: false }
}

fn decide_at<'s>(setup: &'s Setup, now: Timestamp, caller: Caller, arrival: &str, purpose: Purpose) -> Decision<'s> {
    let arrival = (!arrival.is_empty()).then(|| setup.find(arrival).unwrap());
    let Config { weights, lift, .. } = Config::default();
    decide(setup, &setup.moment(now), &weights, lift, &Case { caller, arrival, purpose }).unwrap()
}

/// (channel, rule of the channel, queue) at noon.
fn way<'s>(setup: &'s Setup, tier: Tier, arrival: &str, purpose: Purpose) -> (&'s str, &'static str, &'s str) {
    let decision = decide_at(setup, noon(), of_tier(tier), arrival, purpose);
    (&decision.channel.id, decision.reasons[0].rule, &decision.queue.id)
}

fn has(decision: &Decision<'_>, kind: PromptKind) -> bool {
    decision.prompt.iter().any(|line| line.kind == kind)
}

#[test]
fn everyone_stays_in_the_channel_they_came_in() {
    let setup = setup();
    for arrival in ["phone", "self-service", "chat", "mail", "shop"] {
        for tier in [Tier::Unspecified, Tier::Ordinary, Tier::Small] {
            for purpose in [Purpose::Unspecified, Purpose::Routine, Purpose::Complaint, Purpose::Cancel] {
                let (channel, rule, _) = way(&setup, tier, arrival, purpose);
                assert_eq!((channel, rule), (arrival, "came_in_here"), "{tier:?} {purpose:?}");
            }
        }
    }
}

#[test]
fn key_customers_go_from_self_service_to_a_person_and_else_stay() {
    let setup = setup();
    let way = |arrival| way(&setup, Tier::Major, arrival, Purpose::Inquiry);
    assert_eq!(way("self-service"), ("phone", "key_customer_relationship", "phone-key"));
    assert_eq!(way("phone"), ("phone", "key_customer_stays", "phone-key"));
    assert_eq!(way("chat"), ("chat", "key_customer_stays", "chat-key"));
    assert_eq!(way("shop"), ("shop", "key_customer_stays", "shop-general"));
}

#[test]
fn where_the_company_chooses_it_weighs_relationship_and_cost() {
    let setup = setup();
    let chosen = |tier, purpose| way(&setup, tier, "", purpose).0;
    assert_eq!(chosen(Tier::Important, Purpose::Inquiry), "visit");
    assert_eq!(chosen(Tier::Major, Purpose::Inquiry), "phone");
    assert_eq!(chosen(Tier::Small, Purpose::Inquiry), "self-service");
    assert_eq!(chosen(Tier::Small, Purpose::Complaint), "phone", "a complaint is answered by a person");
}

#[test]
fn the_queue_is_the_most_specific_one() {
    let setup = setup();
    let queue = |tier, purpose| way(&setup, tier, "phone", purpose).2;
    assert_eq!(queue(Tier::Important, Purpose::Inquiry), "phone-vip");
    assert_eq!(queue(Tier::Important, Purpose::Routine), "phone-vip");
    assert_eq!(queue(Tier::Major, Purpose::Order), "phone-key");
    assert_eq!(queue(Tier::Ordinary, Purpose::Order), "phone-general");
    assert_eq!(queue(Tier::Small, Purpose::Routine), "phone-routine");
    assert_eq!(queue(Tier::Unspecified, Purpose::Routine), "phone-general");
    assert_eq!(queue(Tier::Important, Purpose::Complaint), "phone-complaints-key");
    assert_eq!(queue(Tier::Small, Purpose::Complaint), "phone-complaints");
    assert_eq!(queue(Tier::Important, Purpose::Cancel), "phone-stay");
}

#[test]
fn equal_queues_go_by_priority_then_by_id() {
    let add = |queues: &mut Vec<Queue>, id: &str, priority| {
        let general = queues.iter().find(|queue| queue.id == "phone-general").unwrap().clone();
        queues.push(Queue { id: id.into(), priority, ..general });
    };
    let setup = setup_with(|_, queues| {
        add(queues, "b", 49);
        add(queues, "a", 49);
        add(queues, "0", 51);
    });
    assert_eq!(way(&setup, Tier::Small, "phone", Purpose::Order).2, "a");
}

#[test]
fn key_customers_and_open_complaints_move_forward() {
    let setup = setup();
    let place = |tier, arrival, complaint_open| {
        let caller = Caller { complaint_open, ..of_tier(tier) };
        let decision = decide_at(&setup, noon(), caller, arrival, Purpose::Inquiry);
        let why = &decision.reasons[2];
        assert_eq!(
            why.text.ends_with("No place is before the first."),
            why.rule != "queue_priority" && decision.priority == 1
        );
        (decision.priority, why.rule)
    };
    assert_eq!(place(Tier::Important, "phone", false), (1, "queue_priority"), "the queue is theirs alone");
    assert_eq!(place(Tier::Important, "shop", false), (40, "key_customer_first"));
    assert_eq!(place(Tier::Major, "shop", false), (45, "key_customer_first"));
    assert_eq!(place(Tier::Small, "shop", false), (50, "queue_priority"));
    assert_eq!(place(Tier::Small, "shop", true), (45, "open_complaint_first"));
    assert_eq!(place(Tier::Important, "shop", true), (35, "key_customer_and_complaint_first"));
    assert_eq!(
        place(Tier::Important, "phone", true),
        (1, "open_complaint_first"),
        "there is no place before the first"
    );
    let complaint = |tier| decide_at(&setup, noon(), of_tier(tier), "phone", Purpose::Complaint).priority;
    assert!(complaint(Tier::Important) < complaint(Tier::Major) && complaint(Tier::Major) < complaint(Tier::Small));
}

#[test]
fn a_closed_channel_hands_over_to_a_comparable_open_one_or_waits() {
    let setup = setup();
    let at_night = |arrival| decide_at(&setup, evening(), of_tier(Tier::Small), arrival, Purpose::Order);
    let chat = at_night("chat");
    assert_eq!((chat.channel.id.as_str(), chat.reasons[0].rule), ("phone", "closed_comparable_open"));
    assert!(chat.opening.open);
    let shop = at_night("shop");
    assert_eq!((shop.channel.id.as_str(), shop.reasons[0].rule), ("shop", "closed_waits"));
    assert_eq!(shop.opening.opens, Some("2026-01-15T09:00:00Z".parse().unwrap()));
    assert!(shop.prompt.iter().any(|line| line.text.contains("closed")));
}

#[test]
fn the_company_chooses_a_closed_channel_only_where_none_is_open() {
    let at_night = |setup: &Setup| {
        let decision = decide_at(setup, evening(), of_tier(Tier::Important), "", Purpose::Inquiry);
        (decision.channel.id.clone(), decision.opening.open)
    };
    assert_eq!(at_night(&setup()), ("phone".to_owned(), true), "a visit would have to wait");
    let only_visits = setup_with(|channels, _| channels.retain(|channel| channel.id == "visit"));
    assert_eq!(at_night(&only_visits), ("visit".to_owned(), false));
}

#[test]
fn a_channel_that_takes_no_part_hands_over() {
    let setup = setup_with(|channels, queues| {
        channel(channels, "chat").enabled = false;
        queues.retain(|queue| queue.channel_id != "mail");
    });
    for arrival in ["chat", "mail"] {
        let decision = decide_at(&setup, noon(), of_tier(Tier::Major), arrival, Purpose::Inquiry);
        assert_eq!((decision.channel.id.as_str(), decision.reasons[0].rule), ("phone", "arrival_cannot_take_it"));
    }
    let shop_only = setup_with(|channels, _| {
        channels.iter_mut().for_each(|channel| channel.enabled = channel.id == "shop");
    });
    assert_eq!(way(&shop_only, Tier::Small, "phone", Purpose::Order).0, "shop", "better than nothing");
}

#[test]
fn without_any_queue_the_answer_names_what_is_missing() {
    let setup = setup_with(|_, queues| queues.iter_mut().for_each(|queue| queue.enabled = false));
    let Config { weights, lift, .. } = Config::default();
    for arrival in [None, setup.find("phone")] {
        let case = Case { caller: Caller::default(), arrival, purpose: Purpose::Order };
        let error = decide(&setup, &setup.moment(noon()), &weights, lift, &case).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::WrongState);
    }
}

#[test]
fn routine_work_is_offered_self_service_but_only_where_there_is_one() {
    let offered = |setup: &Setup, tier, arrival: &str| {
        let decision = decide_at(setup, noon(), of_tier(tier), arrival, Purpose::Routine);
        decision.prompt.iter().any(|line| line.text.contains("self-service"))
    };
    assert!(offered(&setup(), Tier::Small, "phone"));
    assert!(offered(&setup(), Tier::Ordinary, "chat"));
    assert!(!offered(&setup(), Tier::Major, "phone"));
    assert!(!offered(&setup(), Tier::Small, "self-service"));
    let without = setup_with(|channels, _| channel(channels, "self-service").enabled = false);
    assert!(!offered(&without, Tier::Small, "phone"));
}

#[test]
fn nothing_is_sold_while_a_complaint_is_open_or_made() {
    let setup = setup();
    let calm = decide_at(&setup, noon(), of_tier(Tier::Major), "phone", Purpose::Support);
    assert!(has(&calm, PromptKind::Sell) && !has(&calm, PromptKind::HoldSelling) && !calm.selling_paused);
    let open = Caller { complaint_open: true, ..of_tier(Tier::Major) };
    for (caller, purpose) in [(open, Purpose::Support), (of_tier(Tier::Major), Purpose::Complaint)] {
        let decision = decide_at(&setup, noon(), caller, "phone", purpose);
        assert!(!has(&decision, PromptKind::Sell) && has(&decision, PromptKind::HoldSelling));
        assert!(decision.selling_paused);
    }
}

#[test]
fn a_second_complaint_is_asked_whether_it_is_the_first() {
    let setup = setup();
    let says = |complaint_open| {
        let caller = Caller { complaint_open, ..of_tier(Tier::Small) };
        let decision = decide_at(&setup, noon(), caller, "phone", Purpose::Complaint);
        let has = |text: &str| decision.prompt.iter().any(|line| line.text.contains(text));
        assert_ne!(has("about their open complaint"), has("file the complaint"), "{decision:?}");
        has("about their open complaint")
    };
    assert!(says(true) && !says(false));
    // Where we get in touch about one, they have not come to us with another.
    for (complaint_open, words) in [(true, "where their complaint stands"), (false, "Ask whether all is well")] {
        let caller = Caller { complaint_open, ..of_tier(Tier::Small) };
        let decision = decide_at(&setup, noon(), caller, "", Purpose::Complaint);
        let service = decision.prompt.iter().filter(|line| line.kind == PromptKind::Service);
        let said: Vec<_> = service.map(|line| line.text).collect();
        assert!(said.len() == 2 && said[1].contains(words) && !said[1].contains("their open complaint"), "{said:?}");
    }
}

#[test]
fn where_we_get_in_touch_nobody_is_welcomed_and_a_no_is_a_no() {
    let setup = setup();
    let callers = [Caller::default(), Caller { known: true, ..Caller::default() }]
        .into_iter()
        .chain([Tier::Important, Tier::Small].map(of_tier))
        .chain([Caller { complaint_open: true, ..of_tier(Tier::Major) }])
        .chain([Caller { known: true, complaint_open: true, ..Caller::default() }])
        .chain((1..=7).map(|relationship| {
            let standing = standing(Tier::Ordinary, CustomerCode::B);
            let standing = Standing { relationship: relationship.try_into().unwrap(), ..standing };
            Caller { known: true, standing: Some(standing), ..Caller::default() }
        }));
    for caller in callers {
        for (now, arrival) in [noon(), evening()].into_iter().flat_map(|now| [(now, ""), (now, "phone")]) {
            let decision = decide_at(&setup, now, caller, arrival, Purpose::Order);
            let has = |text: &str| decision.prompt.iter().any(|line| line.text.contains(text));
            let ours = arrival.is_empty();
            assert_eq!(decision.prompt[0].text.starts_with("Say who you are"), ours, "{decision:?}");
            assert_eq!(has("take a no for a no."), ours, "{decision:?}");
            assert!(!ours || !has("Welcome"), "{decision:?}");
            assert_eq!(has("their complaint"), caller.complaint_open, "{decision:?}");
        }
    }
    // Where nothing is open, we wait, and who called is told when we will answer.
    let closed = setup_with(|channels, _| {
        let hours = channel(channels, "shop").hours.clone();
        channels.iter_mut().for_each(|channel| channel.hours = hours.clone());
    });
    for (arrival, says) in [("", "get in touch when it opens"), ("phone", "take down the request")] {
        let decision = decide_at(&closed, evening(), of_tier(Tier::Small), arrival, Purpose::Order);
        let service = |text: &str| decision.prompt.iter().any(|line| line.text.contains(text));
        assert!(!decision.opening.open && service(says), "{decision:?}");
    }
}

#[test]
fn each_code_and_stage_has_words_of_its_own() {
    let setup = setup();
    let text = |code, stage| {
        let standing = Standing { stage, ..standing(Tier::Ordinary, code) };
        let caller = Caller { standing: Some(standing), ..of_tier(Tier::Ordinary) };
        let decision = decide_at(&setup, noon(), caller, "phone", Purpose::Inquiry);
        decision.prompt.iter().find(|line| line.kind == PromptKind::Sell).unwrap().text
    };
    let mut texts = std::collections::BTreeSet::new();
    for code in [CustomerCode::A, CustomerCode::B, CustomerCode::C] {
        for stage in 1..=5 {
            texts.insert(text(code, LifeCycleStage::try_from(stage).unwrap()));
        }
    }
    assert_eq!(texts.len(), 15);
}

fn any_caller() -> impl Strategy<Value = Caller> {
    let standing = (0..=7_i32, 0..=5_i32, 0..=4_i32, 0..=3_i32, any::<bool>()).prop_map(
        |(relationship, stage, tier, code, estimated)| Standing {
            relationship: relationship.try_into().unwrap(),
            stage: stage.try_into().unwrap(),
            tier: tier.try_into().unwrap(),
            code: code.try_into().unwrap(),
            estimated,
        },
    );
    (any::<bool>(), any::<bool>(), proptest::option::of(standing), any::<bool>()).prop_map(
        |(known, shared, standing, complaint_open)| {
            if known { Caller { known, shared, standing, complaint_open } } else { Caller::default() }
        },
    )
}

proptest! {
    #[test]
    fn every_case_is_decided_in_full(
        caller in any_caller(),
        arrival in 0_usize..7,
        purpose in 0..=6_i32,
        enabled in proptest::collection::vec(any::<bool>(), 6),
        seconds in 0_i64..700_000,
    ) {
        let setup = setup_with(|channels, _| {
            for (channel, enabled) in channels.iter_mut().zip(&enabled) {
                channel.enabled = *enabled;
            }
            // The visit queue is for important customers alone; with another channel there is always one for all.
            channel(channels, "mail").enabled = true;
        });
        let arrival = (arrival < 6).then_some(arrival);
        let moment = setup.moment(noon() + SignedDuration::from_secs(seconds));
        let Config { weights, lift, .. } = Config::default();
        let case = Case { caller, arrival, purpose: purpose.try_into().unwrap() };
        let decision = decide(&setup, &moment, &weights, lift, &case).unwrap();

        prop_assert!(decision.channel.enabled);
        prop_assert_eq!(&decision.queue.channel_id, &decision.channel.id);
        let tier = caller.standing.map_or(Tier::Unspecified, |standing| standing.tier);
        prop_assert!(decision.queue.takes(tier, case.purpose));
        prop_assert!((1..=100).contains(&decision.priority));
        prop_assert_eq!(decision.opening.open, decision.opening.opens.is_none());
        prop_assert_eq!(decision.reasons.each_ref().map(|r| r.decides), ["channel", "queue", "priority", "target", "prompt"]);
        prop_assert_eq!(decision.prompt[0].kind, PromptKind::Greeting);
        prop_assert_eq!(decision.selling_paused, has(&decision, PromptKind::HoldSelling));
        prop_assert!(!(decision.selling_paused && has(&decision, PromptKind::Sell)));
    }
}
