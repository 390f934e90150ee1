use chassis::testing::{Backend, fault};
use proto::complaints::v1::{self as pb, ComplaintState, Severity};
use tonic::Code;

use crate::world::{Act, Client, World, customer, file, filing, proto_at};

chassis::db_tests!(
    the_soonest_due_comes_first_and_those_whose_clock_stands_come_last,
    every_filter_that_is_set_must_hold,
    pages_follow_one_another_without_gap_or_repeat,
    a_page_of_long_complaints_is_one_that_every_client_takes,
    a_page_token_is_good_for_its_own_filter_alone,
    a_list_shows_what_has_run_and_what_is_breached,
);

async fn list(client: &Client, request: pb::ListComplaintsRequest) -> Vec<pb::Complaint> {
    client.clone().list_complaints(request).await.unwrap().into_inner().complaints
}

fn ids(complaints: &[pb::Complaint]) -> Vec<&str> {
    complaints.iter().map(|complaint| complaint.complaint_id.as_str()).collect()
}

async fn file_as(client: &Client, number: u128, severity: Severity) -> pb::Complaint {
    client.clone().file_complaint(filing(customer(number), severity)).await.unwrap().into_inner().complaint.unwrap()
}

async fn the_soonest_due_comes_first_and_those_whose_clock_stands_come_last(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let standing = Act::Resolve.on(&client, &file_as(&client, 1, Severity::Critical).await).await;
    let minor = file_as(&client, 2, Severity::Minor).await;
    let critical = file_as(&client, 3, Severity::Critical).await;
    let major = file_as(&client, 4, Severity::Major).await;
    let all = list(&client, pb::ListComplaintsRequest::default()).await;
    assert_eq!(all, [critical, major, minor, standing]);
}

async fn every_filter_that_is_set_must_hold(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let filed = file(&client, customer(1)).await;
    let open = Act::Acknowledge.on(&client, &file_as(&client, 1, Severity::Critical).await).await;
    let other = Act::Acknowledge.on(&client, &file(&client, customer(2)).await).await;
    let resolved = Act::Resolve.on(&client, &file(&client, customer(2)).await).await;
    let all = pb::ListComplaintsRequest::default;
    let states = |states: &[ComplaintState]| states.iter().map(|state| i32::from(*state)).collect::<Vec<_>>();

    let request = pb::ListComplaintsRequest { states: states(&[ComplaintState::Open]), ..all() };
    assert_eq!(ids(&list(&client, request).await), ids(&[open.clone(), other.clone()]));
    let request =
        pb::ListComplaintsRequest { states: states(&[ComplaintState::Filed, ComplaintState::Resolved]), ..all() };
    assert_eq!(ids(&list(&client, request).await), ids(&[filed.clone(), resolved.clone()]));
    let request = pb::ListComplaintsRequest { customer_id: customer(1).to_string(), ..all() };
    assert_eq!(ids(&list(&client, request).await), ids(&[open.clone(), filed]));
    let request =
        pb::ListComplaintsRequest { owner_id: "agent-1".into(), customer_id: customer(2).to_string(), ..all() };
    assert_eq!(ids(&list(&client, request).await), ids(std::slice::from_ref(&other)));
    // "Before" leaves out what is due at that very moment, and all that is not due at all.
    let request = pb::ListComplaintsRequest { due_before: other.due_time, ..all() };
    assert_eq!(ids(&list(&client, request).await), ids(std::slice::from_ref(&open)));
    let request = pb::ListComplaintsRequest { due_before: proto_at("2199-01-01T00:00:00Z"), ..all() };
    assert!(!ids(&list(&client, request).await).contains(&resolved.complaint_id.as_str()));
    let request = pb::ListComplaintsRequest { owner_id: "nobody".into(), ..all() };
    assert!(list(&client, request).await.is_empty());
}

async fn pages_follow_one_another_without_gap_or_repeat(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    // Many are due at the same moment, and some not at all.
    for number in 0..23 {
        let complaint = file(&client, customer(number)).await;
        if number % 4 == 0 {
            Act::Resolve.on(&client, &complaint).await;
        }
    }
    let whole = list(&client, pb::ListComplaintsRequest::default()).await;
    assert_eq!(whole.len(), 23);
    let mut request = pb::ListComplaintsRequest { page_size: 5, ..pb::ListComplaintsRequest::default() };
    let mut paged = Vec::new();
    loop {
        let reply = client.list_complaints(request.clone()).await.unwrap().into_inner();
        assert!(reply.complaints.len() <= 5);
        paged.extend(reply.complaints);
        if reply.next_page_token.is_empty() {
            break;
        }
        request.page_token = reply.next_page_token;
    }
    assert_eq!(paged, whole);
}

async fn a_page_of_long_complaints_is_one_that_every_client_takes(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    // Twelve kilobytes each: together more than the 4 MiB that a client takes which was told nothing else.
    let words = "€".repeat(4_000);
    let file = |number: u128| {
        let (mut client, mut request) = (client.clone(), filing(customer(number), Severity::Moderate));
        request.complaint.as_mut().unwrap().description.clone_from(&words);
        async move { client.file_complaint(request).await.unwrap().into_inner().complaint.unwrap().complaint_id }
    };
    let mut filed = futures::future::join_all((0..400).map(file)).await;
    let mut request = pb::ListComplaintsRequest { page_size: 1_000, ..Default::default() };
    let mut listed = Vec::new();
    loop {
        let page = client.clone().list_complaints(request.clone()).await.unwrap().into_inner();
        assert!((1..200).contains(&page.complaints.len()), "{}", page.complaints.len());
        listed.extend(page.complaints.into_iter().map(|complaint| complaint.complaint_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    filed.sort();
    listed.sort();
    assert_eq!(listed, filed);
}

async fn a_page_token_is_good_for_its_own_filter_alone(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    for number in 0..3 {
        file(&client, customer(number)).await;
    }
    let first = pb::ListComplaintsRequest { page_size: 1, ..pb::ListComplaintsRequest::default() };
    let page_token = client.list_complaints(first).await.unwrap().into_inner().next_page_token;
    for wrong in [
        pb::ListComplaintsRequest { owner_id: "agent-1".into(), page_token, ..pb::ListComplaintsRequest::default() },
        pb::ListComplaintsRequest { page_token: "made up".into(), ..pb::ListComplaintsRequest::default() },
    ] {
        let (code, reason, _) = fault(&client.list_complaints(wrong).await.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "PAGE_TOKEN_MISMATCH"));
    }
}

async fn a_list_shows_what_has_run_and_what_is_breached(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let critical = file_as(&client, 1, Severity::Critical).await;
    world.pass(4);
    let all = list(&client, pb::ListComplaintsRequest::default()).await;
    assert_eq!((all[0].elapsed, all[0].breached), (critical.allowed, true));
}
