//! From purchases to decisions, across all services.
use chassis::testing::{Backend, eventually};
use clientele::client::{Client, request};
use e2e::{
    calls::{buy, decide, decided, ensure, file, full, score},
    cdnow,
    world::World,
};
use proto::{
    common::v1::Money, complaints::v1 as complaints, profiles::v1 as profiles, routing::v1 as routing,
    scoring::v1 as scoring,
};
use scoring::Tier;

chassis::db_tests!(
    real_purchases_become_decisions_and_due_times,
    a_caller_is_known_by_the_number_they_call_from,
    peers_that_are_down_are_named_and_never_stop_an_answer,
);

async fn real_purchases_become_decisions_and_due_times(backend: Backend) {
    let world = World::start(backend, cdnow::clock()).await;
    let client = &world.client;
    let loaded = cdnow::load(client).await;
    assert_eq!((loaded.counts.recorded, loaded.rejected), (cdnow::PURCHASES, 0));
    assert_eq!((loaded.customers, loaded.created), (cdnow::CUSTOMERS as u64, cdnow::CUSTOMERS as u64));
    let ranking = cdnow::fit_and_rank(client).await;
    assert_eq!(ranking.customers, cdnow::CUSTOMERS as i64);
    assert_eq!(cdnow::pyramid_totals(client).await, (cdnow::REVENUE, cdnow::CUSTOMERS as i64));

    // The record carries what scoring says.
    eventually("profiles follows the ranking", || async { of_tier(client, Tier::Important).await.len() == 24 }).await;
    eventually("profiles follows the ranking", || async { of_tier(client, Tier::Small).await.len() >= 1_000 }).await;
    let important = of_tier(client, Tier::Important).await.swap_remove(0);
    let small = of_tier(client, Tier::Small).await.swap_remove(0);
    for customer in [&important, &small] {
        let score = score(client, &customer.customer_id).await;
        assert_eq!(customer.standing, score.standing);
        let code = score.standing.unwrap().code();
        assert_ne!(code, scoring::CustomerCode::Unspecified);
    }
    let (important, small) = (important.customer_id, small.customer_id);

    // The same call is handled differently, and says why.
    let [first, second] =
        [decided(client, &important, Tier::Important).await, decided(client, &small, Tier::Small).await];
    assert_ne!(first.queue_id, second.queue_id);
    assert!(first.priority < second.priority);
    assert!(seconds(first.target_answer_time) < seconds(second.target_answer_time));
    assert!(seconds(first.target_handling_time) < seconds(second.target_handling_time));
    assert_ne!(first.prompt, second.prompt);
    assert_ne!(first.reasons, second.reasons);
    for decision in [&first, &second] {
        let mut decides: Vec<_> = decision.reasons.iter().map(|reason| reason.decides.as_str()).collect();
        decides.dedup();
        assert_eq!(decides, ["channel", "queue", "priority", "target", "prompt"]);
        assert!(decision.reasons.iter().all(|reason| !reason.rule.is_empty() && !reason.text.is_empty()));
        assert!(!decision.selling_paused && !decision.prompt.is_empty());
    }

    // The same complaint is due sooner for the important one.
    let [mut theirs, other] =
        [filed(client, &important, Tier::Important).await, filed(client, &small, Tier::Small).await];
    assert!(theirs.due_time.unwrap().seconds < other.due_time.unwrap().seconds);
    assert!(seconds(theirs.allowed) < seconds(other.allowed));

    // While it is open nobody sells to them.
    eventually("routing hears of the complaint", || async { decide(client, &important).await.selling_paused }).await;
    let decision = decide(client, &important).await;
    let kinds: Vec<_> = decision.prompt.iter().map(|line| line.kind()).collect();
    assert!(
        kinds.contains(&routing::PromptKind::HoldSelling) && !kinds.contains(&routing::PromptKind::Sell),
        "{kinds:?}"
    );
    eventually("profiles hears of the complaint", || async { full(client, &important).await.0.open_complaints == 1 })
        .await;
    let (_, view) = full(client, &important).await;
    assert_eq!(view.complaints.iter().map(|one| &one.complaint_id).collect::<Vec<_>>(), [&theirs.complaint_id]);
    assert!(view.missing_parts.is_empty() && view.score.is_some());

    // Settled, they are sold to again; the other is not.
    let acknowledge = complaints::AcknowledgeComplaintRequest {
        request_id: "acknowledge".into(),
        complaint_id: theirs.complaint_id.clone(),
        etag: theirs.etag.clone(),
        owner_id: "agent-7".into(),
        ..Default::default()
    };
    let reply = client.complaints().acknowledge_complaint(request(acknowledge)).await.unwrap();
    theirs = reply.into_inner().complaint.unwrap();
    let resolve = complaints::ResolveComplaintRequest {
        request_id: "resolve".into(),
        complaint_id: theirs.complaint_id.clone(),
        etag: theirs.etag.clone(),
        answer: "A new parcel is on its way.".into(),
        ..Default::default()
    };
    client.complaints().resolve_complaint(request(resolve)).await.unwrap();
    eventually("routing hears that it is settled", || async { !decide(client, &important).await.selling_paused }).await;
    eventually("profiles hears that it is settled", || async { full(client, &important).await.0.open_complaints == 0 })
        .await;
    assert!(full(client, &important).await.1.complaints.is_empty());
    eventually("routing hears of the other", || async { decide(client, &small).await.selling_paused }).await;

    // A purchase counts at once in the score, and a moment later in the next contact.
    let before = score(client, &small).await;
    buy(client, &small, "a-large-order", 5_000_000).await;
    let after = score(client, &small).await;
    assert_eq!(
        minor(after.realised_value) - minor(before.realised_value),
        5_000_000,
        "the answer to a score asked for after the purchase was acknowledged counts it"
    );
    assert_eq!(after.standing.as_ref().unwrap().tier(), Tier::Important);
    let decision = decided(client, &small, Tier::Important).await;
    assert_eq!(decision.queue_id, first.queue_id);
    eventually("the record follows", || async {
        full(client, &small).await.0.standing.is_some_and(|standing| standing.tier() == Tier::Important)
    })
    .await;
    // The clock of an open complaint follows the tier, too.
    let hurried = filed(client, &small, Tier::Important).await;
    assert_eq!(hurried.complaint_id, other.complaint_id);
    assert!(hurried.due_time.unwrap().seconds < other.due_time.unwrap().seconds);
}

async fn a_caller_is_known_by_the_number_they_call_from(backend: Backend) {
    let world = World::start(backend, cdnow::clock()).await;
    let client = &world.client;
    let call = |phone: &str| {
        let point = routing::contact_point::Point::Phone(phone.to_owned());
        let who = routing::decide_request::Who::ContactPoint(routing::ContactPoint { point: Some(point) });
        routing::DecideRequest { who: Some(who), arrival_channel_id: "phone".into(), purpose: 1 }
    };
    let unknown = client.routing().decide(request(call("+441632960000"))).await.unwrap().into_inner();
    assert!(unknown.prospect && unknown.customer_id.is_empty() && unknown.standing.is_none());
    assert!(!unknown.queue_id.is_empty() && !unknown.prompt.is_empty());

    let customer = profiles::Customer {
        kind: Some(profiles::customer::Kind::Person(profiles::Person::default())),
        phones: vec!["+441632960000".into()],
        ..Default::default()
    };
    let create = profiles::CreateCustomerRequest { request_id: "create".into(), customer: Some(customer) };
    let reply = client.profiles().create_customer(request(create)).await.unwrap().into_inner();
    let id = reply.customer.unwrap().customer_id;
    eventually("routing knows the number", || async {
        let known = client.routing().decide(request(call("+441632960000"))).await.unwrap().into_inner();
        !known.prospect && known.customer_id == id
    })
    .await;
    let other = client.routing().decide(request(call("+441632960001"))).await.unwrap().into_inner();
    assert!(other.prospect);
}

async fn peers_that_are_down_are_named_and_never_stop_an_answer(backend: Backend) {
    let world = World::start(backend, cdnow::clock()).await;
    let id = ensure(&world.client, &["1"]).await.swap_remove(0);
    buy(&world.client, &id, "1", 10_000).await;
    let complaint = file(&world.client, &id).await;
    eventually("routing hears of the complaint", || async { decide(&world.client, &id).await.selling_paused }).await;
    eventually("routing hears of the purchase", || async {
        decide(&world.client, &id).await.standing.is_some_and(|s| s.relationship() == scoring::Relationship::FirstTime)
    })
    .await;
    let known = decide(&world.client, &id).await;

    // Complaints is down: its part is missing, and the pause stands.
    let world = world.restart(&["profiles", "scoring", "routing"]).await;
    let (_, view) = full(&world.client, &id).await;
    assert_eq!(view.missing_parts, [i32::from(profiles::CustomerPart::Complaints)]);
    assert!(view.score.is_some() && view.complaints.is_empty());
    let now = decide(&world.client, &id).await;
    assert_eq!((&now.queue_id, &now.prompt, now.selling_paused), (&known.queue_id, &known.prompt, true));

    // Scoring is down: the score is missing, and decisions go on from what was last heard.
    let world = world.restart(&["profiles", "routing", "complaints"]).await;
    let (customer, view) = full(&world.client, &id).await;
    assert_eq!(view.missing_parts, [i32::from(profiles::CustomerPart::Score)]);
    assert_eq!(view.complaints.iter().map(|one| &one.complaint_id).collect::<Vec<_>>(), [&complaint.complaint_id]);
    assert_eq!(customer.standing, known.standing);
    let now = decide(&world.client, &id).await;
    assert_eq!((&now.queue_id, &now.prompt, &now.standing), (&known.queue_id, &known.prompt, &known.standing));
    // So do complaints.
    let other = ensure(&world.client, &["2"]).await.swap_remove(0);
    file(&world.client, &other).await;

    // Everything but routing is down.
    let world = world.restart(&["routing"]).await;
    let now = decide(&world.client, &id).await;
    assert_eq!((&now.queue_id, &now.prompt, &now.standing), (&known.queue_id, &known.prompt, &known.standing));

    // All are back, and go on.
    let world = world.restart(&clientele::client::SERVICES).await;
    buy(&world.client, &id, "2", 10_000).await;
    assert_eq!(score(&world.client, &id).await.summary.unwrap().sales.unwrap().minor_units, 20_000);
    assert!(full(&world.client, &id).await.1.missing_parts.is_empty());
}

fn seconds(duration: Option<prost_types::Duration>) -> i64 {
    duration.unwrap().seconds
}

fn minor(money: Option<Money>) -> i64 {
    money.unwrap_or_default().minor_units
}

async fn of_tier(client: &Client, tier: Tier) -> Vec<profiles::Customer> {
    let filter = profiles::CustomerFilter { tiers: vec![tier.into()], ..Default::default() };
    let list = profiles::ListCustomersRequest { filter: Some(filter), page_size: 1_000, ..Default::default() };
    client.profiles().list_customers(request(list)).await.unwrap().into_inner().customers
}

/// The customer's complaint once its clock goes by this tier.
async fn filed(client: &Client, id: &str, tier: Tier) -> complaints::Complaint {
    let get = complaints::GetComplaintRequest { complaint_id: file(client, id).await.complaint_id };
    let read = || async {
        let reply = client.complaints().get_complaint(request(get.clone())).await.unwrap();
        reply.into_inner().complaint.unwrap()
    };
    eventually("complaints knows the tier", || async { read().await.tier() == tier }).await;
    read().await
}
