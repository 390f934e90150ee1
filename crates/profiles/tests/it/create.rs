//! CreateCustomer.
use std::collections::HashSet;

use chassis::{
    clock::to_proto,
    testing::{Backend, fault, noon},
};
use futures::future::join_all;
use proto::{common::v1::Money, profiles::v1 as pb};
use tonic::Code;

use crate::support::{World, company, full_person, identity, person};

chassis::db_tests!(
    a_customer_is_created_as_given,
    what_is_output_only_is_not_taken_from_the_caller,
    a_replay_gives_the_first_reply,
    a_request_id_with_another_body_is_refused,
    concurrent_callers_with_one_request_id_create_one_customer,
    concurrent_callers_with_one_identity_create_one_customer,
    an_identity_of_another_customer_is_refused,
    malformed_fields_are_all_named_at_once,
);

fn request(request_id: &str, customer: pb::Customer) -> pb::CreateCustomerRequest {
    pb::CreateCustomerRequest { request_id: request_id.into(), customer: Some(customer) }
}

async fn a_customer_is_created_as_given(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(full_person()).await;
    let expected = pb::Customer {
        customer_id: created.customer_id.clone(),
        etag: created.etag.clone(),
        revision: 1,
        // The domain in lower case, the mailbox as it was.
        mails: vec!["Ann.Lee@example.org".into()],
        create_time: Some(to_proto(noon())),
        update_time: Some(to_proto(noon())),
        ..full_person()
    };
    assert_eq!(created, expected);
    assert_eq!(world.get(&created.customer_id).await, expected);
    let created = world.create(company("Lee & Sons")).await;
    assert_eq!(created.kind, company("Lee & Sons").kind);
}

async fn what_is_output_only_is_not_taken_from_the_caller(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world
        .create(pb::Customer {
            customer_id: "mine".into(),
            etag: "mine".into(),
            revision: i64::MAX,
            standing: Some(proto::scoring::v1::Standing { revision: 9, tier: 1, ..Default::default() }),
            open_complaints: 5,
            create_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }),
            ..person("Ann", "Lee")
        })
        .await;
    assert_eq!((created.revision, created.standing, created.open_complaints), (1, None, 0));
    assert_eq!(created.create_time, Some(to_proto(noon())));
}

async fn a_replay_gives_the_first_reply(backend: Backend) {
    let mut world = World::new(backend).await;
    let first = world.client.create_customer(request("r", full_person())).await.unwrap().into_inner();
    world.clock.advance(jiff::SignedDuration::from_hours(1));
    let again = world.client.create_customer(request("r", full_person())).await.unwrap().into_inner();
    assert_eq!(first, again);
}

async fn a_request_id_with_another_body_is_refused(backend: Backend) {
    let mut world = World::new(backend).await;
    world.client.create_customer(request("r", person("A", "A"))).await.unwrap();
    let status = world.client.create_customer(request("r", person("B", "B"))).await.unwrap_err();
    assert_eq!(fault(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".into(), vec!["request_id".into()]));
}

async fn concurrent_callers_with_one_request_id_create_one_customer(backend: Backend) {
    let world = World::new(backend).await;
    let calls = (0..20).map(|_| {
        let mut client = world.client.clone();
        tokio::spawn(async move { client.create_customer(request("r", person("A", "A"))).await.unwrap().into_inner() })
    });
    let ids: HashSet<String> =
        join_all(calls).await.into_iter().map(|call| call.unwrap().customer.unwrap().customer_id).collect();
    assert_eq!(ids.len(), 1);
}

async fn concurrent_callers_with_one_identity_create_one_customer(backend: Backend) {
    let world = World::new(backend).await;
    let calls = (0..20).map(|call| {
        let mut client = world.client.clone();
        tokio::spawn(async move { client.create_customer(request(&format!("r-{call}"), full_person())).await })
    });
    let (won, lost): (Vec<_>, Vec<_>) =
        join_all(calls).await.into_iter().map(|call| call.unwrap()).partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 19));
    assert!(lost.into_iter().all(|call| fault(&call.unwrap_err()).1 == "ALREADY_EXISTS"));
}

async fn an_identity_of_another_customer_is_refused(backend: Backend) {
    let mut world = World::new(backend).await;
    world.create(full_person()).await;
    let mut other = person("B", "B");
    other.identities = vec![identity("new"), identity("p-1")];
    let status = world.client.create_customer(request("r", other)).await.unwrap_err();
    assert_eq!(fault(&status).1, "ALREADY_EXISTS");
    assert!(world.ensure(&["new"]).await[0].created, "nothing of it was kept");
}

async fn malformed_fields_are_all_named_at_once(backend: Backend) {
    let mut world = World::new(backend).await;
    let bad = pb::Customer {
        kind: Some(pb::customer::Kind::Person(pb::Person {
            given_name: "x".repeat(101),
            family_name: "a\nb".into(),
            birth_date: "2023-02-29".into(),
            employer: "\u{0}".into(),
            ..Default::default()
        })),
        identities: vec![identity("same"), identity("same"), identity("")],
        phones: vec!["0044 123".into(), "+0123456789".into(), "+12345678901234567".into()],
        mails: vec![
            "a@b".into(),
            "@b.org".into(),
            "a b@c.org".into(),
            "a@-b.org".into(),
            format!("a@{}.org", "b".repeat(300)),
        ],
        addresses: vec![pb::Address { lines: vec![String::new()], region_code: "gb".into(), ..Default::default() }],
        acquisition_source: 99,
        acquisition_cost: Some(Money { currency_code: "usd".into(), minor_units: -1 }),
        ..Default::default()
    };
    let status = world.client.create_customer(request("", bad)).await.unwrap_err();
    let (code, reason, fields) = fault(&status);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(
        fields,
        [
            "request_id",
            "customer.person.given_name",
            "customer.person.family_name",
            "customer.person.birth_date",
            "customer.person.employer",
            "customer.acquisition_source",
            "customer.identities[1]",
            "customer.identities[2].id",
            "customer.phones[0]",
            "customer.phones[1]",
            "customer.phones[2]",
            "customer.mails[0]",
            "customer.mails[1]",
            "customer.mails[2]",
            "customer.mails[3]",
            "customer.mails[4]",
            "customer.addresses[0].region_code",
            "customer.addresses[0].lines[0]",
            "customer.acquisition_cost.currency_code",
            "customer.acquisition_cost.minor_units",
        ]
    );
    for personal in ["0044", "b.org", "same", "2023-02"] {
        assert!(!status.message().contains(personal), "{}", status.message());
    }
    let status = world.client.create_customer(pb::CreateCustomerRequest::default()).await.unwrap_err();
    assert_eq!(fault(&status).2, ["request_id", "customer.kind"]);
    // A day that has begun nowhere yet.
    let mut unborn = person("A", "A");
    if let Some(pb::customer::Kind::Person(person)) = &mut unborn.kind {
        person.birth_date = "2026-01-16".into();
    }
    let status = world.client.create_customer(request("r", unborn)).await.unwrap_err();
    assert_eq!(fault(&status).2, ["customer.person.birth_date"]);
}
