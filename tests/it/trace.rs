//! A decision can be traced back to the purchase that changed it: each service in a process of its own, all exporting to one collector.
use std::{collections::HashMap, time::Duration};

use chassis::testing::{
    Backend, eventually,
    otlp::{Receiver, Span},
};
use clientele::client::request;
use e2e::{
    calls::{buy, call_of, complaint_of, decide, ensure, file, full, sale},
    program::Split,
};
use proto::{complaints::v1 as complaints, profiles::v1 as profiles, routing::v1 as routing, scoring::v1 as scoring};
use tonic::Request;

use crate::PROGRAM;

/// How long spans may take to arrive.
const LIMIT: Duration = Duration::from_secs(30);
/// And how long those of a follower that may have come too late.
const PATIENCE: Duration = Duration::from_secs(8);
/// What must be in no span: all that the test says of a person.
const PERSONAL: [&str; 6] = ["Mustermann", "Erika", "example.com", "1632960000", "two weeks late", "card-4711"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_shows_every_edge_between_the_services_and_nobody_s_data() {
    let receiver = Receiver::start().unwrap();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())];
    let suite = Split::start(PROGRAM, Backend::Sqlite, &[], &environment).await;
    let client = &suite.client;

    let customer = profiles::Customer {
        kind: Some(profiles::customer::Kind::Person(profiles::Person {
            given_name: "Erika".into(),
            family_name: "Mustermann".into(),
            ..Default::default()
        })),
        identities: vec![profiles::ExternalIdentity { system: "shop".into(), id: "card-4711".into() }],
        phones: vec!["+441632960000".into()],
        mails: vec!["erika@example.com".into()],
        ..Default::default()
    };
    let create = profiles::CreateCustomerRequest { request_id: "create".into(), customer: Some(customer) };
    let created = client.profiles().create_customer(request(create)).await.unwrap().into_inner();
    let id = created.customer.unwrap().customer_id;

    // The purchase changes where the customer stands; who follows continues its trace. (Who was not there yet when it happened reads it from a
    // snapshot, which has no cause; then the next one shows it.)
    let record = "clientele.scoring.v1.Scoring/RecordPurchases";
    let followers = ["routing", "profiles", "complaints"];
    let mut bought = None;
    for number in 1..=5 {
        let caller = Caller::new(number);
        let sale = sale(&id, &number.to_string(), &format!("1998-06-0{number}T13:00:00Z"), 10_000);
        client.scoring().record_purchases(caller.request(sale)).await.unwrap();
        let spans = caller.spans(&receiver, PATIENCE, |spans| {
            find(spans, "server", record).is_some()
                && followers.iter().all(|service| followed(spans, service).is_some())
        });
        bought = spans.await.map(|spans| (caller, spans));
        if bought.is_some() {
            break;
        }
    }
    let (caller, spans) = bought.expect("the purchase and all who follow it in one trace");
    let recorded = one(&spans, "server", record);
    assert_eq!((recorded.service.as_str(), recorded.parent_id.as_str()), ("scoring", caller.span.as_str()));
    for service in followers {
        let follower = followed(&spans, service).unwrap();
        assert!(descends(&spans, follower, recorded), "{service}: {follower:?} is not below {recorded:?}");
    }

    // A full view asks two peers on behalf of its caller.
    let view = Caller::new(11);
    let get = profiles::GetCustomerRequest { customer_id: id.clone(), view: profiles::CustomerView::Full.into() };
    client.profiles().get_customer(view.request(get)).await.unwrap();
    let servers = [
        "clientele.profiles.v1.Profiles/GetCustomer",
        "clientele.scoring.v1.Scoring/GetScore",
        "clientele.complaints.v1.Complaints/ListComplaints",
    ];
    let spans = view.spans(&receiver, LIMIT, |spans| {
        servers.iter().all(|name| find(spans, "server", name).is_some())
            && servers[1..].iter().all(|name| find(spans, "client", name).is_some())
    });
    let spans = spans.await.unwrap();
    let asked = one(&spans, "server", servers[0]);
    assert_eq!((asked.service.as_str(), asked.parent_id.as_str()), ("profiles", view.span.as_str()));
    for (name, service) in [(servers[1], "scoring"), (servers[2], "complaints")] {
        let (there, here) = (one(&spans, "server", name), one(&spans, "client", name));
        assert_eq!((there.service.as_str(), here.service.as_str()), (service, "profiles"));
        assert_eq!(there.parent_id, here.span_id, "the peer's span is a child of the call to it");
        assert!(descends(&spans, here, asked));
    }

    // A complaint reaches whoever must not sell now.
    let complain = "clientele.complaints.v1.Complaints/FileComplaint";
    let followers = ["routing", "profiles"];
    let mut complained = None;
    for number in 20..25 {
        let caller = Caller::new(number);
        let filed = complaints::FileComplaintRequest { request_id: number.to_string(), ..complaint_of(&id) };
        client.complaints().file_complaint(caller.request(filed)).await.unwrap();
        let spans = caller.spans(&receiver, PATIENCE, |spans| {
            find(spans, "server", complain).is_some()
                && followers.iter().all(|service| followed(spans, service).is_some())
        });
        complained = spans.await;
        if complained.is_some() {
            break;
        }
    }
    let spans = complained.expect("the complaint and all who follow it in one trace");
    let filed = one(&spans, "server", complain);
    for service in followers {
        assert!(descends(&spans, followed(&spans, service).unwrap(), filed), "{service}");
    }

    // A contact asks nobody: one span.
    let contact = Caller::new(13);
    client.routing().decide(contact.request(call_of(&id))).await.unwrap();
    let spans = contact.spans(&receiver, LIMIT, |spans| !spans.is_empty()).await.unwrap();
    let decided = one(&spans, "server", "clientele.routing.v1.Routing/Decide");
    assert_eq!((decided.parent_id.as_str(), spans.len()), (contact.span.as_str(), 1), "{spans:?}");
    assert!(!decided.is_error);

    // Ask for more of what is personal, then look at all that was exported.
    file(client, &id).await;
    full(client, &id).await;
    let identity = profiles::ExternalIdentity { system: "shop".into(), id: "card-4711".into() };
    let resolve = profiles::ResolveIdentityRequest { identity: Some(identity) };
    let last = Caller::new(14);
    client.profiles().resolve_identity(last.request(resolve)).await.unwrap();
    last.spans(&receiver, LIMIT, |spans| !spans.is_empty()).await.unwrap();
    for span in receiver.spans() {
        let text = format!("{span:?}");
        assert!(!PERSONAL.iter().any(|word| text.contains(word)), "personal data in {text}");
    }
    let logs = suite.logs();
    assert!(!PERSONAL.iter().any(|word| logs.contains(word)), "personal data in the logs: {logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_linked_to_the_purchase_that_moved_the_customer() {
    let receiver = Receiver::start().unwrap();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())];
    let suite = Split::start(PROGRAM, Backend::Sqlite, &[], &environment).await;
    let client = &suite.client;
    let ids = ensure(client, &["first", "second"]).await;
    // What happened before routing followed comes from a snapshot, which has no causes; the second purchase comes as a change. The record is
    // known before it, or that would change the standing once more.
    buy(client, &ids[0], "first", 10_000).await;
    eventually("routing follows", || async { has_bought(&decide(client, &ids[0]).await) }).await;
    eventually("routing knows the record", || async { decide(client, &ids[1]).await.standing.is_some() }).await;

    let buyer = Caller::new(31);
    let sale = sale(&ids[1], "second", "1998-06-30T13:00:00Z", 10_000);
    client.scoring().record_purchases(buyer.request(sale)).await.unwrap();
    eventually("routing knows the buyer", || async { has_bought(&decide(client, &ids[1]).await) }).await;
    let contact = Caller::new(32);
    client.routing().decide(contact.request(call_of(&ids[1]))).await.unwrap();

    let decided = contact.spans(&receiver, LIMIT, |spans| !spans.is_empty()).await.unwrap().swap_remove(0);
    let links = &decided.links;
    assert!(links.len() == 1 && links[0].trace_id == buyer.trace, "{decided:#?} is not linked to {}", buyer.trace);
    // To the very call, whatever else its follower took in with it.
    let record = "clientele.scoring.v1.Scoring/RecordPurchases";
    let spans = buyer.spans(&receiver, LIMIT, |spans| {
        find(spans, "server", record).is_some() && spans.iter().any(|span| span.span_id == links[0].span_id)
    });
    let spans = spans.await.unwrap();
    let cause = spans.iter().find(|span| span.span_id == links[0].span_id).unwrap();
    let purchase = one(&spans, "server", record);
    assert_eq!(cause.service, "scoring");
    assert!(cause == purchase || descends(&spans, cause, purchase), "{spans:#?}");
}

/// Whether the decision knows of a purchase: of a record alone, scoring says only what it may become.
fn has_bought(decided: &routing::DecideResponse) -> bool {
    use scoring::Relationship::{FirstTime, Loyal, Repeat};
    let standing = decided.standing.as_ref();
    standing.is_some_and(|standing| matches!(standing.relationship(), FirstTime | Repeat | Loyal))
}

/// Somebody else's system, with a trace of its own.
struct Caller {
    trace: String,
    span: String,
}

impl Caller {
    fn new(number: u8) -> Self {
        Self {
            trace: format!("{:032x}", 0xc0ff_ee00 + u64::from(number)),
            span: format!("{:016x}", 0xca_1100 + u64::from(number)),
        }
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = request(message);
        let context = format!("00-{}-{}-01", self.trace, self.span);
        request.metadata_mut().insert("traceparent", context.parse().unwrap());
        request
    }

    /// The spans of this trace, if there are enough in time.
    async fn spans(&self, receiver: &Receiver, limit: Duration, enough: impl Fn(&[Span]) -> bool) -> Option<Vec<Span>> {
        let own = |spans: &[Span]| -> Vec<Span> {
            spans.iter().filter(|span| span.trace_id == self.trace).cloned().collect()
        };
        match receiver.wait_for(|spans| enough(&own(spans)), limit).await {
            Ok(spans) => Some(own(&spans)),
            Err(late) => {
                println!("not enough in trace {}: {:#?}", self.trace, own(&late.arrived));
                None
            }
        }
    }
}

fn find<'s>(spans: &'s [Span], kind: &str, name: &str) -> Option<&'s Span> {
    spans.iter().find(|span| span.kind == kind && span.name == name)
}

fn one<'s>(spans: &'s [Span], kind: &str, name: &str) -> &'s Span {
    find(spans, kind, name).unwrap_or_else(|| panic!("no {kind} span {name} in {spans:#?}"))
}

/// What a service did because of news.
fn followed<'s>(spans: &'s [Span], service: &str) -> Option<&'s Span> {
    spans.iter().find(|span| span.kind == "consumer" && span.service == service)
}

/// Whether a span is below another one, however far.
fn descends(spans: &[Span], span: &Span, above: &Span) -> bool {
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut current = Some(span);
    // A trace has no circles; a broken one may.
    for _ in 0..spans.len() {
        match current {
            Some(span) if span.parent_id == above.span_id => return true,
            Some(span) => current = by_id.get(span.parent_id.as_str()).copied(),
            None => return false,
        }
    }
    false
}
