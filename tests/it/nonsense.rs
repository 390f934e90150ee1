//! Nonsense to every RPC gets a named error that repeats nothing personal, and the services go on.
use std::collections::BTreeMap;

use chassis::{
    peers::Channel,
    testing::{Backend, eventually},
};
use clientele::client::{SERVICES, request};
use e2e::{
    nonsense::{self, PERSONAL},
    random::Random,
    wire,
    world::World,
};
use futures::StreamExt;
use prost_reflect::{DynamicMessage, MethodDescriptor, prost::Message};
use proto::{complaints::v1 as complaints, profiles::v1 as profiles, routing::v1 as routing, scoring::v1 as scoring};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

chassis::db_tests!(
    every_field_at_its_ends_gets_a_named_error,
    random_messages_get_an_answer_or_a_named_error,
    good_messages_with_one_bad_field_get_an_answer_or_a_named_error,
);

/// Calls at the same time, so that they meet each other, too.
const AT_ONCE: usize = 8;
/// Random messages to each RPC.
const RANDOM: usize = 100;

async fn every_field_at_its_ends_gets_a_named_error(backend: Backend) {
    let world = World::start(backend, e2e::cdnow::clock()).await;
    let mut calls = Vec::new();
    for method in wire::methods() {
        let input = method.input();
        let send = |what: String, messages: Vec<Vec<u8>>| Sent { method: method.clone(), what, messages };
        calls.push(send("an empty message".into(), vec![Vec::new()]));
        for taste in nonsense::extremes() {
            let message = nonsense::filled(&input, &taste).encode_to_vec();
            let mut text: String = taste.text.chars().take(20).collect();
            text.truncate(text.char_indices().nth(20).map_or(text.len(), |(at, _)| at));
            let what = format!("{:?}", nonsense::Taste { text, ..taste });
            calls.push(send(what, vec![message.clone()]));
            if message.len() > 1 && message.len() < 10_000 {
                // Cut in the middle, which is not even protobuf any more, mostly.
                calls.push(send("half a message".into(), vec![message[..message.len() / 2].to_vec()]));
                calls.push(send("a message less its last byte".into(), vec![message[..message.len() - 1].to_vec()]));
            }
        }
        for bytes in [
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            b"\x0a\xff",
            b"\x0a\x02\xc3\x28",
            b"\0",
            b"no protobuf",
        ] {
            calls.push(send(format!("{bytes:?}"), vec![bytes.to_vec()]));
        }
        calls.push(send("more than the server takes".into(), vec![vec![0x0a; 5 * 1024 * 1024]]));
        if !method.is_client_streaming() {
            calls.push(send("no message at all".into(), Vec::new()));
        }
    }
    send_all(&world, calls).await;
}

async fn random_messages_get_an_answer_or_a_named_error(backend: Backend) {
    let world = World::start(backend, e2e::cdnow::clock()).await;
    let known = known(&world).await;
    let mut random = Random::new(0x0c11_e47e);
    let mut calls = Vec::new();
    for round in 0..RANDOM {
        for method in wire::methods() {
            let input = method.input();
            let count = if method.is_client_streaming() { random.below(4) } else { 1 };
            let messages: Vec<_> = (0..count).map(|_| nonsense::random(&input, &known, &mut random)).collect();
            let what = format!("random message {round}: {messages:?}");
            let messages = messages.iter().map(Message::encode_to_vec).collect();
            calls.push(Sent { method: method.clone(), what, messages });
        }
    }
    let codes = send_all(&world, calls).await;
    // Messages that are all refused for the same reason would prove little.
    let fine = codes.iter().filter(|(_, codes)| codes.contains_key("Ok")).count();
    assert!(fine * 3 > codes.len(), "only {fine} RPCs took anything of it: {codes:?}");
}

async fn good_messages_with_one_bad_field_get_an_answer_or_a_named_error(backend: Backend) {
    let world = World::start(backend, e2e::cdnow::clock()).await;
    let good = Good::new(&world).await;
    let mut number = 10_000_000;
    let mut calls = Vec::new();
    for method in wire::methods() {
        let message = good.message(method.name(), MARK);
        // Each has ids of its own, so that none is a replay of another.
        let mut own = |message: &DynamicMessage| {
            number += 1;
            replace(message.encode_to_vec(), MARK.as_bytes(), number.to_string().as_bytes())
        };
        let message = DynamicMessage::decode(method.input(), message.as_slice()).unwrap();
        if let Err(status) = wire::call(&world.server.channel(), &method, vec![own(&message)]).await {
            // Good, though not always allowed where things stand.
            assert_ne!(status.code(), Code::InvalidArgument, "{}: {status:?}", method.full_name());
        }
        // Among the spoiled ones: of some messages nothing can be spoiled without a refusal.
        let what = "a good message".to_owned();
        calls.push(Sent { method: method.clone(), what, messages: vec![own(&message)] });
        for (path, spoiled) in nonsense::spoiled(&message) {
            let mut what: String = format!("a good message but for {path}: {spoiled:?}");
            what.truncate(what.char_indices().nth(800).map_or(what.len(), |(at, _)| at));
            calls.push(Sent { method: method.clone(), what, messages: vec![own(&spoiled)] });
        }
    }
    assert!(calls.len() > 2_000, "{}", calls.len());
    let codes = send_all(&world, calls).await;
    // One that is refused whatever is spoiled, and unspoiled too, was never good.
    let never: Vec<_> = codes.iter().filter(|(_, codes)| codes.keys().all(|code| code == "InvalidArgument")).collect();
    assert!(never.is_empty(), "{never:?}");
}

/// Stands in good messages for a number of each one's own, and is as long.
const MARK: &str = "77777777";

fn replace(mut bytes: Vec<u8>, mark: &[u8], own: &[u8]) -> Vec<u8> {
    for at in 0..bytes.len().saturating_sub(mark.len() - 1) {
        if bytes[at..].starts_with(mark) {
            bytes[at..at + own.len()].copy_from_slice(own);
        }
    }
    bytes
}

/// Good messages, and what they speak of.
struct Good {
    customer: profiles::Customer,
    complaint: complaints::Complaint,
    channel: routing::Channel,
    queue: routing::Queue,
    contact: String,
    operation: String,
    segment: scoring::Segment,
}

impl Good {
    async fn new(world: &World) -> Self {
        let client = &world.client;
        let id = e2e::calls::ensure(client, &["1"]).await.swap_remove(0);
        e2e::calls::buy(client, &id, "1", 10_000).await;
        let complaint = e2e::calls::file(client, &id).await;
        let (customer, _) = e2e::calls::full(client, &id).await;
        let channel = routing::GetChannelRequest { channel_id: "visit".into() };
        let channel = client.routing().get_channel(request(channel)).await.unwrap().into_inner().channel.unwrap();
        let queue = routing::GetQueueRequest { queue_id: "phone-general".into() };
        let queue = client.routing().get_queue(request(queue)).await.unwrap().into_inner().queue.unwrap();
        let fit = scoring::FitModelsRequest { request_id: "fit".into(), ..Default::default() };
        let operation = client.scoring().fit_models(request(fit)).await.unwrap().into_inner().operation_id;
        let segment = client.scoring().create_segment(request(Self::segment("known", "known"))).await.unwrap();
        let segment = segment.into_inner().segment.unwrap();
        let good = Self { customer, complaint, channel, queue, contact: String::new(), operation, segment };
        let contact = routing::RecordContactRequest { request_id: "0".into(), contact: Some(good.contact()) };
        let contact = client.routing().record_contact(request(contact)).await.unwrap().into_inner().contact.unwrap();
        Self { contact: contact.contact_id, ..good }
    }

    fn segment(request_id: &str, segment_id: &str) -> scoring::CreateSegmentRequest {
        let segment = scoring::Segment {
            segment_id: segment_id.to_owned(),
            display_name: "A segment".into(),
            description: "Those who came back.".into(),
            expression: "occasions > 1 && tier in ['IMPORTANT', 'MAJOR']".into(),
            ..Default::default()
        };
        scoring::CreateSegmentRequest { request_id: request_id.to_owned(), segment: Some(segment) }
    }

    fn contact(&self) -> routing::Contact {
        let time = |text: &str| Some(chassis::clock::to_proto(text.parse().unwrap()));
        routing::Contact {
            customer_id: self.customer.customer_id.clone(),
            decision_id: self.customer.customer_id.clone(),
            channel_id: "phone".into(),
            queue_id: "phone-general".into(),
            purpose: routing::ContactPurpose::Order.into(),
            arrive_time: time("1998-06-30T13:00:00Z"),
            answer_time: time("1998-06-30T13:00:05Z"),
            end_time: time("1998-06-30T13:01:00Z"),
            outcome: routing::ContactOutcome::Sold.into(),
            agent_id: "agent-7".into(),
            ..Default::default()
        }
    }

    fn person(mark: &str) -> profiles::Customer {
        profiles::Customer {
            kind: Some(profiles::customer::Kind::Person(profiles::Person {
                given_name: "Ada".into(),
                family_name: "Example".into(),
                birth_date: "1960-02-29".into(),
                employer: "Example Ltd".into(),
                position: "Buyer".into(),
            })),
            identities: vec![profiles::ExternalIdentity { system: "crm".into(), id: mark.to_owned() }],
            phones: vec!["+441632960000".into()],
            mails: vec!["ada@example.com".into()],
            addresses: vec![profiles::Address {
                lines: vec!["1 Example Street".into()],
                locality: "Example".into(),
                postal_code: "EX1 1EX".into(),
                region_code: "GB".into(),
            }],
            acquisition_source: profiles::AcquisitionSource::Phone.into(),
            acquisition_cost: Some(proto::common::v1::Money { currency_code: "USD".into(), minor_units: 500 }),
            showed_interest: true,
            targeted: true,
            ..Default::default()
        }
    }

    /// What an RPC takes.
    fn message(&self, method: &str, mark: &str) -> Vec<u8> {
        let request_id = format!("request-{mark}");
        let customer_id = self.customer.customer_id.clone();
        let (complaint_id, etag) = (self.complaint.complaint_id.clone(), self.complaint.etag.clone());
        let reason = "They asked for it.".to_owned();
        let actor_id = "lead-3".to_owned();
        let as_of = Some(scoring::Date { year: 1998, month: 6, day: 30 });
        let moment = Some(chassis::clock::to_proto("1998-06-30T12:00:00Z".parse().unwrap()));
        let sale = e2e::calls::sale(&customer_id, &request_id, "1998-06-30T12:00:00Z", 100);
        let mask = |paths: &[&str]| {
            Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
        };
        let channel_id = format!("channel-{mark}");
        match method {
            "EnsureCustomers" => {
                let identity = Some(profiles::ExternalIdentity { system: "shop".into(), id: request_id });
                let customer = Some(profiles::Customer { identities: Vec::new(), ..Self::person(mark) });
                profiles::EnsureCustomersRequest { items: vec![profiles::EnsureCustomer { identity, customer }] }
                    .encode_to_vec()
            }
            "CreateCustomer" => {
                profiles::CreateCustomerRequest { request_id, customer: Some(Self::person(mark)) }.encode_to_vec()
            }
            "GetCustomer" => profiles::GetCustomerRequest { customer_id, view: 2 }.encode_to_vec(),
            "ResolveIdentity" => {
                profiles::ResolveIdentityRequest { identity: self.customer.identities.first().cloned() }.encode_to_vec()
            }
            "BatchGetCustomers" => {
                profiles::BatchGetCustomersRequest { customer_ids: vec![customer_id] }.encode_to_vec()
            }
            "ListCustomers" => {
                let filter = profiles::CustomerFilter {
                    kind: 1,
                    codes: vec![3],
                    tiers: vec![4],
                    stages: vec![1],
                    relationships: vec![4],
                    name_prefix: "Ex".into(),
                    system: "shop".into(),
                    with_open_complaints: true,
                };
                profiles::ListCustomersRequest { filter: Some(filter), order: 3, page_size: 10, ..Default::default() }
                    .encode_to_vec()
            }
            "UpdateCustomer" => {
                let customer = profiles::Customer {
                    customer_id,
                    etag: self.customer.etag.clone(),
                    identities: self.customer.identities.clone(),
                    ..Self::person(mark)
                };
                let update_mask = mask(&["person.given_name", "phones", "addresses", "acquisition_cost"]);
                profiles::UpdateCustomerRequest { request_id, customer: Some(customer), update_mask }.encode_to_vec()
            }
            "RecordPurchases" => sale.encode_to_vec(),
            "StreamPurchases" => scoring::StreamPurchasesRequest { purchases: sale.purchases }.encode_to_vec(),
            "RecordServiceCosts" => {
                let amount = Some(proto::common::v1::Money { currency_code: "USD".into(), minor_units: 50 });
                let cost = scoring::ServiceCost {
                    source: "shop".into(),
                    cost_id: request_id,
                    customer_id,
                    cost_time: moment,
                    amount,
                };
                scoring::RecordServiceCostsRequest { costs: vec![cost] }.encode_to_vec()
            }
            "RecordPayments" => {
                let amount = Some(proto::common::v1::Money { currency_code: "USD".into(), minor_units: 100 });
                let payment = scoring::Payment {
                    source: "shop".into(),
                    payment_id: request_id,
                    customer_id,
                    issue_time: moment,
                    due_time: moment,
                    amount: amount.clone(),
                    paid_time: moment,
                    paid_amount: amount,
                    trouble: 2,
                };
                scoring::RecordPaymentsRequest { payments: vec![payment] }.encode_to_vec()
            }
            "ListPurchases" => {
                scoring::ListPurchasesRequest { customer_id, page_size: 10, ..Default::default() }.encode_to_vec()
            }
            "FitModels" => scoring::FitModelsRequest { request_id, as_of, trial: true }.encode_to_vec(),
            "HoldOut" => {
                let until = Some(scoring::Date { year: 1997, month: 9, day: 30 });
                scoring::HoldOutRequest { request_id, until, as_of }.encode_to_vec()
            }
            "ListScores" => {
                scoring::ListScoresRequest { as_of: moment, page_size: 10, ..Default::default() }.encode_to_vec()
            }
            "RankCustomers" => scoring::RankCustomersRequest { request_id, as_of }.encode_to_vec(),
            "GetOperation" => scoring::GetOperationRequest { operation_id: self.operation.clone() }.encode_to_vec(),
            "WaitOperation" => {
                let timeout = Some(prost_types::Duration { seconds: 1, nanos: 1 });
                scoring::WaitOperationRequest { operation_id: self.operation.clone(), timeout }.encode_to_vec()
            }
            "GetScore" => {
                scoring::GetScoreRequest { customer_id, as_of: moment, with_evidence: true, with_assessment: true }
                    .encode_to_vec()
            }
            "BatchGetScores" => {
                let customer_ids = vec![customer_id];
                scoring::BatchGetScoresRequest {
                    customer_ids,
                    as_of: moment,
                    with_evidence: true,
                    with_assessment: true,
                }
                .encode_to_vec()
            }
            "GetTransitions" => scoring::GetTransitionsRequest { from: as_of, to: as_of }.encode_to_vec(),
            "CreateSegment" => Self::segment(&request_id, &format!("segment-{mark}")).encode_to_vec(),
            "GetSegment" => {
                scoring::GetSegmentRequest { segment_id: "known".into(), with_values: true }.encode_to_vec()
            }
            "UpdateSegment" => {
                let (segment, update_mask) = (Some(self.segment.clone()), mask(&["display_name", "expression"]));
                scoring::UpdateSegmentRequest { request_id, segment, update_mask }.encode_to_vec()
            }
            "DeleteSegment" => {
                let (segment_id, etag) = (format!("segment-{mark}"), "1".into());
                scoring::DeleteSegmentRequest { request_id, segment_id, etag }.encode_to_vec()
            }
            "PreviewSegment" => {
                let expression = self.segment.expression.clone();
                scoring::PreviewSegmentRequest { expression }.encode_to_vec()
            }
            "ListSegmentMembers" => {
                let segment_id = "known".into();
                scoring::ListSegmentMembersRequest { segment_id, page_size: 10, ..Default::default() }.encode_to_vec()
            }
            "WatchSegment" => {
                scoring::WatchSegmentRequest { segment_id: "known".into(), ..Default::default() }.encode_to_vec()
            }
            "ClusterCustomers" => scoring::ClusterCustomersRequest { request_id, clusters: 2, seed: 1 }.encode_to_vec(),
            "Decide" => e2e::calls::call_of(&customer_id).encode_to_vec(),
            "RecordContact" => {
                routing::RecordContactRequest { request_id, contact: Some(self.contact()) }.encode_to_vec()
            }
            "GetContact" => routing::GetContactRequest { contact_id: self.contact.clone() }.encode_to_vec(),
            "ListContacts" => {
                routing::ListContactsRequest { customer_id, page_size: 10, ..Default::default() }.encode_to_vec()
            }
            "GetChannel" => routing::GetChannelRequest { channel_id: "phone".into() }.encode_to_vec(),
            "CreateChannel" => {
                let channel = routing::Channel { channel_id, etag: String::new(), ..self.channel.clone() };
                routing::CreateChannelRequest { request_id, channel: Some(channel) }.encode_to_vec()
            }
            "UpdateChannel" => {
                let update_mask = mask(&["display_name", "opening_hours", "capacity", "cost_per_contact"]);
                let channel = Some(self.channel.clone());
                routing::UpdateChannelRequest { request_id, channel, update_mask }.encode_to_vec()
            }
            "GetQueue" => routing::GetQueueRequest { queue_id: "phone-general".into() }.encode_to_vec(),
            "CreateQueue" => {
                let queue = routing::Queue {
                    queue_id: format!("queue-{mark}"),
                    etag: String::new(),
                    tiers: vec![4],
                    purposes: vec![3],
                    ..self.queue.clone()
                };
                routing::CreateQueueRequest { request_id, queue: Some(queue) }.encode_to_vec()
            }
            "UpdateQueue" => {
                let update_mask = mask(&["display_name", "priority", "target_answer_time", "tiers"]);
                let queue = Some(self.queue.clone());
                routing::UpdateQueueRequest { request_id, queue, update_mask }.encode_to_vec()
            }
            "FileComplaint" => {
                complaints::FileComplaintRequest { request_id, ..e2e::calls::complaint_of(&customer_id) }
                    .encode_to_vec()
            }
            "GetComplaint" => complaints::GetComplaintRequest { complaint_id }.encode_to_vec(),
            "ListComplaints" => complaints::ListComplaintsRequest {
                states: vec![1],
                customer_id,
                due_before: moment,
                page_size: 10,
                ..Default::default()
            }
            .encode_to_vec(),
            "AcknowledgeComplaint" => {
                let owner_id = "agent-7".into();
                complaints::AcknowledgeComplaintRequest { request_id, complaint_id, etag, owner_id, actor_id }
                    .encode_to_vec()
            }
            "AssignComplaint" => {
                let owner_id = "agent-9".into();
                complaints::AssignComplaintRequest { request_id, complaint_id, etag, owner_id, reason, actor_id }
                    .encode_to_vec()
            }
            "EscalateComplaint" => {
                let owner_id = "agent-8".into();
                complaints::EscalateComplaintRequest { request_id, complaint_id, etag, owner_id, reason, actor_id }
                    .encode_to_vec()
            }
            "AwaitCustomer" => {
                complaints::AwaitCustomerRequest { request_id, complaint_id, etag, reason, actor_id }.encode_to_vec()
            }
            "ResumeComplaint" => {
                complaints::ResumeComplaintRequest { request_id, complaint_id, etag, actor_id }.encode_to_vec()
            }
            "ResolveComplaint" => {
                complaints::ResolveComplaintRequest { request_id, complaint_id, etag, answer: reason, actor_id }
                    .encode_to_vec()
            }
            "ReopenComplaint" => {
                complaints::ReopenComplaintRequest { request_id, complaint_id, etag, reason, actor_id }.encode_to_vec()
            }
            "CloseComplaint" => {
                complaints::CloseComplaintRequest { request_id, complaint_id, etag, customer_word: 1, actor_id }
                    .encode_to_vec()
            }
            "CreateCause" => {
                let cause = complaints::Cause {
                    cause_id: format!("cause-{mark}"),
                    parent_id: "delivery".into(),
                    display_name: "A cause".into(),
                };
                complaints::CreateCauseRequest { request_id, cause: Some(cause) }.encode_to_vec()
            }
            // The rest takes an empty message.
            _ => Vec::new(),
        }
    }
}

/// Values that make a random message likelier to be taken: ids that are there, and words with a meaning somewhere.
async fn known(world: &World) -> Vec<String> {
    let ensure = |id: &str| {
        let identity = profiles::ExternalIdentity { system: "shop".into(), id: id.into() };
        profiles::EnsureCustomer { identity: Some(identity), customer: None }
    };
    let items = (0..4).map(|number| ensure(&number.to_string())).collect();
    let reply =
        world.client.profiles().ensure_customers(request(profiles::EnsureCustomersRequest { items })).await.unwrap();
    let mut known: Vec<_> = reply.into_inner().customers.into_iter().map(|customer| customer.customer_id).collect();
    // Followed by all, so that what is sent finds them.
    eventually("scoring knows the customers", || async {
        let get = scoring::GetScoreRequest { customer_id: known[3].clone(), ..Default::default() };
        world.client.scoring().get_score(request(get)).await.is_ok()
    })
    .await;
    let client = &world.client;
    let customer = known[0].clone();
    for number in 0..3 {
        let filed =
            complaints::FileComplaintRequest { request_id: number.to_string(), ..e2e::calls::complaint_of(&customer) };
        let filed = client.complaints().file_complaint(request(filed)).await.unwrap().into_inner().complaint.unwrap();
        known.extend([filed.complaint_id, filed.etag]);
    }
    let record = profiles::GetCustomerRequest { customer_id: customer, ..Default::default() };
    let record = client.profiles().get_customer(request(record)).await.unwrap().into_inner().customer.unwrap();
    let channel = routing::GetChannelRequest { channel_id: "phone".into() };
    let channel = client.routing().get_channel(request(channel)).await.unwrap().into_inner().channel.unwrap();
    let fit = scoring::FitModelsRequest { request_id: "fit".into(), ..Default::default() };
    let fit = client.scoring().fit_models(request(fit)).await.unwrap().into_inner();
    known.extend([record.etag, channel.etag, fit.operation_id]);
    known.extend(known.clone());
    let words = [
        "",
        "a",
        "shop",
        "phone",
        "chat",
        "visit",
        "phone-general",
        "delivery",
        "USD",
        "EUR",
        "GB",
        "09:00",
        "17:00",
        "1",
        "1970-01-01",
        "1998-06-30",
        "+441632960000",
        "a@example.com",
        "agent-7",
        "display_name",
        "expression",
        "known",
        "occasions > 1",
        "tier == 'MAJOR'",
        "person",
        "phones",
        "channel_id",
        "etag",
        "0",
        "0198c000-0000-7000-8000-000000000000",
        PERSONAL,
        "\0",
        "AAAA",
        "not a uuid",
    ];
    known.extend(words.map(str::to_owned));
    known
}

struct Sent {
    method: MethodDescriptor,
    what: String,
    messages: Vec<Vec<u8>>,
}

type Codes = BTreeMap<String, BTreeMap<String, usize>>;

/// Sends everything, in any order, and gathers all that is wrong with the answers.
async fn send_all(world: &World, calls: Vec<Sent>) -> Codes {
    let channel = &world.server.channel();
    let answers = futures::stream::iter(calls).map(|sent| async move {
        let answer = wire::call(channel, &sent.method, sent.messages).await;
        let (code, fault) = match answer {
            Ok(_) => (Code::Ok, None),
            Err(status) => (status.code(), wrong(&status)),
        };
        let what: String = sent.what.chars().take(600).collect();
        (sent.method.full_name().to_owned(), code, fault.map(|fault| format!("{fault}\n    to {what}")))
    });
    let mut answers = answers.buffer_unordered(AT_ONCE);
    let (mut codes, mut faults) = (Codes::new(), BTreeMap::<String, Vec<String>>::new());
    while let Some((method, code, fault)) = answers.next().await {
        *codes.entry(method.clone()).or_default().entry(format!("{code:?}")).or_default() += 1;
        if let Some(fault) = fault {
            faults.entry(method).or_default().push(fault);
        }
    }
    healthy(channel).await;
    let report: Vec<_> = faults
        .iter()
        .map(|(method, faults)| {
            let first: Vec<_> = faults.iter().take(3).map(String::as_str).collect();
            format!("{method}: {} answers, such as\n  {}", faults.len(), first.join("\n  "))
        })
        .collect();
    assert!(faults.is_empty(), "{}", report.join("\n"));
    codes
}

/// What is wrong with an error, if anything.
fn wrong(status: &Status) -> Option<String> {
    let told = || format!("{:?} {:?}", status.code(), status.message().chars().take(300).collect::<String>());
    if matches!(status.code(), Code::Internal | Code::Unknown | Code::Unimplemented) {
        return Some(format!("a fault of ours: {}", told()));
    }
    let Some(info) = status.get_details_error_info() else { return Some(format!("no ErrorInfo: {}", told())) };
    if info.reason.is_empty() || info.domain != "clientele" {
        return Some(format!("reason {:?} of domain {:?}: {}", info.reason, info.domain, told()));
    }
    if status.code() == Code::InvalidArgument {
        let named = status.get_details_bad_request().is_some_and(|bad| {
            !bad.field_violations.is_empty()
                && bad.field_violations.iter().all(|one| !one.field.is_empty() && !one.description.is_empty())
        });
        if !named {
            return Some(format!("names no field: {}", told()));
        }
    }
    let repeats = |bytes: &[u8]| bytes.windows(PERSONAL.len()).any(|window| window == PERSONAL.as_bytes());
    if repeats(status.message().as_bytes()) || repeats(status.details()) {
        return Some(format!("repeats what was sent: {}", told()));
    }
    None
}

async fn healthy(channel: &Channel) {
    for service in [String::new()].into_iter().chain(SERVICES.map(grpc_name)) {
        let request = HealthCheckRequest { service };
        let reply = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(reply.into_inner().status, 1);
    }
}

fn grpc_name(service: &str) -> String {
    let mut name = service.to_owned();
    name[..1].make_ascii_uppercase();
    format!("clientele.{service}.v1.{name}")
}
