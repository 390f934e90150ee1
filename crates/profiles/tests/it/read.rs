//! GetCustomer, ResolveIdentity, BatchGetCustomers.
use std::time::Duration;

use chassis::{
    Clock,
    testing::{Backend, TempDb, TestServer, fault, noon},
};
use profiles::Config;
use proto::{
    complaints::v1::ComplaintState,
    profiles::v1::{self as pb, CustomerPart, profiles_client::ProfilesClient},
};
use tonic::{Code, Request};

use crate::{
    peers::Mood,
    support::{World, full_person, identity, item},
};

chassis::db_tests!(
    the_basic_view_asks_nobody,
    the_full_view_has_the_score_and_the_open_complaints,
    a_customer_without_a_score_misses_nothing,
    a_peer_that_fails_is_named_and_the_other_answers,
    peers_that_hang_are_named_within_the_callers_deadline,
    peers_that_hang_are_named_within_our_own_limit,
    peers_that_are_down_are_named,
    a_customer_who_is_not_there_is_not_found,
    an_identity_leads_to_its_customer,
    a_batch_comes_in_the_order_asked_for,
);

fn full(customer_id: &str) -> pb::GetCustomerRequest {
    pb::GetCustomerRequest { customer_id: customer_id.into(), view: pb::CustomerView::Full.into() }
}

async fn the_basic_view_asks_nobody(backend: Backend) {
    let mut world = World::new(backend).await;
    *world.scoring.mood.lock().unwrap() = Mood::Hangs;
    let id = world.ensure(&["a"]).await.remove(0).customer_id;
    let reply =
        world.client.get_customer(pb::GetCustomerRequest { customer_id: id, view: 1 }).await.unwrap().into_inner();
    assert_eq!((reply.score, reply.complaints.len(), reply.missing_parts.len()), (None, 0, 0));
    assert!(world.complaints.asked.lock().unwrap().is_empty());
}

async fn the_full_view_has_the_score_and_the_open_complaints(backend: Backend) {
    let mut world = World::new(backend).await;
    let id = world.ensure(&["a"]).await.remove(0).customer_id;
    let reply = world.client.get_customer(full(&id)).await.unwrap().into_inner();
    assert!(reply.missing_parts.is_empty());
    assert_eq!(reply.customer.unwrap().customer_id, id);
    assert_eq!(reply.score.unwrap().standing.unwrap().customer_id, id);
    let expected = pb::ComplaintSummary {
        complaint_id: uuid::Uuid::from_u128(7).to_string(),
        state: "COMPLAINT_STATE_WAITING".into(),
        due_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        cause_id: "delivery".into(),
    };
    assert_eq!(reply.complaints, [expected]);
    let asked = world.complaints.asked.lock().unwrap().remove(0);
    assert_eq!((asked.customer_id, asked.page_size), (id, 20));
    let open =
        [ComplaintState::Filed, ComplaintState::Open, ComplaintState::Waiting, ComplaintState::Reopened].map(i32::from);
    assert_eq!(asked.states, open);
}

async fn a_customer_without_a_score_misses_nothing(backend: Backend) {
    let mut world = World::new(backend).await;
    *world.scoring.mood.lock().unwrap() = Mood::KnowsNothing;
    let id = world.ensure(&["a"]).await.remove(0).customer_id;
    let reply = world.client.get_customer(full(&id)).await.unwrap().into_inner();
    assert_eq!((reply.score, reply.missing_parts), (None, vec![]));
}

async fn a_peer_that_fails_is_named_and_the_other_answers(backend: Backend) {
    let mut world = World::new(backend).await;
    *world.complaints.mood.lock().unwrap() = Mood::Fails;
    let id = world.ensure(&["a"]).await.remove(0).customer_id;
    let reply = world.client.get_customer(full(&id)).await.unwrap().into_inner();
    assert!(reply.score.is_some());
    assert_eq!(reply.missing_parts, [i32::from(CustomerPart::Complaints)]);
}

const BOTH: [i32; 2] = [CustomerPart::Score as i32, CustomerPart::Complaints as i32];

async fn peers_that_hang_are_named_within_the_callers_deadline(backend: Backend) {
    let mut world = World::new(backend).await;
    *world.scoring.mood.lock().unwrap() = Mood::Hangs;
    *world.complaints.mood.lock().unwrap() = Mood::Hangs;
    let id = world.ensure(&["a"]).await.remove(0).customer_id;
    let mut request = Request::new(full(&id));
    request.set_timeout(Duration::from_secs(2));
    let reply = world.client.get_customer(request).await.unwrap().into_inner();
    assert_eq!(reply.missing_parts, BOTH);
    assert!(reply.customer.is_some());
}

async fn peers_that_hang_are_named_within_our_own_limit(backend: Backend) {
    let mut world = World::new(backend).await;
    *world.scoring.mood.lock().unwrap() = Mood::Hangs;
    let id = world.ensure(&["a"]).await.remove(0).customer_id;
    // Far less than the server's own limit on a call.
    let reply = tokio::time::timeout(Duration::from_secs(30), world.client.get_customer(full(&id))).await.unwrap();
    assert_eq!(reply.unwrap().into_inner().missing_parts, [i32::from(CustomerPart::Score)]);
}

async fn peers_that_are_down_are_named(backend: Backend) {
    let db = TempDb::new(backend).await;
    let config = Config { database_url: db.url().into(), ..Config::default() };
    // Bound and dropped: nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("http://{nowhere}");
    let elsewhere = [("scoring", nowhere.clone()), ("complaints", nowhere)];
    let server =
        TestServer::start(Clock::mock(noon()), &elsewhere, |context| vec![profiles::service(config, context.clone())])
            .await;
    let mut client = ProfilesClient::new(server.channel());
    let request = pb::EnsureCustomersRequest { items: vec![item("a")] };
    let id = client.ensure_customers(request).await.unwrap().into_inner().customers.remove(0).customer_id;
    assert_eq!(client.get_customer(full(&id)).await.unwrap().into_inner().missing_parts, BOTH);
    server.stop().await.unwrap();
}

async fn a_customer_who_is_not_there_is_not_found(backend: Backend) {
    let mut world = World::new(backend).await;
    let status = world.client.get_customer(full(&uuid::Uuid::from_u128(1).to_string())).await.unwrap_err();
    assert_eq!((status.code(), fault(&status).1.as_str()), (Code::NotFound, "NOT_FOUND"));
    let status =
        world.client.get_customer(pb::GetCustomerRequest { customer_id: "x".into(), view: 9 }).await.unwrap_err();
    assert_eq!(fault(&status).2, ["customer_id", "view"]);
}

async fn an_identity_leads_to_its_customer(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(full_person()).await;
    for identity in created.identities.clone() {
        let request = pb::ResolveIdentityRequest { identity: Some(identity) };
        let reply = world.client.resolve_identity(request).await.unwrap().into_inner();
        assert_eq!(reply.customer, Some(created.clone()));
    }
    let request = pb::ResolveIdentityRequest { identity: Some(identity("secret-number")) };
    let status = world.client.resolve_identity(request).await.unwrap_err();
    assert_eq!((status.code(), fault(&status).1.as_str()), (Code::NotFound, "NOT_FOUND"));
    assert!(!status.message().contains("secret"));
    let status = world.client.resolve_identity(pb::ResolveIdentityRequest { identity: None }).await.unwrap_err();
    assert_eq!(fault(&status).2, ["identity"]);
}

async fn a_batch_comes_in_the_order_asked_for(backend: Backend) {
    let mut world = World::new(backend).await;
    let ids: Vec<_> = world.ensure(&["a", "b", "c"]).await.into_iter().map(|customer| customer.customer_id).collect();
    let nobody = uuid::Uuid::from_u128(1).to_string();
    let customer_ids = [&ids[2], &nobody, &ids[0], &ids[2], &nobody].map(Clone::clone).to_vec();
    let reply =
        world.client.batch_get_customers(pb::BatchGetCustomersRequest { customer_ids }).await.unwrap().into_inner();
    let found: Vec<_> = reply.customers.iter().map(|customer| &customer.customer_id).collect();
    assert_eq!(found, [&ids[2], &ids[0], &ids[2]]);
    assert_eq!(reply.not_found, [nobody]);
    for customer_ids in [vec![], vec![ids[0].clone(); 1_001]] {
        let status = world.client.batch_get_customers(pb::BatchGetCustomersRequest { customer_ids }).await.unwrap_err();
        assert_eq!(fault(&status).2, ["customer_ids"]);
    }
    let request = pb::BatchGetCustomersRequest { customer_ids: vec![ids[0].clone(), "x".into()] };
    assert_eq!(fault(&world.client.batch_get_customers(request).await.unwrap_err()).2, ["customer_ids[1]"]);
}
