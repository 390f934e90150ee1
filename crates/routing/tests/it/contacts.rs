//! Contacts.
use chassis::{
    clock::to_proto,
    testing::{Backend, fault, noon},
};
use futures::StreamExt;
use jiff::SignedDuration;
use proto::{
    common::v1::FeedMark,
    routing::v1::{self as pb, ContactOutcome, ContactPurpose, watch_contacts_response::Event},
};
use tonic::Code;

use crate::support::{Suite, id};

fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(to_proto(noon() - SignedDuration::from_secs(seconds)))
}

fn contact(customer: u128, arrived_ago: i64) -> pb::Contact {
    pb::Contact {
        decision_id: id(900).to_string(),
        customer_id: id(customer).to_string(),
        channel_id: "phone".into(),
        queue_id: "phone-vip".into(),
        purpose: ContactPurpose::Inquiry.into(),
        arrive_time: ago(arrived_ago),
        answer_time: ago(arrived_ago - 5),
        end_time: ago(arrived_ago - 50),
        outcome: ContactOutcome::Sold.into(),
        agent_id: "agent-7".into(),
        ..Default::default()
    }
}

fn record(request_id: &str, contact: pb::Contact) -> pb::RecordContactRequest {
    pb::RecordContactRequest { request_id: request_id.into(), contact: Some(contact) }
}

async fn a_contact_is_recorded_once_and_can_be_read(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    let request = record("r1", contact(1, 100));
    let recorded = client.record_contact(request.clone()).await.unwrap().into_inner().contact.unwrap();
    let expected =
        pb::Contact { contact_id: recorded.contact_id.clone(), create_time: Some(to_proto(noon())), ..contact(1, 100) };
    assert_eq!(recorded, expected);
    assert_eq!(client.record_contact(request.clone()).await.unwrap().into_inner().contact.unwrap(), recorded);
    let racing = (0..20).map(|_| {
        let (mut client, request) = (suite.client.clone(), record("r2", contact(2, 100)));
        async move { client.record_contact(request).await.unwrap().into_inner().contact.unwrap() }
    });
    let replies = futures::future::join_all(racing).await;
    assert!(replies.iter().all(|reply| *reply == replies[0]), "all callers get the one contact");
    let all = client.list_contacts(pb::ListContactsRequest::default()).await.unwrap().into_inner().contacts;
    assert_eq!(all.len(), 2);

    let status = client.record_contact(record("r1", contact(1, 101))).await.unwrap_err();
    assert_eq!(fault(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".into(), vec!["request_id".into()]));
    let get = |contact_id: &str| pb::GetContactRequest { contact_id: contact_id.into() };
    let read = client.get_contact(get(&recorded.contact_id)).await.unwrap().into_inner();
    assert_eq!(read.contact, Some(recorded));
    let status = client.get_contact(get(&id(5).to_string())).await.unwrap_err();
    assert_eq!(fault(&status).1, "NOT_FOUND");
    let status = client.get_contact(get("5")).await.unwrap_err();
    assert_eq!(fault(&status).2, ["contact_id"]);
}

async fn a_contact_must_be_in_a_channel_and_queue_that_exist(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    type Case<'c> = (fn(&mut pb::Contact), &'c str, &'c [&'c str]);
    let cases: [Case<'_>; 6] = [
        (|c| c.channel_id = "nowhere".into(), "NOT_FOUND", &[]),
        (|c| c.queue_id = "nowhere".into(), "NOT_FOUND", &[]),
        (|c| c.queue_id = "chat-general".into(), "INVALID_FIELD", &["contact.queue_id"]),
        (|c| c.arrive_time = ago(-301), "INVALID_FIELD", &[]),
        (|c| c.end_time = None, "INVALID_FIELD", &["contact.end_time"]),
        (
            |c| c.arrive_time = Some(prost_types::Timestamp { seconds: i64::MIN, nanos: i32::MIN }),
            "INVALID_FIELD",
            &["contact.arrive_time"],
        ),
    ];
    for (spoil, reason, fields) in cases {
        let mut bad = contact(1, 100);
        spoil(&mut bad);
        let found = fault(&client.record_contact(record("r", bad)).await.unwrap_err());
        assert_eq!(found.1, reason);
        assert!(fields.iter().all(|field| found.2.contains(&(*field).to_owned())), "{found:?}");
    }
    let found = fault(&client.record_contact(pb::RecordContactRequest::default()).await.unwrap_err());
    assert_eq!(found.2[..2], ["request_id", "contact"]);
    let prospect = pb::Contact {
        customer_id: String::new(),
        decision_id: String::new(),
        queue_id: String::new(),
        agent_id: String::new(),
        answer_time: None,
        outcome: ContactOutcome::Abandoned.into(),
        ..contact(1, 100)
    };
    let recorded = client.record_contact(record("r", prospect)).await.unwrap().into_inner().contact.unwrap();
    assert_eq!((recorded.customer_id.as_str(), recorded.queue_id.as_str()), ("", ""));
}

async fn contacts_are_listed_by_arrival_page_by_page(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    // Recorded out of order; two of them at the same moment.
    for (n, arrived_ago) in [300, 100, 500, 100, 400].into_iter().enumerate() {
        client.record_contact(record(&format!("r{n}"), contact(1, arrived_ago))).await.unwrap();
        client.record_contact(record(&format!("s{n}"), contact(2, arrived_ago))).await.unwrap();
    }
    let mut request = pb::ListContactsRequest { customer_id: id(1).to_string(), page_size: 2, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = client.list_contacts(request.clone()).await.unwrap().into_inner();
        assert!(page.contacts.len() <= 2);
        found.extend(page.contacts);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(found.iter().all(|contact| contact.customer_id == id(1).to_string()));
    let arrivals: Vec<_> =
        found.iter().map(|contact| noon().as_second() - contact.arrive_time.unwrap().seconds).collect();
    assert_eq!(arrivals, [100, 100, 300, 400, 500]);
    assert!(found[0].contact_id > found[1].contact_id);
    let all = client.list_contacts(pb::ListContactsRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.contacts.len(), all.next_page_token.as_str()), (10, ""));

    let other = pb::ListContactsRequest { customer_id: id(2).to_string(), ..request.clone() };
    assert_eq!(fault(&client.list_contacts(other).await.unwrap_err()).1, "PAGE_TOKEN_MISMATCH");
    let large = pb::ListContactsRequest { customer_id: "x".into(), page_size: 1001, ..Default::default() };
    let found = fault(&client.list_contacts(large).await.unwrap_err());
    assert_eq!(found.2, ["customer_id", "page_size"]);
}

async fn contacts_can_be_watched_from_the_first_and_from_a_cursor(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    let recorded = |n: u32| {
        let mut client = suite.client.clone();
        async move {
            let reply = client.record_contact(record(&n.to_string(), contact(1, 100))).await.unwrap();
            reply.into_inner().contact.unwrap()
        }
    };
    let first = recorded(1).await;
    let mut stream = client.watch_contacts(pb::WatchContactsRequest::default()).await.unwrap().into_inner();
    let item = stream.next().await.unwrap().unwrap();
    assert_eq!(item.event, Some(Event::Contact(first)));
    let mark = stream.next().await.unwrap().unwrap();
    assert_eq!(mark.event, Some(Event::Mark(FeedMark::SnapshotComplete.into())));
    let second = recorded(2).await;
    assert_eq!(stream.next().await.unwrap().unwrap().event, Some(Event::Contact(second.clone())));

    let cursor = mark.position.unwrap().cursor;
    let mut stream =
        client.watch_contacts(pb::WatchContactsRequest { cursor, only_new: false }).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap().event, Some(Event::Contact(second)));
    let bad = pb::WatchContactsRequest { cursor: "nonsense".into(), only_new: false };
    assert_eq!(fault(&client.watch_contacts(bad).await.unwrap_err()).1, "CURSOR_UNKNOWN");
    let mut stream = client
        .watch_contacts(pb::WatchContactsRequest { only_new: true, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    let third = recorded(3).await;
    assert_eq!(stream.next().await.unwrap().unwrap().event, Some(Event::Contact(third)));
}

chassis::db_tests!(
    a_contact_is_recorded_once_and_can_be_read,
    a_contact_must_be_in_a_channel_and_queue_that_exist,
    contacts_are_listed_by_arrival_page_by_page,
    contacts_can_be_watched_from_the_first_and_from_a_cursor,
);
