//! UpdateCustomer.
use chassis::testing::{Backend, fault};
use futures::future::join_all;
use proto::profiles::v1 as pb;
use tonic::{Code, Status};

use crate::support::{World, company, full_person, identity, item, person};

chassis::db_tests!(
    only_the_fields_that_are_named_change,
    a_replay_gives_the_first_reply_and_another_body_is_refused,
    of_concurrent_updates_with_one_etag_exactly_one_wins,
    a_customer_who_is_not_there_is_not_found,
    identities_are_replaced_and_those_given_up_are_free,
    an_identity_of_another_customer_is_not_moved,
    concurrent_updates_give_an_identity_to_one_customer,
    the_kind_never_changes,
    the_mask_is_checked_path_by_path,
    a_field_that_is_named_and_absent_is_cleared,
);

fn request(request_id: &str, customer: pb::Customer, paths: &[&str]) -> pb::UpdateCustomerRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateCustomerRequest {
        request_id: request_id.into(),
        customer: Some(customer),
        update_mask: Some(prost_types::FieldMask { paths }),
    }
}

async fn update(world: &mut World, customer: &pb::Customer, paths: &[&str]) -> Result<pb::Customer, Status> {
    let request_id = world.server.context.ids.next().to_string();
    let reply = world.client.update_customer(request(&request_id, customer.clone(), paths)).await?;
    Ok(reply.into_inner().customer.unwrap())
}

fn named(customer: &pb::Customer, given_name: &str, family_name: &str) -> pb::Customer {
    pb::Customer { kind: person(given_name, family_name).kind, ..customer.clone() }
}

async fn only_the_fields_that_are_named_change(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(full_person()).await;
    world.clock.advance(jiff::SignedDuration::from_secs(1));
    let mut new = named(&created, "Bea", "Ignored");
    new.phones = vec!["+4930123456".into()];
    new.mails = vec!["not looked at".into()];
    new.showed_interest = false;
    let updated = update(&mut world, &new, &["person.given_name", "phones", "phones"]).await.unwrap();
    let expected = pb::Customer {
        kind: named(&created, "Bea", "Lee").kind,
        phones: new.phones,
        revision: 2,
        etag: updated.etag.clone(),
        update_time: updated.update_time,
        ..created.clone()
    };
    assert_eq!(updated, expected);
    assert_ne!(updated.etag, created.etag);
    assert_ne!(updated.update_time, created.update_time);
    assert_eq!(world.get(&created.customer_id).await, expected);
    // A path of a message sets it whole.
    let whole = update(&mut world, &named(&updated, "Cy", "Poe"), &["person"]).await.unwrap();
    assert_eq!(whole.kind, person("Cy", "Poe").kind);
}

async fn a_replay_gives_the_first_reply_and_another_body_is_refused(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(person("A", "A")).await;
    let once = request("r", named(&created, "B", "B"), &["person"]);
    let first = world.client.update_customer(once.clone()).await.unwrap().into_inner();
    let again = world.client.update_customer(once).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert_eq!(world.get(&created.customer_id).await.revision, 2);
    let other = request("r", named(&created, "C", "C"), &["person"]);
    let status = world.client.update_customer(other).await.unwrap_err();
    assert_eq!(fault(&status).1, "REQUEST_ID_REUSED");
}

async fn of_concurrent_updates_with_one_etag_exactly_one_wins(backend: Backend) {
    let mut world = World::new(backend).await;
    let other = world.replica().await;
    let created = world.create(person("A", "A")).await;
    let calls = (0..20).map(|call| {
        let channel = if call % 2 == 0 { world.server.channel() } else { other.channel() };
        let mut client = crate::support::Client::new(channel);
        let new = named(&created, "Name", &call.to_string());
        tokio::spawn(async move { client.update_customer(request(&format!("r-{call}"), new, &["person"])).await })
    });
    let (won, lost): (Vec<_>, Vec<_>) =
        join_all(calls).await.into_iter().map(|call| call.unwrap()).partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 19));
    for call in lost {
        let (code, reason, _) = fault(&call.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    }
    let winner = won.into_iter().next().unwrap().unwrap().into_inner().customer.unwrap();
    assert_eq!(world.get(&created.customer_id).await, winner);
}

async fn a_customer_who_is_not_there_is_not_found(backend: Backend) {
    let mut world = World::new(backend).await;
    let nobody =
        pb::Customer { customer_id: uuid::Uuid::from_u128(1).to_string(), etag: "1".into(), ..Default::default() };
    let status = update(&mut world, &nobody, &["targeted"]).await.unwrap_err();
    assert_eq!((status.code(), fault(&status).1.as_str()), (Code::NotFound, "NOT_FOUND"));
}

async fn identities_are_replaced_and_those_given_up_are_free(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(full_person()).await;
    let new = pb::Customer { identities: vec![identity("n-1"), identity("p-1")], ..created.clone() };
    let updated = update(&mut world, &new, &["identities"]).await.unwrap();
    assert_eq!(updated.identities, new.identities);
    let found = world.ensure(&["n-1", "p-1"]).await;
    assert!(found.iter().all(|found| found.customer_id == created.customer_id && !found.created));
    let given_up = pb::EnsureCustomer { identity: created.identities.last().cloned(), customer: None };
    let request = pb::EnsureCustomersRequest { items: vec![given_up, item("n-1")] };
    let reply = world.client.ensure_customers(request).await.unwrap().into_inner();
    assert_eq!(reply.customers.iter().map(|customer| customer.created).collect::<Vec<_>>(), [true, false]);
}

async fn an_identity_of_another_customer_is_not_moved(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(person("A", "A")).await;
    let owner = world.ensure(&["theirs"]).await.remove(0);
    let new = pb::Customer { identities: vec![identity("mine"), identity("theirs")], ..created.clone() };
    let status = update(&mut world, &new, &["identities"]).await.unwrap_err();
    assert_eq!((status.code(), fault(&status).1.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    assert_eq!(world.ensure(&["theirs"]).await[0].customer_id, owner.customer_id);
    assert_eq!(world.get(&created.customer_id).await, created);
}

async fn concurrent_updates_give_an_identity_to_one_customer(backend: Backend) {
    let mut world = World::new(backend).await;
    let mut calls = Vec::new();
    for call in 0..12 {
        let created = world.create(person("A", &call.to_string())).await;
        let new = pb::Customer { identities: vec![identity("wanted"), identity(&format!("own-{call}"))], ..created };
        let mut client = world.client.clone();
        calls.push(async move { client.update_customer(request(&format!("r-{call}"), new, &["identities"])).await });
    }
    let calls = join_all(calls.into_iter().map(tokio::spawn)).await.into_iter().map(|call| call.unwrap());
    let (won, lost): (Vec<_>, Vec<_>) = calls.partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 11));
    assert!(lost.into_iter().all(|call| fault(&call.unwrap_err()).1 == "ALREADY_EXISTS"));
}

async fn the_kind_never_changes(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(person("A", "A")).await;
    let new = pb::Customer { kind: company("B").kind, ..created.clone() };
    for path in ["company", "company.name"] {
        let status = update(&mut world, &new, &[path]).await.unwrap_err();
        assert_eq!(fault(&status).2, ["update_mask"]);
    }
    let status = update(&mut world, &new, &["person"]).await.unwrap_err();
    assert_eq!(fault(&status).2, ["customer.person"]);
    let status = update(&mut world, &new, &["company.name", "person.position"]).await.unwrap_err();
    assert_eq!(fault(&status).2, ["update_mask.paths[1]"]);
    assert_eq!(world.get(&created.customer_id).await, created);
}

async fn the_mask_is_checked_path_by_path(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(full_person()).await;
    let paths = ["phones", "standing.tier", "etag", "phones[0]", "*", "", "kind"];
    let status = update(&mut world, &created, &paths).await.unwrap_err();
    let mut fields = fault(&status).2;
    assert_eq!(fields.pop().unwrap(), "update_mask");
    assert_eq!(fields, (1..7).map(|index| format!("update_mask.paths[{index}]")).collect::<Vec<_>>());
    assert!(status.message().contains("names standing, which is output only"), "{}", status.message());
    assert!(status.message().contains("person.given_name"), "the answer says what is allowed");

    let status = update(&mut world, &created, &["nonsense"; 1_000]).await.unwrap_err();
    assert_eq!(fault(&status).2[0], "update_mask.paths");
    let status = update(&mut world, &created, &[]).await.unwrap_err();
    assert_eq!(fault(&status).2, ["update_mask.paths"]);
    let without = pb::UpdateCustomerRequest { update_mask: None, ..request("r", created.clone(), &[]) };
    let status = world.client.update_customer(without).await.unwrap_err();
    assert_eq!(fault(&status).2, ["update_mask.paths"]);
    let no_etag = pb::Customer { etag: String::new(), phones: vec!["bad".into()], ..created };
    let status = update(&mut world, &no_etag, &["phones"]).await.unwrap_err();
    assert_eq!(fault(&status).2, ["customer.etag", "customer.phones[0]"]);
}

async fn a_field_that_is_named_and_absent_is_cleared(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = world.create(full_person()).await;
    let bare = pb::Customer { customer_id: created.customer_id, etag: created.etag, ..Default::default() };
    let paths = [
        "person.given_name",
        "person.birth_date",
        "person.employer",
        "person.position",
        "mails",
        "addresses",
        "showed_interest",
        "targeted",
        "acquisition_source",
        "acquisition_cost",
    ];
    let updated = update(&mut world, &bare, &paths).await.unwrap();
    let Some(pb::customer::Kind::Person(basics)) = &updated.kind else { panic!("{:?}", updated.kind) };
    assert_eq!(basics, &pb::Person { family_name: "Lee".into(), ..Default::default() });
    assert!(updated.mails.is_empty() && updated.addresses.is_empty() && updated.acquisition_cost.is_none());
    assert!(!updated.showed_interest && !updated.targeted && updated.acquisition_source == 0);
    assert_eq!(updated.phones, full_person().phones);
}
