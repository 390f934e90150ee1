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
use prost_reflect::{MethodDescriptor, prost::Message};
use proto::{profiles::v1 as profiles, scoring::v1 as scoring};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

chassis::db_tests!(every_field_at_its_ends_gets_a_named_error, random_messages_get_an_answer_or_a_named_error);

/// Calls at the same time, so that they meet each other, too.
const AT_ONCE: usize = 8;
/// Random messages to each RPC.
const RANDOM: usize = 200;

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
