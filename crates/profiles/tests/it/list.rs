//! ListCustomers.
use chassis::testing::{Backend, eventually, fault};
use proto::{
    complaints::v1::ComplaintState,
    profiles::v1::{self as pb, CustomerOrder},
    scoring::v1::Tier,
};
use tonic::Code;

use crate::support::{Client, World, company, full_person, person};

chassis::db_tests!(
    every_order_is_walked_page_by_page_without_gap_or_double,
    a_list_is_filtered_by_kind_name_and_system,
    a_list_is_filtered_by_what_is_followed,
    a_page_token_is_good_for_its_own_list_only,
    customers_created_while_a_list_is_walked_disturb_nothing,
    faults_of_a_list_are_named,
);

fn request(filter: pb::CustomerFilter) -> pb::ListCustomersRequest {
    pb::ListCustomersRequest { filter: Some(filter), ..Default::default() }
}

fn name(customer: &pb::Customer) -> &str {
    match customer.kind.as_ref().unwrap() {
        pb::customer::Kind::Person(person) => &person.family_name,
        pb::customer::Kind::Company(company) => &company.name,
    }
}

async fn names(client: &mut Client, filter: pb::CustomerFilter) -> Vec<String> {
    let reply = client.list_customers(request(filter)).await.unwrap().into_inner();
    reply.customers.iter().map(|customer| name(customer).to_owned()).collect()
}

async fn people(world: &mut World) -> Vec<String> {
    let mut ids = Vec::new();
    // Two share a moment and two share a name: the id decides.
    for (index, customer) in
        [person("A", "Young"), person("B", "Ödön"), company("ant & co"), person("C", "young"), company("Antlers")]
            .into_iter()
            .enumerate()
    {
        if index != 1 {
            world.clock.advance(jiff::SignedDuration::from_secs(1));
        }
        ids.push(world.create(customer).await.customer_id);
    }
    ids
}

async fn every_order_is_walked_page_by_page_without_gap_or_double(backend: Backend) {
    let mut world = World::new(backend).await;
    let ids = people(&mut world).await;
    let expected = [
        (CustomerOrder::Unspecified, [0, 1, 2, 3, 4]),
        (CustomerOrder::CreateTime, [0, 1, 2, 3, 4]),
        (CustomerOrder::CreateTimeDesc, [4, 3, 2, 1, 0]),
        // By bytes: letters with accents come after z.
        (CustomerOrder::Name, [2, 4, 0, 3, 1]),
    ];
    for (order, expected) in expected {
        for page_size in [1, 2, 5, 1_000] {
            let mut walked = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = pb::ListCustomersRequest { filter: None, order: order.into(), page_size, page_token };
                let reply = world.client.list_customers(request).await.unwrap().into_inner();
                assert!(reply.customers.len() <= page_size as usize);
                walked.extend(reply.customers.into_iter().map(|customer| customer.customer_id));
                page_token = reply.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(walked, expected.map(|index| ids[index].clone()), "{order:?} {page_size}");
        }
    }
}

async fn a_list_is_filtered_by_kind_name_and_system(backend: Backend) {
    let mut world = World::new(backend).await;
    people(&mut world).await;
    world.create(full_person()).await;
    let client = &mut world.client;
    let all = pb::CustomerFilter::default;
    let kind = pb::CustomerKind::Company.into();
    assert_eq!(names(client, pb::CustomerFilter { kind, ..all() }).await, ["ant & co", "Antlers"]);
    assert_eq!(names(client, pb::CustomerFilter { name_prefix: "ANT".into(), ..all() }).await.len(), 2);
    assert_eq!(names(client, pb::CustomerFilter { name_prefix: "antl".into(), ..all() }).await, ["Antlers"]);
    assert_eq!(names(client, pb::CustomerFilter { name_prefix: "Ö".into(), ..all() }).await, ["Ödön"]);
    assert_eq!(names(client, pb::CustomerFilter { name_prefix: "%".into(), ..all() }).await, [""; 0]);
    assert_eq!(names(client, pb::CustomerFilter { system: "crm.eu".into(), ..all() }).await, ["Lee"]);
    assert_eq!(names(client, pb::CustomerFilter { system: "crm.eu".into(), kind, ..all() }).await, [""; 0]);
}

async fn a_list_is_filtered_by_what_is_followed(backend: Backend) {
    let mut world = World::new(backend).await;
    let ids = people(&mut world).await;
    world.scoring.say(&ids[0], 1, Tier::Important);
    world.scoring.say(&ids[2], 1, Tier::Small);
    world.complaints.say(1, &ids[2], 1, ComplaintState::Filed);
    let client = &mut world.client;
    let all = pb::CustomerFilter::default;
    eventually("the news is there", || {
        let mut client = client.clone();
        async move {
            names(&mut client, pb::CustomerFilter { codes: vec![2], ..all() }).await.len() == 2
                && names(&mut client, pb::CustomerFilter { with_open_complaints: true, ..all() }).await.len() == 1
        }
    })
    .await;
    let tiers = vec![Tier::Important.into(), Tier::Major.into()];
    assert_eq!(names(client, pb::CustomerFilter { tiers: tiers.clone(), ..all() }).await, ["Young"]);
    assert_eq!(names(client, pb::CustomerFilter { tiers, with_open_complaints: true, ..all() }).await, [""; 0]);
    assert_eq!(names(client, pb::CustomerFilter { stages: vec![3], ..all() }).await.len(), 2);
    assert_eq!(names(client, pb::CustomerFilter { stages: vec![1], ..all() }).await.len(), 0);
    assert_eq!(names(client, pb::CustomerFilter { relationships: vec![5], ..all() }).await.len(), 2);
    // Unspecified finds those whom scoring has not spoken of.
    assert_eq!(names(client, pb::CustomerFilter { tiers: vec![0], ..all() }).await.len(), 3);
    assert_eq!(names(client, pb::CustomerFilter { with_open_complaints: true, ..all() }).await, ["ant & co"]);
}

async fn a_page_token_is_good_for_its_own_list_only(backend: Backend) {
    let mut world = World::new(backend).await;
    people(&mut world).await;
    let first = pb::ListCustomersRequest { page_size: 1, ..Default::default() };
    let page_token = world.client.list_customers(first.clone()).await.unwrap().into_inner().next_page_token;
    let others = [
        pb::ListCustomersRequest { order: CustomerOrder::Name.into(), page_token: page_token.clone(), ..first.clone() },
        pb::ListCustomersRequest {
            page_token: page_token.clone(),
            ..request(pb::CustomerFilter { kind: 1, ..Default::default() })
        },
        pb::ListCustomersRequest { page_token: "nonsense".into(), ..first },
    ];
    for other in others {
        let status = world.client.list_customers(other).await.unwrap_err();
        assert_eq!((status.code(), fault(&status).1.as_str()), (Code::InvalidArgument, "PAGE_TOKEN_MISMATCH"));
    }
    // The size of the pages may change on the way.
    let rest = pb::ListCustomersRequest { page_size: 10, page_token, ..Default::default() };
    assert_eq!(world.client.list_customers(rest).await.unwrap().into_inner().customers.len(), 4);
}

async fn customers_created_while_a_list_is_walked_disturb_nothing(backend: Backend) {
    let mut world = World::new(backend).await;
    let ids = people(&mut world).await;
    let order = CustomerOrder::CreateTimeDesc.into();
    let first = pb::ListCustomersRequest { order, page_size: 2, ..Default::default() };
    let page = world.client.list_customers(first.clone()).await.unwrap().into_inner();
    world.clock.advance(jiff::SignedDuration::from_secs(1));
    world.create(person("New", "Comer")).await;
    let next = pb::ListCustomersRequest { page_token: page.next_page_token, ..first };
    let page = world.client.list_customers(next).await.unwrap().into_inner();
    assert_eq!(page.customers[0].customer_id, ids[2]);
}

async fn faults_of_a_list_are_named(backend: Backend) {
    let mut world = World::new(backend).await;
    let filter = pb::CustomerFilter {
        kind: 9,
        codes: vec![1, 77],
        tiers: vec![-1],
        stages: vec![1; 17],
        relationships: vec![8],
        name_prefix: "\0".into(),
        system: "a b".into(),
        ..Default::default()
    };
    let bad = pb::ListCustomersRequest { order: 7, page_size: -1, ..request(filter) };
    let status = world.client.list_customers(bad).await.unwrap_err();
    assert_eq!(
        fault(&status).2,
        [
            "filter.kind",
            "filter.codes[1]",
            "filter.tiers[0]",
            "filter.stages",
            "filter.relationships[0]",
            "filter.name_prefix",
            "filter.system",
            "order",
            "page_size",
        ]
    );
}
