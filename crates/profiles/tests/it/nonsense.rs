//! Nonsense to every RPC gets a named error, and never INTERNAL.
use chassis::testing::{Backend, fault};
use proto::{common::v1::Money, profiles::v1 as pb};
use tonic::{Code, Status};

use crate::support::World;

chassis::db_tests!(nonsense_gets_a_named_error, a_batch_of_nothing_but_faults_gets_an_answer_that_fits);

/// Texts that have broken something somewhere.
fn texts() -> Vec<String> {
    [
        "",
        " ",
        "\0",
        "a\0b",
        "\u{feff}",
        "\u{202e}",
        "\u{10ffff}",
        "%",
        "'; DROP TABLE customer; --",
        "00000000",
        "-1",
        "\r\n",
        "9223372036854775808",
        "NaN",
        "null",
        "+",
        "@",
        "a@b",
        "@.",
        "2026-13-01",
        "-0001-01-01",
        "0000-00-00",
        "+12026-01-01",
        "2026-01-01T00:00:00Z",
        "İ",
        "ß",
        "👩‍👩‍👧",
        "../../etc/passwd",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["x".repeat(100_000), "é".repeat(10_000)])
    .collect()
}

fn customer(text: &str, person: bool, number: i64) -> pb::Customer {
    let text = || text.to_owned();
    pb::Customer {
        customer_id: text(),
        etag: text(),
        kind: Some(if person {
            pb::customer::Kind::Person(pb::Person {
                given_name: text(),
                family_name: text(),
                birth_date: text(),
                employer: text(),
                position: text(),
            })
        } else {
            pb::customer::Kind::Company(pb::Company {
                name: text(),
                founded_date: text(),
                legal_form: text(),
                line_of_business: text(),
            })
        }),
        identities: vec![pb::ExternalIdentity { system: text(), id: text() }],
        phones: vec![text()],
        mails: vec![text()],
        addresses: vec![pb::Address {
            lines: vec![text()],
            locality: text(),
            postal_code: text(),
            region_code: text(),
        }],
        acquisition_source: number as i32,
        acquisition_cost: Some(Money { currency_code: text(), minor_units: number }),
        introduced_by: text(),
        ..Default::default()
    }
}

fn named<R>(what: &str, text: &str, result: Result<tonic::Response<R>, Status>) {
    let Err(status) = result else { return };
    let short: String = text.chars().take(30).collect();
    let (code, reason, _) = fault(&status);
    assert!(!reason.is_empty(), "{what} of {short:?}: {status:?}");
    assert!(
        matches!(code, Code::InvalidArgument | Code::NotFound | Code::Aborted | Code::AlreadyExists),
        "{what} of {short:?}: {status:?}"
    );
    assert!(status.message().len() < 20_000, "{what}: the answer is as long as the nonsense");
}

async fn nonsense_gets_a_named_error(backend: Backend) {
    let mut world = World::new(backend).await;
    let known = world.ensure(&["known"]).await.remove(0).customer_id;
    let client = &mut world.client;
    for text in texts() {
        let t = || text.clone();
        for (person, number) in [(true, i64::MIN), (false, i64::MAX), (true, 0)] {
            let customer = customer(&text, person, number);
            let item =
                pb::EnsureCustomer { identity: customer.identities.first().cloned(), customer: Some(customer.clone()) };
            let ensure = pb::EnsureCustomersRequest { items: vec![item] };
            named("ensure", &text, client.ensure_customers(ensure).await);
            let create = pb::CreateCustomerRequest { request_id: t(), customer: Some(customer.clone()) };
            named("create", &text, client.create_customer(create).await);
            for customer_id in [t(), known.clone()] {
                let customer = pb::Customer { customer_id, etag: "1".into(), ..customer.clone() };
                for paths in
                    [vec![t()], vec!["person".into(), "mails".into()], vec!["identities".into()], vec![t(); 16]]
                {
                    let update = pb::UpdateCustomerRequest {
                        request_id: t(),
                        customer: Some(customer.clone()),
                        update_mask: Some(prost_types::FieldMask { paths }),
                    };
                    named("update", &text, client.update_customer(update).await);
                }
            }
            let number = number as i32;
            let filter = pb::CustomerFilter {
                kind: number,
                codes: vec![number; 3],
                tiers: vec![number],
                name_prefix: t(),
                system: t(),
                ..Default::default()
            };
            let list =
                pb::ListCustomersRequest { filter: Some(filter), order: number, page_size: number, page_token: t() };
            named("list", &text, client.list_customers(list).await);
            let list = pb::ListCustomersRequest {
                filter: Some(pb::CustomerFilter { name_prefix: t(), ..Default::default() }),
                order: 3,
                ..Default::default()
            };
            named("list by name", &text, client.list_customers(list).await);
            named("get", &text, client.get_customer(pb::GetCustomerRequest { customer_id: t(), view: number }).await);
        }
        let identity = Some(pb::ExternalIdentity { system: "shop".into(), id: t() });
        named("resolve", &text, client.resolve_identity(pb::ResolveIdentityRequest { identity }).await);
        let batch = pb::BatchGetCustomersRequest { customer_ids: vec![t(); 3] };
        named("batch get", &text, client.batch_get_customers(batch).await);
        let watch = pb::WatchCustomersRequest { cursor: t(), only_new: true };
        named("watch", &text, client.watch_customers(watch).await);
    }
}

async fn a_batch_of_nothing_but_faults_gets_an_answer_that_fits(backend: Backend) {
    let mut world = World::new(backend).await;
    let items = (0..1_000).map(|_| pb::EnsureCustomer { customer: Some(customer("\u{7}", true, -1)), identity: None });
    let status =
        world.client.ensure_customers(pb::EnsureCustomersRequest { items: items.collect() }).await.unwrap_err();
    let (code, reason, fields) = fault(&status);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{status:?}");
    assert_eq!(fields[0], "items[0].identity");
}
