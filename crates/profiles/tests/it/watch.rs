//! WatchCustomers.
use std::collections::{HashMap, HashSet};

use chassis::testing::{Backend, fault};
use futures::{StreamExt, future::join_all};
use proto::{
    common::v1::FeedMark,
    profiles::v1::{self as pb, watch_customers_response::Event},
};
use tonic::{Code, Streaming};

use crate::support::{Client, World, person};

chassis::db_tests!(
    a_snapshot_comes_first_and_then_what_changes,
    a_watcher_resumes_after_its_cursor,
    only_new_skips_the_snapshot,
    the_changes_of_each_customer_come_in_order_and_none_is_missing,
    a_cursor_of_another_feed_is_refused,
);

async fn watch(client: &mut Client, cursor: &str, only_new: bool) -> Streaming<pb::WatchCustomersResponse> {
    let request = pb::WatchCustomersRequest { cursor: cursor.to_owned(), only_new };
    client.watch_customers(request).await.unwrap().into_inner()
}

/// The next record and its cursor, signs of life aside.
async fn next(stream: &mut Streaming<pb::WatchCustomersResponse>) -> (pb::Customer, String) {
    loop {
        let message = stream.next().await.unwrap().unwrap();
        if let Event::Customer(customer) = message.event.unwrap() {
            return (customer, message.position.unwrap().cursor);
        }
    }
}

async fn a_snapshot_comes_first_and_then_what_changes(backend: Backend) {
    let mut world = World::new(backend).await;
    let ids = world.ensure(&["a", "b", "c"]).await;
    let mut stream = watch(&mut world.client, "", false).await;
    let mut seen = HashSet::new();
    loop {
        match stream.next().await.unwrap().unwrap().event.unwrap() {
            Event::Customer(customer) => assert!(seen.insert(customer.customer_id)),
            Event::Mark(mark) => {
                assert_eq!(mark, i32::from(FeedMark::SnapshotComplete));
                break;
            }
        }
    }
    assert_eq!(seen, ids.into_iter().map(|customer| customer.customer_id).collect());
    let created = world.create(person("Ann", "Lee")).await;
    assert_eq!(next(&mut stream).await.0, created);
}

async fn a_watcher_resumes_after_its_cursor(backend: Backend) {
    let mut world = World::new(backend).await;
    let mut stream = watch(&mut world.client, "", true).await;
    let first = world.create(person("A", "A")).await;
    let (seen, cursor) = next(&mut stream).await;
    assert_eq!(seen, first);
    drop(stream);
    let second = world.create(person("B", "B")).await;
    let third = world.create(person("C", "C")).await;
    let mut stream = watch(&mut world.client, &cursor, false).await;
    assert_eq!(next(&mut stream).await.0, second);
    assert_eq!(next(&mut stream).await.0, third);
}

async fn only_new_skips_the_snapshot(backend: Backend) {
    let mut world = World::new(backend).await;
    world.create(person("A", "A")).await;
    let mut stream = watch(&mut world.client, "", true).await;
    let second = world.create(person("B", "B")).await;
    assert_eq!(next(&mut stream).await.0, second);
}

async fn the_changes_of_each_customer_come_in_order_and_none_is_missing(backend: Backend) {
    const WRITERS: usize = 8;
    const UPDATES: i64 = 10;
    let mut world = World::new(backend).await;
    let mut stream = watch(&mut world.client, "", false).await;
    let mut ids = Vec::new();
    for writer in 0..WRITERS {
        ids.push(world.create(person("", &writer.to_string())).await);
    }
    let writers = ids.iter().cloned().map(|mut customer| {
        let mut client = world.client.clone();
        tokio::spawn(async move {
            for turn in 0..UPDATES {
                customer.targeted = !customer.targeted;
                let request = pb::UpdateCustomerRequest {
                    request_id: format!("{}-{turn}", customer.customer_id),
                    customer: Some(customer),
                    update_mask: Some(prost_types::FieldMask { paths: vec!["targeted".into()] }),
                };
                customer = client.update_customer(request).await.unwrap().into_inner().customer.unwrap();
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    let mut revisions: HashMap<String, Vec<i64>> = HashMap::new();
    for _ in 0..WRITERS as i64 * (UPDATES + 1) {
        let (customer, _) = next(&mut stream).await;
        revisions.entry(customer.customer_id).or_default().push(customer.revision);
    }
    for customer in ids {
        assert_eq!(revisions[&customer.customer_id], (1..=UPDATES + 1).collect::<Vec<_>>());
    }
}

async fn a_cursor_of_another_feed_is_refused(backend: Backend) {
    let mut world = World::new(backend).await;
    let request = pb::WatchCustomersRequest { cursor: "nonsense".into(), only_new: false };
    let status = world.client.watch_customers(request).await.unwrap_err();
    let (code, reason, fields) = fault(&status);
    assert_eq!((code, reason.as_str(), fields), (Code::InvalidArgument, "CURSOR_UNKNOWN", vec!["cursor".to_owned()]));
}
