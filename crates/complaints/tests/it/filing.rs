use chassis::testing::{Backend, eventually, fault};
use proto::{
    complaints::v1::{self as pb, ComplaintState, Severity},
    scoring::v1::Tier,
};
use tonic::Code;

use crate::world::{DESCRIPTION, World, customer, file, filing, get, hours, minutes, proto_at, read, rid};

chassis::db_tests!(
    a_filed_complaint_is_due_after_its_business_hours,
    a_filing_sent_again_gives_the_first_reply,
    a_request_id_with_another_body_is_refused,
    many_callers_with_one_request_id_file_one_complaint,
    the_tier_and_the_severity_decide_when_it_is_due,
    a_severity_that_is_not_given_is_moderate,
    a_complaint_of_an_unknown_cause_is_refused,
    all_that_is_wrong_with_a_filing_is_named_at_once,
    what_the_caller_may_not_set_is_ignored,
    a_complaint_is_read_with_its_history,
    what_has_run_is_computed_when_read,
);

async fn a_filed_complaint_is_due_after_its_business_hours(backend: Backend) {
    let world = World::start(backend).await;
    let complaint = file(&world.client(), customer(1)).await;
    // 24 business hours from Wednesday noon: five on Wednesday, eight on Thursday, eight on Friday, three on Monday.
    assert_eq!(complaint.due_time, proto_at("2026-01-19T12:00:00Z"));
    assert_eq!((complaint.allowed, complaint.elapsed), (hours(24), hours(0)));
    assert_eq!(complaint.state(), ComplaintState::Filed);
    assert_eq!((complaint.tier(), complaint.severity()), (Tier::Unspecified, Severity::Moderate));
    assert_eq!(
        (complaint.create_time, complaint.update_time),
        (complaint.update_time, proto_at("2026-01-14T12:00:00Z"))
    );
    assert!(!complaint.breached && complaint.owner_id.is_empty() && complaint.escalation_level == 0);
    assert_eq!(read(&world.client(), &complaint.complaint_id).await, complaint);
}

async fn a_filing_sent_again_gives_the_first_reply(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let request = filing(customer(1), Severity::Major);
    let first = client.file_complaint(request.clone()).await.unwrap().into_inner();
    world.pass(1);
    assert_eq!(client.file_complaint(request).await.unwrap().into_inner(), first);
    let all = client.list_complaints(pb::ListComplaintsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.complaints.len(), 1);
}

async fn a_request_id_with_another_body_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let first = filing(customer(1), Severity::Major);
    client.file_complaint(first.clone()).await.unwrap();
    let other = pb::FileComplaintRequest { request_id: first.request_id, ..filing(customer(1), Severity::Minor) };
    let (code, reason, fields) = fault(&client.file_complaint(other).await.unwrap_err());
    assert_eq!(
        (code, reason.as_str(), fields),
        (Code::InvalidArgument, "REQUEST_ID_REUSED", vec!["request_id".to_owned()])
    );
}

async fn many_callers_with_one_request_id_file_one_complaint(backend: Backend) {
    let world = World::start(backend).await;
    let request = filing(customer(1), Severity::Major);
    let calls = (0..20).map(|_| {
        let (mut client, request) = (world.client(), request.clone());
        tokio::spawn(async move { client.file_complaint(request).await.unwrap().into_inner() })
    });
    let replies: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    let all = world.client().list_complaints(pb::ListComplaintsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.complaints.len(), 1);
}

async fn the_tier_and_the_severity_decide_when_it_is_due(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let tiers = [Tier::Important, Tier::Major, Tier::Ordinary, Tier::Small];
    for (number, tier) in (1..).zip(tiers) {
        world.announce(customer(number), tier, 1).await;
    }
    // The last one has arrived when its complaint says so; the ones before it have arrived, too.
    eventually("the tiers have arrived", || {
        let client = world.client();
        async move { file(&client, customer(4)).await.tier() == Tier::Small }
    })
    .await;
    let mut allowed = Vec::new();
    for number in 1..=4 {
        let mut row = Vec::new();
        for severity in [Severity::Critical, Severity::Major, Severity::Moderate, Severity::Minor] {
            let request = filing(customer(number), severity);
            let complaint = client.file_complaint(request).await.unwrap().into_inner().complaint.unwrap();
            row.push(complaint.allowed.unwrap().seconds / 3600);
        }
        allowed.push(row);
    }
    assert_eq!(allowed, [[2, 4, 8, 16], [2, 6, 12, 24], [4, 12, 24, 40], [4, 16, 40, 56]]);
}

async fn a_severity_that_is_not_given_is_moderate(backend: Backend) {
    let world = World::start(backend).await;
    let reply = world.client().file_complaint(filing(customer(1), Severity::Unspecified)).await.unwrap().into_inner();
    assert_eq!(reply.complaint.unwrap().severity(), Severity::Moderate);
}

async fn a_complaint_of_an_unknown_cause_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    let mut request = filing(customer(1), Severity::Minor);
    request.complaint.as_mut().unwrap().cause_id = "bad-weather".into();
    let (code, reason, _) = fault(&world.client().file_complaint(request).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::NotFound, "NOT_FOUND"));
}

async fn all_that_is_wrong_with_a_filing_is_named_at_once(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let request = pb::FileComplaintRequest {
        request_id: String::new(),
        complaint: Some(pb::Complaint {
            customer_id: "me".into(),
            cause_id: "Bad Weather".into(),
            severity: 77,
            description: format!("{}\u{0}", "x".repeat(10)),
            ..pb::Complaint::default()
        }),
    };
    let (code, reason, fields) = fault(&client.file_complaint(request).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let expected =
        ["request_id", "complaint.severity", "complaint.customer_id", "complaint.cause_id", "complaint.description"];
    assert_eq!(fields, expected);

    let nothing = pb::FileComplaintRequest { request_id: rid(), complaint: None };
    assert_eq!(fault(&client.file_complaint(nothing).await.unwrap_err()).2, ["complaint"]);

    let mut long = filing(customer(1), Severity::Minor);
    long.complaint.as_mut().unwrap().description = "ж".repeat(4_000);
    client.file_complaint(long.clone()).await.unwrap();
    long.complaint.as_mut().unwrap().description.push('ж');
    assert_eq!(fault(&client.file_complaint(long).await.unwrap_err()).2, ["complaint.description"]);
}

async fn what_the_caller_may_not_set_is_ignored(backend: Backend) {
    let world = World::start(backend).await;
    let mut request = filing(customer(1), Severity::Minor);
    let complaint = request.complaint.as_mut().unwrap();
    complaint.complaint_id = customer(9).to_string();
    complaint.state = ComplaintState::Closed.into();
    complaint.owner_id = "me".into();
    complaint.escalation_level = 4;
    complaint.tier = Tier::Important.into();
    complaint.answer = "none".into();
    let filed = world.client().file_complaint(request).await.unwrap().into_inner().complaint.unwrap();
    assert_ne!(filed.complaint_id, customer(9).to_string());
    assert_eq!((filed.state(), filed.tier(), filed.escalation_level), (ComplaintState::Filed, Tier::Unspecified, 0));
    assert_eq!((filed.owner_id.as_str(), filed.answer.as_str()), ("", ""));
}

async fn a_complaint_is_read_with_its_history(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let filed = file(&client, customer(1)).await;
    let reply = get(&client, &filed.complaint_id).await;
    assert_eq!(reply.complaint.unwrap().description, DESCRIPTION);
    let steps: Vec<_> =
        reply.steps.iter().map(|step| (step.action.as_str(), step.state(), step.actor_id.clone())).collect();
    assert_eq!(steps, [("filed", ComplaintState::Filed, customer(1).to_string())]);

    let unknown = pb::GetComplaintRequest { complaint_id: customer(9).to_string() };
    let (code, reason, _) = fault(&client.get_complaint(unknown).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::NotFound, "NOT_FOUND"));
}

async fn what_has_run_is_computed_when_read(backend: Backend) {
    let world = World::start(backend).await;
    let filed = file(&world.client(), customer(1)).await;
    world.set("2026-01-15T09:30:00Z");
    let read = read(&world.client(), &filed.complaint_id).await;
    // From noon to five, and half an hour the next morning.
    assert_eq!(read.elapsed, minutes(5 * 60 + 30));
    assert_eq!((read.revision, read.due_time), (filed.revision, filed.due_time));
}
