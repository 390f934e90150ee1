//! Spans and measurements of calls.
use std::sync::{Arc, Mutex};

use chassis::telemetry::{self};
use chassis::testing::otlp::{Link, Span};
use tokio::sync::{Notify, mpsc};
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tracing::Instrument;

use crate::echo::{Echo, LIMIT, SERVICE, WATCH, a_trace, call, find, say, serve, shared, trace, within};

#[tokio::test]
async fn a_call_is_a_span_named_by_its_rpc_below_the_callers() {
    shared();
    let channel = serve(Echo::default()).await;
    let (trace_id, traceparent) = a_trace(1);
    say(channel, "hello", &[]).instrument(within(&traceparent)).await.unwrap();
    let spans = trace(&trace_id, 3).await;
    let follow = find(&spans, "consumer", "b7ad6b7169203331");
    assert_eq!(follow.name, "test");
    let client = find(&spans, "client", &follow.span_id);
    let server = find(&spans, "server", &client.span_id);
    assert_eq!(server.name, "clientele.test.v1.EchoService/Say");
    assert_eq!(client.name, server.name);
    assert_eq!(server.service, "under-test");
    let attributes: Vec<_> = server.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        attributes,
        [
            ("clientele.service", "test"),
            ("rpc.grpc.status_code", "0"),
            ("rpc.method", "Say"),
            ("rpc.service", SERVICE),
            ("rpc.system", "grpc"),
        ]
    );
    assert_eq!(client.attribute("rpc.grpc.status_code"), "0");
    assert!(!server.is_error && !client.is_error);
}

#[tokio::test]
async fn a_call_to_a_peer_continues_the_trace() {
    shared();
    let peer = serve(Echo::default()).await;
    let channel = serve(Echo { peer: Some(peer), ..Echo::default() }).await;
    let (trace_id, traceparent) = a_trace(2);
    let answer = say(channel, "ask", &[]).instrument(within(&traceparent)).await.unwrap();
    assert_eq!(answer, "from a peer");
    let spans = trace(&trace_id, 5).await;
    let mut parent = find(&spans, "consumer", "b7ad6b7169203331");
    for kind in ["client", "server", "client", "server"] {
        parent = find(&spans, kind, &parent.span_id);
    }
}

#[tokio::test]
async fn a_follower_continues_the_trace_of_the_change() {
    shared();
    let (sender, mut published) = mpsc::unbounded_channel();
    let channel = serve(Echo { published: Some(sender), ..Echo::default() }).await;
    let (trace_id, traceparent) = a_trace(3);
    say(channel.clone(), "publish", &[]).instrument(within(&traceparent)).await.unwrap();
    let change = published.recv().await.unwrap().unwrap();
    // The follower works elsewhere and later, and asks a peer on behalf of the change.
    say(channel, "decide", &[]).instrument(telemetry::span_following("follow scores", &change)).await.unwrap();
    let spans = trace(&trace_id, 6).await;
    let client = find(&spans, "client", &find(&spans, "consumer", "b7ad6b7169203331").span_id);
    let publisher = find(&spans, "server", &client.span_id);
    let follower = find(&spans, "consumer", &publisher.span_id);
    assert_eq!(follower.name, "follow scores");
    find(&spans, "server", &find(&spans, "client", &follower.span_id).span_id);
}

#[tokio::test]
async fn what_outlives_its_call_stays_in_its_trace() {
    shared();
    let (published, mut changes) = mpsc::unbounded_channel();
    let later = Arc::new(Notify::new());
    let peer = serve(Echo::default()).await;
    let echo = Echo { peer: Some(peer), published: Some(published), later: Arc::clone(&later), ..Echo::default() };
    let (trace_id, traceparent) = a_trace(26);
    let channel = serve(echo).await;
    say(channel, "outlive", &[]).instrument(within(&traceparent)).await.unwrap();
    let spans = trace(&trace_id, 3).await;
    let server = spans.iter().find(|span| span.kind == "server").unwrap();
    later.notify_one();
    let change = changes.recv().await.unwrap().unwrap();
    assert_eq!(change, format!("00-{trace_id}-{}-01", server.span_id));
    let spans = trace(&trace_id, 5).await;
    find(&spans, "server", &find(&spans, "client", &server.span_id).span_id);
}

#[tokio::test]
async fn an_error_that_is_logged_marks_the_span_of_its_call() {
    shared();
    let channel = serve(Echo::default()).await;
    let (trace_id, traceparent) = a_trace(25);
    say(channel, "complain", &[]).instrument(within(&traceparent)).await.unwrap();
    let spans = trace(&trace_id, 3).await;
    let server = spans.iter().find(|span| span.kind == "server").unwrap();
    assert!(server.is_error);
    assert_eq!(server.events[0].name, "all is not well");
    assert!(spans.iter().filter(|span| span.kind != "server").all(|span| span.events.is_empty()));
}

#[tokio::test]
async fn a_refusal_is_no_error_of_the_server_and_a_breakdown_is() {
    shared();
    let channel = serve(Echo::default()).await;
    for (number, text, code, is_fault) in [(4, "refuse", Code::NotFound, false), (5, "break", Code::Internal, true)] {
        let (trace_id, traceparent) = a_trace(number);
        let status = say(channel.clone(), text, &[]).instrument(within(&traceparent)).await.unwrap_err();
        assert_eq!(status.code(), code);
        let spans = trace(&trace_id, 3).await;
        let server = spans.iter().find(|span| span.kind == "server").unwrap();
        assert_eq!(server.attribute("rpc.grpc.status_code"), (code as i32).to_string());
        assert_eq!(server.is_error, is_fault, "{text}");
        assert!(spans.iter().any(|span| span.kind == "client" && span.is_error));
    }
}

#[tokio::test]
async fn neither_bodies_nor_headers_get_into_spans() {
    shared();
    let channel = serve(Echo::default()).await;
    let (trace_id, traceparent) = a_trace(6);
    let headers = [("authorization", "Bearer s3cret"), ("x-customer", "s3cret"), ("baggage", "name=s3cret")];
    say(channel, "s3cret", &headers).instrument(within(&traceparent)).await.unwrap();
    let spans = trace(&trace_id, 3).await;
    assert!(!format!("{spans:?}").contains("s3cret"), "{spans:#?}");
}

#[tokio::test]
async fn a_call_given_up_is_cancelled() {
    shared();
    let (sender, mut hanging) = mpsc::unbounded_channel();
    let channel = serve(Echo { hanging: Some(sender), ..Echo::default() }).await;
    let (trace_id, traceparent) = a_trace(7);
    let hung = tokio::spawn(async move { say(channel, "hang", &[]).await }.instrument(within(&traceparent)));
    hanging.recv().await.unwrap();
    hung.abort();
    let _ = hung.await;
    let (receiver, guard) = shared();
    // The server learns of it when the reset arrives; the queue's own delay brings the span then.
    let ended = |spans: &[Span]| spans.iter().any(|span| span.trace_id == trace_id && span.kind == "server");
    let spans = receiver.wait_for(ended, LIMIT).await.unwrap();
    let server = spans.iter().find(|span| span.trace_id == trace_id && span.kind == "server").unwrap();
    assert_eq!(server.attribute("rpc.grpc.status_code"), "1");
    guard.flush();
}

#[tokio::test]
async fn a_stream_is_measured_to_its_beginning_and_traced_to_its_end() {
    let (receiver, guard) = shared();
    let (sender, stream) = mpsc::channel(1);
    let channel = serve(Echo { stream: Arc::new(Mutex::new(Some(stream))), ..Echo::default() }).await;
    let (trace_id, traceparent) = a_trace(8);
    let span = within(&traceparent);
    let mut messages = async {
        let mut client = Client::new(channel);
        client.ready().await.unwrap();
        client
            .server_streaming(
                Request::new(String::new()),
                PathAndQuery::from_static(WATCH),
                ProstCodec::<String, String>::default(),
            )
            .await
            .unwrap()
            .into_inner()
    }
    .instrument(span)
    .await;
    sender.send(Ok("first".to_owned())).await.unwrap();
    assert_eq!(messages.message().await.unwrap().unwrap(), "first");
    guard.flush();
    let begun = receiver
        .wait_for_measurements(
            |all| all.iter().any(|one| one.name == "rpc.server.duration" && one.attribute("rpc.method") == "Watch"),
            LIMIT,
        )
        .await
        .unwrap();
    assert!(!begun.iter().any(|one| one.name == "rpc.server.stream.ends"), "it has not ended yet");
    assert!(!receiver.spans().iter().any(|span| span.trace_id == trace_id && span.kind == "server"));
    sender.send(Err(Status::unavailable("draining"))).await.unwrap();
    assert_eq!(messages.message().await.unwrap_err().code(), Code::Unavailable);
    let spans = trace(&trace_id, 3).await;
    let server = spans.iter().find(|span| span.kind == "server").unwrap();
    assert_eq!(server.attribute("rpc.grpc.status_code"), "14");
    assert!(server.is_error);
    guard.flush();
    let ends = receiver
        .wait_for_measurements(|all| all.iter().any(|one| one.name == "rpc.server.stream.ends"), LIMIT)
        .await
        .unwrap();
    let end = ends.iter().find(|one| one.name == "rpc.server.stream.ends").unwrap();
    assert_eq!((end.attribute("rpc.grpc.status_code"), end.value), ("14", 1.0));
}

#[tokio::test]
async fn calls_are_measured_by_rpc_and_status_and_unknown_paths_share_a_label() {
    let (receiver, guard) = shared();
    let channel = serve(Echo::default()).await;
    for _ in 0..3 {
        say(channel.clone(), "hello", &[]).await.unwrap();
    }
    for path in ["/clientele.test.v1.EchoService/Nonsense", "/no.such.Service/Probe"] {
        assert_eq!(call(channel.clone(), path, "", &[]).await.unwrap_err().code(), Code::Unimplemented);
    }
    guard.flush();
    let measured = receiver
        .wait_for_measurements(
            |all| {
                let counted = |method: &str| {
                    all.iter()
                        .filter(|one| one.name == "rpc.server.duration" && one.attribute("rpc.method") == method)
                        .map(|one| one.count)
                        .sum::<u64>()
                };
                counted("Say") >= 3 && counted("other") >= 2
            },
            LIMIT,
        )
        .await
        .unwrap();
    let other = measured.iter().find(|one| one.attribute("rpc.method") == "other").unwrap();
    assert_eq!(other.attribute("rpc.grpc.status_code"), "12");
    assert!(!format!("{measured:?}").contains("Nonsense"));
    let say = measured
        .iter()
        .find(|one| one.attribute("rpc.method") == "Say" && one.attribute("rpc.grpc.status_code") == "0")
        .unwrap();
    assert_eq!(say.attribute("rpc.service"), SERVICE);
    assert!(say.value > 0.0 && say.value < 60.0, "seconds: {}", say.value);
}

#[tokio::test]
async fn a_call_is_linked_to_what_it_rests_on_and_stays_in_the_caller_s_trace() {
    shared();
    let (cause, other) = (a_trace(20), a_trace(21));
    let links = [&cause.1, "", "00-nonsense", &other.1].map(str::to_owned).to_vec();
    let channel = serve(Echo { links, ..Echo::default() }).await;
    let (trace_id, traceparent) = a_trace(22);
    say(channel, "link", &[]).instrument(within(&traceparent)).await.unwrap();
    let spans = trace(&trace_id, 3).await;
    let server = spans.iter().find(|span| span.kind == "server").unwrap();
    let link = |trace_id: String| Link { trace_id, span_id: "b7ad6b7169203331".to_owned() };
    assert_eq!(server.links, [link(cause.0), link(other.0)]);
    assert_eq!(
        (server.name.as_str(), server.attribute("rpc.grpc.status_code")),
        ("clientele.test.v1.EchoService/Say", "0")
    );
    assert!(spans.iter().all(|span| span.kind == "server" || span.links.is_empty()), "{spans:#?}");
}
