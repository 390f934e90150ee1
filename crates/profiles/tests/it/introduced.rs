//! Who introduced a customer.
use chassis::testing::{Backend, fault};
use proto::profiles::v1 as pb;
use tonic::{Code, Status};

use crate::support::{World, identity, item, person};

chassis::db_tests!(
    who_introduced_a_customer_is_kept_and_can_be_changed,
    an_introducer_who_is_no_customer_is_refused,
    nobody_introduces_themselves,
    whoever_is_ensured_has_an_introducer_who_is_there,
);

fn introduced_by(id: &str) -> pb::Customer {
    pb::Customer { introduced_by: id.into(), ..person("Ann", "Lee") }
}

async fn create(world: &mut World, customer: pb::Customer) -> Result<pb::Customer, Status> {
    let request_id = world.server.context.ids.next().to_string();
    let request = pb::CreateCustomerRequest { request_id, customer: Some(customer) };
    Ok(world.client.create_customer(request).await?.into_inner().customer.unwrap())
}

async fn update(world: &mut World, customer: pb::Customer) -> Result<pb::Customer, Status> {
    let request_id = world.server.context.ids.next().to_string();
    let update_mask = Some(prost_types::FieldMask { paths: vec!["introduced_by".into()] });
    let request = pb::UpdateCustomerRequest { request_id, customer: Some(customer), update_mask };
    Ok(world.client.update_customer(request).await?.into_inner().customer.unwrap())
}

fn refused(path: &str) -> (Code, String, Vec<String>) {
    (Code::InvalidArgument, "INVALID_FIELD".into(), vec![path.into()])
}

async fn who_introduced_a_customer_is_kept_and_can_be_changed(backend: Backend) {
    let mut world = World::new(backend).await;
    let first = create(&mut world, person("Bea", "Poe")).await.unwrap();
    let second = create(&mut world, person("Cid", "Roe")).await.unwrap();
    // In any of its text forms; kept in one.
    let created = create(&mut world, introduced_by(&first.customer_id.to_uppercase())).await.unwrap();
    assert_eq!(created.introduced_by, first.customer_id);
    for introducer in [second.customer_id.as_str(), ""] {
        let before = world.get(&created.customer_id).await;
        let changed = update(&mut world, pb::Customer { introduced_by: introducer.into(), ..before }).await.unwrap();
        assert_eq!(changed.introduced_by, introducer);
        assert_eq!(world.get(&created.customer_id).await, changed);
    }
}

async fn an_introducer_who_is_no_customer_is_refused(backend: Backend) {
    let mut world = World::new(backend).await;
    let nobody = uuid::Uuid::max().to_string();
    for introducer in ["nobody", nobody.as_str()] {
        let status = create(&mut world, introduced_by(introducer)).await.unwrap_err();
        assert_eq!(fault(&status), refused("customer.introduced_by"));
        let created = create(&mut world, person("Ann", "Lee")).await.unwrap();
        let status =
            update(&mut world, pb::Customer { introduced_by: introducer.into(), ..created }).await.unwrap_err();
        assert_eq!(fault(&status), refused("customer.introduced_by"));
    }
}

async fn nobody_introduces_themselves(backend: Backend) {
    let mut world = World::new(backend).await;
    let created = create(&mut world, person("Ann", "Lee")).await.unwrap();
    let own = pb::Customer { introduced_by: created.customer_id.clone(), ..created.clone() };
    assert_eq!(fault(&update(&mut world, own).await.unwrap_err()), refused("customer.introduced_by"));
    assert_eq!(world.get(&created.customer_id).await, created);
}

async fn whoever_is_ensured_has_an_introducer_who_is_there(backend: Backend) {
    let mut world = World::new(backend).await;
    let first = create(&mut world, person("Bea", "Poe")).await.unwrap();
    let with = |id: &str, introducer: &str| pb::EnsureCustomer {
        identity: Some(identity(id)),
        customer: Some(introduced_by(introducer)),
    };
    let items = vec![item("a"), with("b", &first.customer_id), with("c", &first.customer_id)];
    let request = pb::EnsureCustomersRequest { items };
    let ensured = world.client.ensure_customers(request).await.unwrap().into_inner().customers;
    assert_eq!(world.get(&ensured[1].customer_id).await.introduced_by, first.customer_id);
    let items = vec![item("d"), with("e", &uuid::Uuid::max().to_string())];
    let status = world.client.ensure_customers(pb::EnsureCustomersRequest { items }).await.unwrap_err();
    assert_eq!(fault(&status), refused("items[1].customer.introduced_by"));
}
