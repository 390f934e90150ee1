use chassis::testing::{Backend, fault};
use proto::complaints::v1 as pb;
use tonic::Code;

use crate::world::{World, customer, rid};

chassis::db_tests!(nonsense_to_any_call_is_answered_with_the_fields, empty_requests_are_refused_or_answered,);

macro_rules! refused {
    ($client:expr, $call:ident, $request:expr, $fields:expr) => {{
        let status = $client.$call($request).await.unwrap_err();
        let (code, reason, fields) = fault(&status);
        assert_eq!(
            (code, reason.as_str()),
            (Code::InvalidArgument, "INVALID_FIELD"),
            "{}: {status:?}",
            stringify!($call)
        );
        assert_eq!(fields, $fields, "{}", stringify!($call));
    }};
}

async fn nonsense_to_any_call_is_answered_with_the_fields(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let (request_id, complaint_id, etag) = ("\u{0}".to_owned(), "1".to_owned(), "e".repeat(65));
    let three = ["request_id", "complaint_id", "etag"];
    let and = |more: &[&'static str]| [&three[..], more].concat();
    let (r, c, e) = (|| request_id.clone(), || complaint_id.clone(), || etag.clone());
    let long = "x".repeat(100_000);
    refused!(client, get_complaint, pb::GetComplaintRequest { complaint_id: c() }, ["complaint_id"]);
    let request = pb::AcknowledgeComplaintRequest {
        request_id: r(),
        complaint_id: c(),
        etag: e(),
        owner_id: " ".into(),
        ..Default::default()
    };
    refused!(client, acknowledge_complaint, request, and(&["owner_id"]));
    let request = pb::EscalateComplaintRequest {
        request_id: r(),
        complaint_id: c(),
        etag: e(),
        owner_id: long.clone(),
        reason: "a\u{7}".into(),
        ..Default::default()
    };
    refused!(client, escalate_complaint, request, and(&["owner_id", "reason"]));
    let request = pb::AwaitCustomerRequest {
        request_id: r(),
        complaint_id: c(),
        etag: e(),
        reason: long.clone(),
        ..Default::default()
    };
    refused!(client, await_customer, request, and(&["reason"]));
    let request = pb::ResumeComplaintRequest { request_id: r(), complaint_id: c(), etag: e(), ..Default::default() };
    refused!(client, resume_complaint, request, and(&[]));
    let request = pb::ResolveComplaintRequest {
        request_id: r(),
        complaint_id: c(),
        etag: e(),
        answer: "\u{0}".into(),
        ..Default::default()
    };
    refused!(client, resolve_complaint, request, and(&["answer"]));
    let request = pb::ReopenComplaintRequest {
        request_id: r(),
        complaint_id: c(),
        etag: e(),
        reason: String::new(),
        ..Default::default()
    };
    refused!(client, reopen_complaint, request, and(&["reason"]));
    let request = pb::CloseComplaintRequest {
        request_id: r(),
        complaint_id: c(),
        etag: e(),
        customer_word: -7,
        ..Default::default()
    };
    refused!(client, close_complaint, request, and(&["customer_word"]));
    let request = pb::ListComplaintsRequest {
        states: vec![0, 77],
        owner_id: long.clone(),
        customer_id: "?".into(),
        due_before: Some(prost_types::Timestamp { seconds: i64::MIN, nanos: i32::MIN }),
        page_size: i32::MIN,
        page_token: String::new(),
    };
    let fields = ["states[0]", "states[1]", "owner_id", "customer_id", "due_before", "page_size"];
    refused!(client, list_complaints, request, fields);
    let request =
        pb::ListComplaintsRequest { states: vec![1; 7], page_size: 1_001, ..pb::ListComplaintsRequest::default() };
    refused!(client, list_complaints, request, ["states", "page_size"]);
    let cause = pb::Cause { cause_id: "Ä".into(), parent_id: "no good".into(), display_name: long };
    let request = pb::CreateCauseRequest { request_id: r(), cause: Some(cause) };
    refused!(client, create_cause, request, ["request_id", "cause.parent_id", "cause.cause_id", "cause.display_name"]);
    refused!(client, create_cause, pb::CreateCauseRequest { request_id: rid(), cause: None }, ["cause"]);
}

async fn empty_requests_are_refused_or_answered(backend: Backend) {
    let world = World::start(backend).await;
    let mut client = world.client();
    let three = ["request_id", "complaint_id", "etag"];
    let and = |more: &[&'static str]| [&three[..], more].concat();
    refused!(client, file_complaint, pb::FileComplaintRequest::default(), ["request_id", "complaint"]);
    refused!(client, get_complaint, pb::GetComplaintRequest::default(), ["complaint_id"]);
    refused!(client, acknowledge_complaint, pb::AcknowledgeComplaintRequest::default(), and(&["owner_id"]));
    refused!(client, assign_complaint, pb::AssignComplaintRequest::default(), and(&["owner_id"]));
    let ours = pb::AssignComplaintRequest { owner_id: "sweep ".into(), ..Default::default() };
    refused!(client, assign_complaint, ours, and(&["owner_id"]));
    refused!(client, escalate_complaint, pb::EscalateComplaintRequest::default(), and(&["reason"]));
    refused!(client, await_customer, pb::AwaitCustomerRequest::default(), and(&["reason"]));
    refused!(client, resume_complaint, pb::ResumeComplaintRequest::default(), and(&[]));
    refused!(client, resolve_complaint, pb::ResolveComplaintRequest::default(), and(&["answer"]));
    refused!(client, reopen_complaint, pb::ReopenComplaintRequest::default(), and(&["reason"]));
    refused!(client, close_complaint, pb::CloseComplaintRequest::default(), three);
    refused!(client, create_cause, pb::CreateCauseRequest::default(), ["request_id", "cause"]);
    client.list_complaints(pb::ListComplaintsRequest::default()).await.unwrap();
    client.list_causes(pb::ListCausesRequest {}).await.unwrap();
    // Any well-formed id of a customer may be asked for, known or not.
    let request =
        pb::ListComplaintsRequest { customer_id: customer(1).to_string(), ..pb::ListComplaintsRequest::default() };
    assert!(client.list_complaints(request).await.unwrap().into_inner().complaints.is_empty());
}
