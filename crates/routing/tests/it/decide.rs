//! Decide.
use chassis::testing::{Backend, eventually, fault};
use jiff::SignedDuration;
use proto::{
    complaints::v1::ComplaintState,
    profiles::v1 as profiles,
    routing::v1::{self as pb, ContactPurpose as Purpose, PromptKind, contact_point::Point, decide_request::Who},
    scoring::v1::{CustomerCode as Code, Tier},
};
use tonic::Code as Grpc;

use crate::support::{Suite, decide, decide_phone, id, rule};

fn kinds(decision: &pb::DecideResponse) -> Vec<PromptKind> {
    decision.prompt.iter().map(pb::PromptLine::kind).collect()
}

async fn an_unknown_caller_is_a_prospect(backend: Backend) {
    let suite = Suite::start(backend).await;
    let decision = decide_phone(&suite.client, "+441632960000").await;
    assert!(decision.prospect);
    assert_eq!((decision.customer_id.as_str(), decision.standing.clone()), ("", None));
    assert_eq!((decision.channel_id.as_str(), decision.queue_id.as_str()), ("phone", "phone-general"));
    assert_eq!(rule(&decision, "prompt"), "prospect");
    assert_eq!(kinds(&decision), [PromptKind::Greeting, PromptKind::Service, PromptKind::Sell]);
    assert!(decision.open && decision.opens_time.is_none());

    let decision = decide(&suite.client, id(1), "phone", Purpose::Order).await;
    assert!(decision.prospect, "an id that nobody told us of is not a customer");
    let next = decide(&suite.client, id(1), "phone", Purpose::Order).await;
    assert_ne!(decision.decision_id, next.decision_id);
}

async fn an_important_and_a_small_customer_are_treated_differently(backend: Backend) {
    let suite = Suite::start(backend).await;
    suite.peers.stands(id(1), 1, Tier::Important, Code::A);
    suite.peers.stands(id(2), 1, Tier::Small, Code::C);
    eventually("both standings are followed", || async {
        !decide(&suite.client, id(1), "phone", Purpose::Order).await.prospect
            && !decide(&suite.client, id(2), "phone", Purpose::Order).await.prospect
    })
    .await;
    let important = decide(&suite.client, id(1), "phone", Purpose::Order).await;
    let small = decide(&suite.client, id(2), "phone", Purpose::Order).await;
    assert_eq!((important.queue_id.as_str(), small.queue_id.as_str()), ("phone-vip", "phone-general"));
    assert_eq!(important.target_answer_time.unwrap().seconds, 6);
    assert_eq!(small.target_answer_time.unwrap().seconds, 45);
    assert!(important.priority < small.priority);
    assert_ne!(important.prompt, small.prompt);
    assert_eq!(important.standing.clone().unwrap(), crate::support::standing(id(1), 1, Tier::Important, Code::A));
    let decides: Vec<_> = important.reasons.iter().map(|reason| reason.decides.as_str()).collect();
    assert_eq!(decides, ["channel", "queue", "priority", "target", "prompt"]);
    assert!(important.reasons.iter().all(|reason| reason.text.ends_with('.')));

    // Another one in the same case gets the same answer, under a name of their own.
    suite.peers.stands(id(3), 7, Tier::Small, Code::C);
    eventually("the third is followed, too", || async {
        !decide(&suite.client, id(3), "phone", Purpose::Order).await.prospect
    })
    .await;
    let other = decide(&suite.client, id(3), "phone", Purpose::Order).await;
    assert_eq!((other.customer_id.as_str(), other.standing.as_ref().unwrap().revision), (&*id(3).to_string(), 7));
    assert_ne!(other.decision_id, small.decision_id);
    let pb::DecideResponse { decision_id, customer_id, standing, .. } = small.clone();
    assert_eq!(pb::DecideResponse { decision_id, customer_id, standing, ..other }, small);

    let routine = decide(&suite.client, id(2), "phone", Purpose::Routine).await;
    assert_eq!(routine.channel_id, "phone", "nobody is refused");
    assert!(routine.prompt.iter().any(|line| line.text.contains("self-service")));
    let routine = decide(&suite.client, id(1), "phone", Purpose::Routine).await;
    assert!(!routine.prompt.iter().any(|line| line.text.contains("self-service")));
}

async fn an_open_complaint_pauses_selling_until_it_is_resolved(backend: Backend) {
    let suite = Suite::start(backend).await;
    let (one, two) = (id(100), id(101));
    suite.peers.stands(id(1), 1, Tier::Major, Code::B);
    suite.peers.complaint(one, id(1), 1, ComplaintState::Filed);
    suite.peers.complaint(two, id(1), 1, ComplaintState::Filed);
    let paused = || async { decide(&suite.client, id(1), "phone", Purpose::Inquiry).await.selling_paused };
    eventually("selling pauses, and the standing is followed", || async {
        let decision = decide(&suite.client, id(1), "phone", Purpose::Inquiry).await;
        decision.selling_paused && decision.standing.is_some()
    })
    .await;
    let decision = decide(&suite.client, id(1), "phone", Purpose::Inquiry).await;
    assert!(kinds(&decision).contains(&PromptKind::HoldSelling) && !kinds(&decision).contains(&PromptKind::Sell));
    assert_eq!((decision.priority, rule(&decision, "priority").as_str()), (1, "open_complaint_first"));

    // In order, so that once the second is seen to be resolved the first is too.
    suite.peers.complaint(one, id(1), 2, ComplaintState::Resolved);
    suite.peers.complaint(two, id(1), 3, ComplaintState::Closed);
    // Older news of it comes late, as after a snapshot.
    suite.peers.complaint(two, id(1), 2, ComplaintState::Open);
    suite.peers.complaint(id(102), id(2), 1, ComplaintState::Filed);
    eventually("all is followed", || async {
        decide(&suite.client, id(2), "phone", Purpose::Inquiry).await.selling_paused
    })
    .await;
    assert!(!paused().await);
}

async fn a_caller_is_known_by_the_record_as_it_is_now(backend: Backend) {
    let suite = Suite::start(backend).await;
    suite.peers.record(id(1), 1, &["+441632960001"]);
    eventually("the number is known", || async { !decide_phone(&suite.client, "+441632960001").await.prospect }).await;
    assert_eq!(decide_phone(&suite.client, "+441632960001").await.customer_id, id(1).to_string());
    suite.peers.record(id(1), 2, &["+441632960002"]);
    suite.peers.record(id(1), 1, &["+441632960003"]);
    suite.peers.record(id(2), 1, &["+441632960002"]);
    eventually("a second record has the number", || async {
        decide_phone(&suite.client, "+441632960002").await.prompt.iter().any(|line| line.text.starts_with("Several"))
    })
    .await;
    assert_eq!(decide_phone(&suite.client, "+441632960002").await.customer_id, id(1).to_string());
    assert!(decide_phone(&suite.client, "+441632960001").await.prospect, "the old number leads nowhere");
    assert!(decide_phone(&suite.client, "+441632960003").await.prospect, "older news changes nothing");
}

async fn a_caller_is_known_by_mail_and_identity_too(backend: Backend) {
    let suite = Suite::start(backend).await;
    let identity = |id: &str| profiles::ExternalIdentity { system: "shop".into(), id: id.into() };
    suite.peers.customers.publish([profiles::Customer {
        customer_id: id(1).to_string(),
        revision: 1,
        mails: vec!["Ada@example.com".into()],
        identities: vec![identity("42")],
        ..Default::default()
    }]);
    let ask = |point: Point| {
        let mut client = suite.client.clone();
        async move {
            let who = Some(Who::ContactPoint(pb::ContactPoint { point: Some(point) }));
            client.decide(pb::DecideRequest { who, ..Default::default() }).await.unwrap().into_inner()
        }
    };
    eventually("the record is followed", || async { !ask(Point::Identity(identity("42"))).await.prospect }).await;
    assert!(!ask(Point::Mail("ada@EXAMPLE.com".into())).await.prospect);
    assert!(ask(Point::Identity(identity("43"))).await.prospect);
}

async fn nonsense_is_refused_by_name(backend: Backend) {
    let suite = Suite::start(backend).await;
    let ask = |who, arrival: &str, purpose| {
        let mut client = suite.client.clone();
        let request = pb::DecideRequest { who, arrival_channel_id: arrival.into(), purpose };
        async move { fault(&client.decide(request).await.unwrap_err()) }
    };
    let invalid = |fields: &[&str]| {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        (Grpc::InvalidArgument, "INVALID_FIELD".to_owned(), fields)
    };
    assert_eq!(ask(None, "no\0pe", 99).await, invalid(&["customer_id", "arrival_channel_id", "purpose"]));
    assert_eq!(ask(Some(Who::CustomerId("x".repeat(100_000))), "", 0).await, invalid(&["customer_id"]));
    let point = |point| Some(Who::ContactPoint(pb::ContactPoint { point }));
    assert_eq!(ask(point(None), "", 0).await, invalid(&["contact_point"]));
    assert_eq!(ask(point(Some(Point::Phone("0".into()))), "", 0).await, invalid(&["contact_point.phone"]));
    assert_eq!(ask(point(Some(Point::Mail("\0@".into()))), "", 0).await, invalid(&["contact_point.mail"]));
}

async fn channels_open_and_close_with_the_clock(backend: Backend) {
    let suite = Suite::start(backend).await;
    let shop = || decide(&suite.client, id(1), "shop", Purpose::Order);
    assert!(shop().await.open);
    suite.clock.advance(SignedDuration::from_hours(7));
    let closed = shop().await;
    assert!(!closed.open);
    // Thursday, nine o'clock.
    assert_eq!(
        closed.opens_time.unwrap().seconds,
        "2026-01-15T09:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second()
    );
    assert_eq!(rule(&closed, "channel"), "closed_waits");
    suite.clock.advance(SignedDuration::from_hours(-7));
    assert!(shop().await.open, "a clock that jumps back opens it again");
    suite.clock.advance(SignedDuration::from_hours(9));
    let chat = decide(&suite.client, id(1), "chat", Purpose::Order).await;
    assert_eq!((chat.channel_id.as_str(), rule(&chat, "channel").as_str()), ("phone", "closed_comparable_open"));
}

chassis::db_tests!(
    an_unknown_caller_is_a_prospect,
    an_important_and_a_small_customer_are_treated_differently,
    an_open_complaint_pauses_selling_until_it_is_resolved,
    a_caller_is_known_by_the_record_as_it_is_now,
    a_caller_is_known_by_mail_and_identity_too,
    nonsense_is_refused_by_name,
    channels_open_and_close_with_the_clock,
);
