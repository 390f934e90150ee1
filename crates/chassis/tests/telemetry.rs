//! Telemetry over real sockets: spans, measurements and log lines of calls that pass from service to service.
//!
//! A process has one telemetry, so the tests with export share one set-up and tell their spans apart by trace id; those about
//! telemetry that is off or whose collector is dead use a scoped one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use chassis::telemetry::{self, ClientLayer, Config, Guard, KnownMethods, LogFormat, ServerLayer, Tracing};
use chassis::testing::otlp::{Link, Receiver, Span};
use chassis::testing::{Backend, TempDb, noon};
use chassis::{
    Db,
    clock::Clock,
    feed::{self, Entry, Event, Follow},
    peers::Peers,
};
use futures::StreamExt;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use proto::common::v1::FeedPosition;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Layer, Service};
use tracing::Instrument;
use tracing::dispatcher;

const LIMIT: Duration = Duration::from_secs(10);
const SERVICE: &str = "clientele.test.v1.EchoService";
const SAY: &str = "/clientele.test.v1.EchoService/Say";
const WATCH: &str = "/clientele.test.v1.EchoService/Watch";

/// What `Say` does is told by the text it is sent.
#[derive(Clone, Default)]
struct Echo {
    /// `ask` passes the call on to this peer.
    peer: Option<Tracing<Channel>>,
    /// `publish` sends the current traceparent here.
    published: Option<mpsc::UnboundedSender<Option<String>>>,
    /// `link` links its span to these.
    links: Vec<String>,
    /// `watch` streams what arrives here.
    stream: Arc<Mutex<Option<Messages>>>,
    /// `hang` tells here that it has begun.
    hanging: Option<mpsc::UnboundedSender<()>>,
}

type Messages = mpsc::Receiver<Result<String, Status>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl UnaryService<String> for Echo {
    type Response = String;
    type Future = Answer<String>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let text = request.into_inner();
            match text.as_str() {
                "ask" => {
                    let peer = this.peer.unwrap();
                    say(peer, "from a peer", &[]).await.map(Response::new)
                }
                "publish" => {
                    this.published.unwrap().send(telemetry::current_traceparent()).unwrap();
                    Ok(Response::new(text))
                }
                "log" => {
                    tracing::warn!(answer = 42, "something \"odd\" happened");
                    Ok(Response::new(text))
                }
                "link" => {
                    // The first of them within a span that is for log lines alone.
                    let links: Vec<_> = this.links.iter().map(String::as_str).collect();
                    if let Some((first, others)) = links.split_first() {
                        tracing::debug_span!("inner").in_scope(|| telemetry::link(first));
                        others.iter().for_each(|other| telemetry::link(other));
                    }
                    Ok(Response::new(text))
                }
                "refuse" => Err(Status::not_found("no such echo")),
                "break" => Err(Status::internal("broken")),
                "hang" => {
                    this.hanging.unwrap().send(()).unwrap();
                    std::future::pending().await
                }
                _ => Ok(Response::new(text)),
            }
        })
    }
}

impl ServerStreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = ReceiverStream<Result<String, Status>>;
    type Future = Answer<Self::ResponseStream>;

    fn call(&mut self, _: Request<String>) -> Self::Future {
        let stream = self.stream.lock().unwrap().take().unwrap();
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(stream))) })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<String, String>::default());
            Ok(match request.uri().path() {
                WATCH => grpc.server_streaming(this, request).await,
                SAY => grpc.unary(this, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = SERVICE;
}

fn known() -> Arc<KnownMethods> {
    let method = |name: &str, server_streaming| MethodDescriptorProto {
        name: Some(name.to_owned()),
        server_streaming: Some(server_streaming),
        ..Default::default()
    };
    let set = FileDescriptorSet {
        file: vec![FileDescriptorProto {
            package: Some("clientele.test.v1".to_owned()),
            service: vec![ServiceDescriptorProto {
                name: Some("EchoService".to_owned()),
                method: vec![method("Say", false), method("Watch", true)],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    Arc::new(KnownMethods::from_descriptors(&set.encode_to_vec()).unwrap())
}

async fn serve(echo: Echo) -> Tracing<Channel> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .layer(ServerLayer::new(known()))
        .add_service(echo)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    connect(address).await
}

async fn connect(address: SocketAddr) -> Tracing<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    ClientLayer.layer(channel)
}

async fn say(channel: Tracing<Channel>, text: &str, headers: &[(&'static str, &str)]) -> Result<String, Status> {
    call(channel, SAY, text, headers).await
}

async fn call(
    channel: Tracing<Channel>,
    path: &'static str,
    text: &str,
    headers: &[(&'static str, &str)],
) -> Result<String, Status> {
    let mut client = Client::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(text.to_owned());
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    client
        .unary(request, PathAndQuery::from_static(path), ProstCodec::<String, String>::default())
        .await
        .map(Response::into_inner)
}

/// The one telemetry of the process, exporting to a receiver.
fn telemetry() -> &'static (Receiver, Guard) {
    static TELEMETRY: OnceLock<(Receiver, Guard)> = OnceLock::new();
    TELEMETRY.get_or_init(|| {
        let receiver = Receiver::start().unwrap();
        let config = Config {
            service: "under-test".to_owned(),
            otlp_endpoint: Some(receiver.endpoint()),
            log_filter: "off".to_owned(),
            ..Config::default()
        };
        let guard = telemetry::init(&config).unwrap();
        (receiver, guard)
    })
}

/// The spans of one trace, once `count` of them have arrived.
async fn trace(trace_id: &str, count: usize) -> Vec<Span> {
    let (receiver, guard) = telemetry();
    let of_trace = |spans: &[Span]| spans.iter().filter(|span| span.trace_id == trace_id).count() >= count;
    // A span closes a moment after its answer was read, so one flush may come too early.
    let flushing = std::thread::spawn(|| guard.flush());
    let arrived = receiver.wait_for(of_trace, LIMIT).await.unwrap();
    flushing.join().unwrap();
    arrived.into_iter().filter(|span| span.trace_id == trace_id).collect()
}

fn a_trace(number: u8) -> (String, String) {
    let trace_id = format!("{number:02x}f7651916cd43dd8448eb211c80319c");
    let traceparent = format!("00-{trace_id}-b7ad6b7169203331-01");
    (trace_id, traceparent)
}

fn find<'a>(spans: &'a [Span], kind: &str, parent: &str) -> &'a Span {
    spans
        .iter()
        .find(|span| span.kind == kind && span.parent_id == parent)
        .unwrap_or_else(|| panic!("no {kind} span under {parent} in {spans:#?}"))
}

/// A span of the test itself that continues the given trace; its id is that of the span calls are children of.
fn within(traceparent: &str) -> tracing::Span {
    telemetry::span_following("test", traceparent)
}

#[tokio::test]
async fn a_call_is_a_span_named_by_its_rpc_below_the_callers() {
    telemetry();
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
    telemetry();
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
    telemetry();
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
async fn a_refusal_is_no_error_of_the_server_and_a_breakdown_is() {
    telemetry();
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
    telemetry();
    let channel = serve(Echo::default()).await;
    let (trace_id, traceparent) = a_trace(6);
    let headers = [("authorization", "Bearer s3cret"), ("x-customer", "s3cret"), ("baggage", "name=s3cret")];
    say(channel, "s3cret", &headers).instrument(within(&traceparent)).await.unwrap();
    let spans = trace(&trace_id, 3).await;
    assert!(!format!("{spans:?}").contains("s3cret"), "{spans:#?}");
}

#[tokio::test]
async fn a_call_given_up_is_cancelled() {
    telemetry();
    let (sender, mut hanging) = mpsc::unbounded_channel();
    let channel = serve(Echo { hanging: Some(sender), ..Echo::default() }).await;
    let (trace_id, traceparent) = a_trace(7);
    let hung = tokio::spawn(async move { say(channel, "hang", &[]).await }.instrument(within(&traceparent)));
    hanging.recv().await.unwrap();
    hung.abort();
    let _ = hung.await;
    let (receiver, guard) = telemetry();
    // The server learns of it when the reset arrives; the queue's own delay brings the span then.
    let ended = |spans: &[Span]| spans.iter().any(|span| span.trace_id == trace_id && span.kind == "server");
    let spans = receiver.wait_for(ended, LIMIT).await.unwrap();
    let server = spans.iter().find(|span| span.trace_id == trace_id && span.kind == "server").unwrap();
    assert_eq!(server.attribute("rpc.grpc.status_code"), "1");
    guard.flush();
}

#[tokio::test]
async fn a_stream_is_measured_to_its_beginning_and_traced_to_its_end() {
    let (receiver, guard) = telemetry();
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
    let (receiver, guard) = telemetry();
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
async fn transactions_feeds_and_counts_are_measured() {
    let (receiver, guard) = telemetry();
    telemetry::record_tx("escalate_complaint", 0.25, "committed", 3);
    telemetry::record_feed_lag("routing/scores", 1.5, 7);
    telemetry::count("rpc.server.shed", "queue full");
    telemetry::count("rpc.server.shed", "queue full");
    guard.flush();
    let measured =
        receiver.wait_for_measurements(|all| all.iter().any(|one| one.name == "rpc.server.shed"), LIMIT).await.unwrap();
    let value = |name: &str, key: &str, label: &str| {
        measured.iter().find(|one| one.name == name && one.attribute(key) == label).unwrap().value
    };
    assert_eq!(value("db.tx.duration", "tx.outcome", "committed"), 0.25);
    assert_eq!(value("db.tx.retries", "tx.name", "escalate_complaint"), 2.0);
    assert_eq!(value("feed.lag", "feed.follower", "routing/scores"), 1.5);
    assert_eq!(value("feed.changes", "feed.follower", "routing/scores"), 7.0);
    assert_eq!(value("rpc.server.shed", "reason", "queue full"), 2.0);
}

#[test]
fn a_second_set_up_is_refused() {
    telemetry();
    assert!(matches!(telemetry::init(&Config::default()), Err(telemetry::Error::AlreadyInstalled)));
}

#[test]
fn an_unusable_configuration_is_refused_with_its_reason() {
    let filter = Config { log_filter: "not=a=filter".to_owned(), ..Config::default() };
    assert!(telemetry::scoped(&filter, |_| {}).unwrap_err().to_string().contains("not=a=filter"));
    let endpoint = Config { otlp_endpoint: Some("localhost:4317".to_owned()), ..Config::default() };
    assert!(telemetry::scoped(&endpoint, |_| {}).unwrap_err().to_string().contains("http://"));
}

#[tokio::test]
async fn a_call_is_linked_to_what_it_rests_on_and_stays_in_the_caller_s_trace() {
    telemetry();
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

#[tokio::test]
async fn with_telemetry_off_a_link_changes_nothing() {
    let (dispatch, _guard, lines) = scoped(Config { log_filter: "info".to_owned(), ..Config::default() });
    let _default = dispatcher::set_default(&dispatch);
    let (cause, own) = (a_trace(23).1, a_trace(24).1);
    telemetry::link(&cause);
    within(&own).in_scope(|| {
        telemetry::link(&cause);
        assert_eq!(telemetry::current_traceparent(), Some(own));
    });
    assert!(lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_of_changes_continues_its_last_cause_and_is_linked_to_the_others() {
    let receiver = Receiver::start().unwrap();
    let config = Config { otlp_endpoint: Some(receiver.endpoint()), ..Config::default() };
    let (dispatch, guard, _) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    let database = TempDb::new(Backend::Sqlite).await;
    let clock = Clock::mock(noon());
    let db = Db::connect::<Feeds>(database.url(), &clock).await.unwrap();
    let context = chassis::Context::new(clock, Peers::default());
    let causes: Vec<_> = (25..28).map(a_trace).collect();
    // They come at once, so they are one batch.
    let changes: Vec<_> = [0, 1, 1, 0, 2]
        .into_iter()
        .zip(1..)
        .map(|(cause, sequence): (usize, i64)| {
            let (cursor, traceparent) = (sequence.to_string(), causes[cause].1.clone());
            Ok(Entry {
                position: FeedPosition { cursor, sequence, traceparent, ..FeedPosition::default() },
                event: Event::Change(()),
            })
        })
        .collect();
    let connect = move |_| {
        let changes = futures::stream::iter(changes.clone()).chain(futures::stream::pending());
        async { Ok(changes.boxed()) }
    };
    let (sender, mut applied) = mpsc::unbounded_channel();
    let follow = Follow { name: "batch", db };
    let task = feed::follow::<_, chassis::Error, _, _, _>(context.clone(), follow, connect, move |_, changes| {
        sender.send(changes.len()).unwrap();
        Box::pin(async { Ok(()) })
    });
    let task = tokio::spawn(task);
    assert_eq!(applied.recv().await, Some(5));
    context.shutdown.cancel();
    task.await.unwrap();
    guard.shutdown();
    let spans = receiver.wait_for(|spans| spans.iter().any(|span| span.kind == "consumer"), LIMIT).await.unwrap();
    let span = find(&spans, "consumer", "b7ad6b7169203331");
    assert_eq!((span.name.as_str(), &span.trace_id), ("batch", &causes[2].0));
    let linked: Vec<_> = span.links.iter().map(|link| link.trace_id.as_str()).collect();
    assert_eq!(linked, [&causes[1].0, &causes[0].0]);
}

/// A database with nothing but feeds.
struct Feeds;

impl MigratorTrait for Feeds {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::db::migrations()
    }
}

/// Telemetry for one test, and the lines it writes. Put to use with `dispatcher::set_default`: each test runs its client and its
/// servers on one thread.
fn scoped(config: Config) -> (tracing::Dispatch, Guard, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let (dispatch, guard) = telemetry::scoped(&config, move |line| sink.lock().unwrap().push(line.to_owned())).unwrap();
    (dispatch, guard, lines)
}

/// Lines about calls, as the transport has some of its own at finer levels.
fn json(lines: &Mutex<Vec<String>>) -> Vec<serde_json::Value> {
    lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn with_telemetry_off_the_context_still_reaches_peers_and_feed() {
    let (dispatch, _guard, _) = scoped(Config { log_filter: "off".to_owned(), ..Config::default() });
    let _default = dispatcher::set_default(&dispatch);
    async {
        let (sender, mut published) = mpsc::unbounded_channel();
        let last = serve(Echo { published: Some(sender), ..Echo::default() }).await;
        let (_, traceparent) = a_trace(9);
        // Straight from a client that traces.
        say(last.clone(), "publish", &[("traceparent", &traceparent)]).await.unwrap();
        assert_eq!(published.recv().await.unwrap().as_deref(), Some(traceparent.as_str()));
        // From a follower of a change, through the channel.
        say(last.clone(), "publish", &[]).instrument(within(&traceparent)).await.unwrap();
        assert_eq!(published.recv().await.unwrap().as_deref(), Some(traceparent.as_str()));
        // A stranger's nonsense goes no further, and without a trace there is none.
        say(last.clone(), "publish", &[("traceparent", "00-nonsense")]).await.unwrap();
        assert_eq!(published.recv().await.unwrap(), None);
        assert_eq!(telemetry::current_traceparent(), None);
    }
    .await;
}

#[tokio::test]
async fn a_trace_that_is_not_kept_is_passed_on_as_not_kept() {
    let receiver = Receiver::start().unwrap();
    let config = Config {
        otlp_endpoint: Some(receiver.endpoint()),
        log_filter: "off".to_owned(),
        sample_ratio: 0.0,
        ..Config::default()
    };
    let (dispatch, guard, _) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    let (sender, mut published) = mpsc::unbounded_channel();
    let peer = serve(Echo { published: Some(sender), ..Echo::default() }).await;
    say(peer.clone(), "publish", &[]).await.unwrap();
    let begun_here = published.recv().await.unwrap().unwrap();
    assert!(begun_here.starts_with("00-") && begun_here.ends_with("-00"), "{begun_here}");
    // Who began the trace decides: a caller that keeps it gets our spans too.
    let (trace_id, traceparent) = a_trace(13);
    say(peer, "publish", &[]).instrument(within(&traceparent)).await.unwrap();
    let begun_by_caller = published.recv().await.unwrap().unwrap();
    assert!(begun_by_caller.ends_with("-01"), "{begun_by_caller}");
    guard.shutdown();
    let spans = receiver.wait_for(|spans| spans.len() >= 3, LIMIT).await.unwrap();
    assert!(spans.iter().all(|span| span.trace_id == trace_id), "{spans:#?}");
}

#[tokio::test]
async fn a_json_line_has_message_fields_rpc_and_trace() {
    let (dispatch, _guard, lines) = scoped(Config { log_filter: "warn".to_owned(), ..Config::default() });
    let (trace_id, traceparent) = a_trace(10);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        say(channel, "log", &[("traceparent", &traceparent)]).await.unwrap();
    }
    .await;
    let lines = json(&lines);
    let line = lines.iter().find(|line| line["answer"] == 42).unwrap();
    assert_eq!(line["message"], "something \"odd\" happened");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "telemetry");
    assert_eq!(line["span"], "clientele.test.v1.EchoService/Say");
    assert_eq!(line["rpc.method"], "Say");
    assert_eq!(line["clientele.service"], "test");
    assert_eq!(line["trace_id"], trace_id.as_str());
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn with_export_a_line_names_trace_and_span() {
    let receiver = Receiver::start().unwrap();
    let config = Config { otlp_endpoint: Some(receiver.endpoint()), ..Config::default() };
    let (dispatch, guard, lines) = scoped(config);
    let (trace_id, traceparent) = a_trace(11);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        say(channel, "log", &[("traceparent", &traceparent)]).await.unwrap();
        // The channel opens a span of its own, a new trace, since nothing is current here.
    }
    .await;
    guard.shutdown();
    let server = receiver
        .wait_for(|spans| spans.iter().any(|span| span.kind == "server"), LIMIT)
        .await
        .unwrap()
        .into_iter()
        .find(|span| span.kind == "server")
        .unwrap();
    let lines = json(&lines);
    let line = lines.iter().find(|line| line["answer"] == 42).unwrap();
    assert_eq!(line["trace_id"], server.trace_id.as_str());
    assert_eq!(line["span_id"], server.span_id.as_str());
    assert_eq!(server.events, ["something \"odd\" happened"]);
    assert_ne!(server.trace_id, trace_id, "the channel's span came between");
}

#[test]
fn fields_of_the_inner_span_win_and_reserved_names_are_kept_apart() {
    let (dispatch, _guard, lines) = scoped(Config::default());
    tracing::dispatcher::with_default(&dispatch, || {
        let outer = tracing::info_span!("outer", customer = "c-1", step = 1_u64, later = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("later", true);
        let inner = tracing::info_span!("inner", step = 2_i64);
        let _inner = inner.enter();
        tracing::info!(level = "mine", ratio = 0.5, broken = f64::NAN, text = "two\nlines\u{1}", "done");
        tracing::debug!("not wanted");
    });
    let lines = json(&lines);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((&line["span"], &line["step"], &line["customer"]), (&"inner".into(), &2.into(), &"c-1".into()));
    assert_eq!((&line["level"], &line["field.level"]), (&"INFO".into(), &"mine".into()));
    assert_eq!((&line["ratio"], &line["later"], &line["text"]), (&0.5.into(), &true.into(), &"two\nlines\u{1}".into()));
}

#[test]
fn a_text_line_reads_from_time_to_trace() {
    let (dispatch, _guard, lines) = scoped(Config { log_format: LogFormat::Text, ..Config::default() });
    let (trace_id, traceparent) = a_trace(12);
    tracing::dispatcher::with_default(&dispatch, || {
        let _following = within(&traceparent).entered();
        let _inner = tracing::info_span!("rank", customers = 3_u64).entered();
        tracing::error!(reason = "two words", file = "a\nb", "no such tier");
    });
    let line = lines.lock().unwrap().concat();
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len());
    let expected = format!(
        "ERROR telemetry: no such tier reason=\"two words\" file=a\\nb in rank customers=3 in test trace={trace_id}\n"
    );
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_dead_collector_costs_one_line_a_minute_and_no_call() {
    // A port that was free a moment ago and that nobody listens on.
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let config = Config { otlp_endpoint: Some(format!("http://{closed}")), ..Config::default() };
    let (dispatch, guard, lines) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        for _ in 0..3 {
            for _ in 0..100 {
                say(channel.clone(), "hello", &[]).await.unwrap();
            }
            guard.flush();
        }
    }
    .await;
    let begun = Instant::now();
    guard.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let lines = json(&lines);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["target"], "chassis::telemetry::collector");
    assert_eq!(lines[0]["level"], "WARN");
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_shutdown() {
    // It takes the connection and then says nothing.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = Config {
        otlp_endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
        log_filter: "off".to_owned(),
        ..Config::default()
    };
    let (dispatch, guard, _) = scoped(config);
    let _default = dispatcher::set_default(&dispatch);
    async {
        let channel = serve(Echo::default()).await;
        // More than a queue holds: the surplus is dropped, and nobody waits for it.
        for _ in 0..50 {
            let calls = (0..100).map(|_| say(channel.clone(), "hello", &[]));
            futures::future::try_join_all(calls).await.unwrap();
        }
    }
    .await;
    let begun = Instant::now();
    guard.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
