//! What is kept of scoring and complaints.
use chassis::testing::{Backend, eventually};
use futures::StreamExt;
use proto::{
    complaints::v1::ComplaintState::{Closed, Filed, Open, Reopened, Resolved, Waiting},
    profiles::v1::{self as pb, watch_customers_response::Event},
    scoring::v1::Tier,
};

use crate::{
    peers::{FakeComplaints, FakeScoring},
    support::{World, person},
};

chassis::db_tests!(
    a_standing_shows_on_the_record_and_leaves_the_etag,
    older_news_and_news_of_nobody_is_dropped,
    open_complaints_are_counted_whatever_order_news_comes_in,
    news_that_came_while_the_service_was_down_is_caught_up_with,
    news_in_a_flood_reaches_every_record_and_is_not_told_again,
    a_snapshot_replaces_newer_revisions_and_complaints_that_it_does_not_name_are_dropped,
);

async fn until(world: &World, id: &str, what: &str, holds: impl Fn(&pb::Customer) -> bool) -> pb::Customer {
    let request = pb::GetCustomerRequest { customer_id: id.to_owned(), view: 0 };
    let last = std::sync::Mutex::new(pb::Customer::default());
    let (last, holds) = (&last, &holds);
    eventually(what, || {
        let (mut client, request) = (world.client.clone(), request.clone());
        async move {
            let customer = client.get_customer(request).await.unwrap().into_inner().customer.unwrap();
            let found = holds(&customer);
            *last.lock().unwrap() = customer;
            found
        }
    })
    .await;
    last.lock().unwrap().clone()
}

fn tier(customer: &pb::Customer) -> Option<Tier> {
    customer.standing.as_ref().map(|standing| standing.tier())
}

async fn a_standing_shows_on_the_record_and_leaves_the_etag(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(person("A", "A")).await;
    let request = pb::WatchCustomersRequest { cursor: String::new(), only_new: true };
    let mut changes = world.client.watch_customers(request).await.unwrap().into_inner();
    world.scoring.say(&created.customer_id, 3, Tier::Major);
    let shown =
        until(&world, &created.customer_id, "the standing shows", |customer| tier(customer) == Some(Tier::Major)).await;
    assert_eq!((shown.revision, &shown.etag), (1, &created.etag));
    let standing = shown.standing.unwrap();
    assert_eq!((standing.revision, standing.since.unwrap().nanos), (3, 5_000));
    // Somebody who read the record before it can still write.
    let request = pb::UpdateCustomerRequest {
        request_id: "r".into(),
        customer: Some(pb::Customer { targeted: true, ..created }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["targeted".into()] }),
    };
    let updated = world.client.update_customer(request).await.unwrap().into_inner().customer.unwrap();
    assert_eq!((updated.revision, tier(&updated)), (2, Some(Tier::Major)));
    // The update is told, with the standing on it; the standing by itself was scoring's to tell.
    let message = changes.next().await.unwrap().unwrap();
    let Some(Event::Customer(published)) = message.event else { panic!("{message:?}") };
    assert_eq!(published, updated);
}

async fn older_news_and_news_of_nobody_is_dropped(backend: Backend) {
    let mut world = World::new(backend).await;
    let (a, b) = (world.create(person("A", "A")).await, world.create(person("B", "B")).await);
    world.scoring.say(&uuid::Uuid::from_u128(1).to_string(), 1, Tier::Small);
    world.scoring.say("no id", 1, Tier::Small);
    world.scoring.say(&a.customer_id, 5, Tier::Important);
    until(&world, &a.customer_id, "the standing shows", |customer| tier(customer) == Some(Tier::Important)).await;
    world.scoring.say(&a.customer_id, 4, Tier::Small);
    world.scoring.say(&a.customer_id, 5, Tier::Ordinary);
    world.complaints.say(1, &uuid::Uuid::from_u128(1).to_string(), 1, Filed);
    world.complaints.say(2, &b.customer_id, 1, Filed);
    world.scoring.say(&b.customer_id, 1, Tier::Small);
    until(&world, &b.customer_id, "what came after shows", |customer| {
        tier(customer) == Some(Tier::Small) && customer.open_complaints == 1
    })
    .await;
    let a = world.get(&a.customer_id).await;
    assert_eq!(tier(&a), Some(Tier::Important));
}

async fn open_complaints_are_counted_whatever_order_news_comes_in(backend: Backend) {
    let mut world = World::new(backend).await;
    let id = world.create(person("A", "A")).await.customer_id;
    let say = |complaint, revision, state| world.complaints.say(complaint, &id, revision, state);
    for (complaint, state) in [(1, Filed), (2, Open), (3, Waiting), (4, Reopened), (5, Resolved), (6, Closed)] {
        say(complaint, 2, state);
    }
    until(&world, &id, "four are open", |customer| customer.open_complaints == 4).await;
    // One is resolved, and older news of it and of a closed one comes after.
    say(1, 4, Resolved);
    say(1, 3, Open);
    say(6, 1, Open);
    until(&world, &id, "three are open", |customer| customer.open_complaints == 3).await;
    say(1, 3, Open);
    say(2, 9, Closed);
    until(&world, &id, "two are open", |customer| customer.open_complaints == 2).await;
    say(5, 3, Reopened);
    let customer = until(&world, &id, "three are open again", |customer| customer.open_complaints == 3).await;
    assert_eq!(customer.etag, world.get(&id).await.etag);
}

async fn news_that_came_while_the_service_was_down_is_caught_up_with(backend: Backend) {
    let mut world = World::new(backend).await;
    let (a, b) = (world.create(person("A", "A")).await.customer_id, world.create(person("B", "B")).await.customer_id);
    world.scoring.say(&a, 1, Tier::Small);
    world.complaints.say(1, &a, 1, Filed);
    until(&world, &a, "the first news shows", |customer| tier(customer).is_some() && customer.open_complaints == 1)
        .await;
    let world = world
        .restart(|scoring, complaints| {
            scoring.say(&a, 2, Tier::Major);
            scoring.say(&b, 1, Tier::Ordinary);
            complaints.say(1, &a, 2, Closed);
        })
        .await;
    until(&world, &a, "the rest shows", |customer| {
        tier(customer) == Some(Tier::Major) && customer.open_complaints == 0
    })
    .await;
    until(&world, &b, "of the other too", |customer| tier(customer) == Some(Tier::Ordinary)).await;
}

async fn news_in_a_flood_reaches_every_record_and_is_not_told_again(backend: Backend) {
    let mut world = World::new(backend).await;
    let names: Vec<String> = (0..300).map(|id| format!("f-{id}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids: Vec<_> = world.ensure(&names).await.into_iter().map(|customer| customer.customer_id).collect();
    let request = pb::WatchCustomersRequest { cursor: String::new(), only_new: true };
    let mut changes = world.client.watch_customers(request).await.unwrap().into_inner();
    // Two replicas: one of them follows at a time.
    let _other = world.replica().await;
    for revision in 1..=4 {
        for id in &ids {
            world.scoring.say(id, revision, if revision == 4 { Tier::Important } else { Tier::Small });
        }
    }
    let last = ids.last().unwrap();
    until(&world, last, "the last news shows", |customer| tier(customer) == Some(Tier::Important)).await;
    for id in &ids {
        let customer = world.get(id).await;
        let standing = customer.standing.unwrap();
        assert_eq!((customer.revision, standing.revision, standing.tier()), (1, 4, Tier::Important));
    }
    // Whoever follows the records hears of what comes after, and of nothing before it.
    let created = world.create(person("A", "A")).await;
    loop {
        match changes.next().await.unwrap().unwrap().event {
            Some(Event::Mark(_)) => {}
            event => {
                assert_eq!(event, Some(Event::Customer(created)));
                break;
            }
        }
    }
}

async fn a_snapshot_replaces_newer_revisions_and_complaints_that_it_does_not_name_are_dropped(backend: Backend) {
    let mut world = World::new(backend).await;
    let (a, b) = (world.create(person("A", "A")).await.customer_id, world.create(person("B", "B")).await.customer_id);
    world.scoring.say(&a, 7, Tier::Major);
    world.complaints.say(1, &a, 9, Closed);
    world.complaints.say(2, &b, 1, Filed);
    until(&world, &a, "the standing shows", |customer| tier(customer) == Some(Tier::Major)).await;
    until(&world, &b, "the complaint shows", |customer| customer.open_complaints == 1).await;
    // Both peers come back from a copy: the standing was another one, the first complaint was open, the second not yet filed.
    world.scoring.log.restore(vec![FakeScoring::change(&a, 2, Tier::Small)]);
    world.complaints.log.restore(vec![FakeComplaints::change(1, &a, 2, Waiting)]);
    until(&world, &a, "the present state shows", |customer| {
        tier(customer) == Some(Tier::Small) && customer.open_complaints == 1
    })
    .await;
    until(&world, &b, "the complaint that is lost is dropped", |customer| customer.open_complaints == 0).await;
    // They count on from there.
    world.scoring.say(&a, 3, Tier::Ordinary);
    world.complaints.say(1, &a, 3, Resolved);
    until(&world, &a, "what comes after shows", |customer| {
        tier(customer) == Some(Tier::Ordinary) && customer.open_complaints == 0
    })
    .await;
}
