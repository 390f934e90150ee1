//! EnsureCustomers.
use std::collections::{HashMap, HashSet};

use chassis::testing::{Backend, fault};
use futures::future::join_all;
use proto::profiles::v1 as pb;
use tonic::Code;

use crate::support::{World, full_person, identity, item, person};

chassis::db_tests!(
    an_identity_is_created_once_and_found_ever_after,
    the_same_identity_twice_in_a_batch_gives_the_same_customer,
    fifty_concurrent_callers_with_overlapping_identities_get_one_customer_each,
    the_details_of_an_item_are_used_where_it_is_created_only,
    a_further_identity_of_another_customer_refuses_the_whole_batch,
    faults_of_a_batch_are_named_by_their_full_path,
    a_thousand_are_created_in_one_call,
);

async fn an_identity_is_created_once_and_found_ever_after(backend: Backend) {
    let mut world = World::new(backend).await;
    let first = world.ensure(&["a", "b"]).await;
    assert!(first.iter().all(|customer| customer.created));
    let again = world.ensure(&["b", "c", "a"]).await;
    assert_eq!(again.iter().map(|customer| customer.created).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((&again[0].customer_id, &again[2].customer_id), (&first[1].customer_id, &first[0].customer_id));
    assert_eq!(world.ensure(&["a"]).await[0], pb::EnsuredCustomer { created: false, ..first[0].clone() });
    let record = world.get(&first[0].customer_id).await;
    assert_eq!((record.revision, record.identities), (1, vec![identity("a")]));
    assert_eq!(record.kind, Some(pb::customer::Kind::Person(pb::Person::default())));
}

async fn the_same_identity_twice_in_a_batch_gives_the_same_customer(backend: Backend) {
    let mut world = World::new(backend).await;
    let customers = world.ensure(&["a", "b", "a"]).await;
    assert_eq!(customers[0], customers[2]);
    assert_ne!(customers[0].customer_id, customers[1].customer_id);
}

async fn fifty_concurrent_callers_with_overlapping_identities_get_one_customer_each(backend: Backend) {
    let world = World::new(backend).await;
    let other = world.replica().await;
    let calls = (0..50_usize).map(|caller| {
        let channel = if caller % 2 == 0 { world.server.channel() } else { other.channel() };
        let mut client = crate::support::Client::new(channel);
        tokio::spawn(async move {
            // Each caller has ten of the identities, and every second one sends them backwards.
            let mut ids: Vec<String> = (caller..caller + 10).map(|id| format!("c-{id}")).collect();
            if caller % 2 == 0 {
                ids.reverse();
            }
            let items = ids.iter().map(|id| item(id)).collect();
            let reply = client.ensure_customers(pb::EnsureCustomersRequest { items }).await.unwrap().into_inner();
            ids.into_iter().zip(reply.customers).collect::<Vec<_>>()
        })
    });
    let mut customers: HashMap<String, HashSet<String>> = HashMap::new();
    let mut created: HashMap<String, usize> = HashMap::new();
    for call in join_all(calls).await {
        for (id, customer) in call.unwrap() {
            *created.entry(id.clone()).or_default() += usize::from(customer.created);
            customers.entry(id).or_default().insert(customer.customer_id);
        }
    }
    assert_eq!(customers.len(), 59);
    assert!(customers.values().all(|ids| ids.len() == 1), "{customers:?}");
    assert!(created.values().all(|count| *count == 1), "{created:?}");
}

async fn the_details_of_an_item_are_used_where_it_is_created_only(backend: Backend) {
    let mut world = World::new(backend).await;
    let request = |customer| pb::EnsureCustomersRequest {
        items: vec![pb::EnsureCustomer { identity: Some(identity("x")), customer: Some(customer) }],
    };
    let reply = world.client.ensure_customers(request(full_person())).await.unwrap().into_inner();
    let id = &reply.customers[0].customer_id;
    let record = world.get(id).await;
    assert_eq!(record.identities.len(), 3);
    let reply = world.client.ensure_customers(request(person("Other", "Name"))).await.unwrap().into_inner();
    assert_eq!(&reply.customers[0].customer_id, id);
    assert_eq!(world.get(id).await, record);
    // Each of the identities leads to the record.
    assert_eq!(&world.ensure(&["p-1"]).await[0].customer_id, id);
}

async fn a_further_identity_of_another_customer_refuses_the_whole_batch(backend: Backend) {
    let mut world = World::new(backend).await;
    let owner = world.ensure(&["p-1"]).await.remove(0);
    let items = vec![item("new"), pb::EnsureCustomer { identity: Some(identity("y")), customer: Some(full_person()) }];
    let status = world.client.ensure_customers(pb::EnsureCustomersRequest { items }).await.unwrap_err();
    assert_eq!(fault(&status).1, "ALREADY_EXISTS");
    assert_eq!(status.code(), Code::AlreadyExists);
    use tonic_types::StatusExt;
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, owner.customer_id);
    assert!(!status.message().contains("p-1"));
    assert!(world.ensure(&["new"]).await[0].created, "the batch is all or nothing");
}

async fn faults_of_a_batch_are_named_by_their_full_path(backend: Backend) {
    let mut world = World::new(backend).await;
    let mut bad = full_person();
    bad.mails.push("no mail".into());
    bad.identities.extend((0..49).map(|id| identity(&format!("many-{id}"))));
    let items = vec![
        pb::EnsureCustomer::default(),
        pb::EnsureCustomer {
            identity: Some(pb::ExternalIdentity { system: "a b".into(), id: "\0".into() }),
            customer: None,
        },
        pb::EnsureCustomer { identity: Some(identity("ok")), customer: Some(bad) },
        pb::EnsureCustomer { identity: Some(identity("ok")), customer: Some(pb::Customer::default()) },
    ];
    let status = world.client.ensure_customers(pb::EnsureCustomersRequest { items }).await.unwrap_err();
    let (code, reason, fields) = fault(&status);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(
        fields,
        [
            "items[0].identity",
            "items[1].identity.system",
            "items[1].identity.id",
            "items[2].customer.identities",
            "items[2].customer.mails[1]",
            "items[2].customer.identities",
            "items[3].customer.kind",
        ]
    );
    for count in [0, 1_001] {
        let items = (0..count).map(|id| item(&id.to_string())).collect();
        let status = world.client.ensure_customers(pb::EnsureCustomersRequest { items }).await.unwrap_err();
        assert_eq!(fault(&status).2, ["items"]);
    }
}

async fn a_thousand_are_created_in_one_call(backend: Backend) {
    let mut world = World::new(backend).await;
    let ids: Vec<String> = (0..1_000).map(|id| format!("t-{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let first = world.ensure(&ids).await;
    assert_eq!(first.iter().map(|customer| &customer.customer_id).collect::<HashSet<_>>().len(), 1_000);
    let customer_ids: Vec<String> = first.into_iter().map(|customer| customer.customer_id).collect();
    let request = pb::BatchGetCustomersRequest { customer_ids: customer_ids.clone() };
    let found = world.client.batch_get_customers(request).await.unwrap().into_inner();
    assert_eq!(found.customers.into_iter().map(|customer| customer.customer_id).collect::<Vec<_>>(), customer_ids);
}
