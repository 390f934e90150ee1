//! A service that does what the text it is sent says, and the telemetry that it is watched with.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use chassis::telemetry::{self, ClientLayer, Config, Guard, KnownMethods, ServerLayer, Tracing};
use chassis::testing::otlp::{Receiver, Span};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Layer, Service};
use tracing::Instrument;

pub(crate) const LIMIT: Duration = Duration::from_secs(10);
pub(crate) const SERVICE: &str = "clientele.test.v1.EchoService";
pub(crate) const SAY: &str = "/clientele.test.v1.EchoService/Say";
pub(crate) const WATCH: &str = "/clientele.test.v1.EchoService/Watch";

/// What `Say` does is told by the text it is sent.
#[derive(Clone, Default)]
pub(crate) struct Echo {
    /// `ask` passes the call on to this peer.
    pub(crate) peer: Option<Tracing<Channel>>,
    /// `publish` sends the current traceparent here.
    pub(crate) published: Option<mpsc::UnboundedSender<Option<String>>>,
    /// `link` links its span to these.
    pub(crate) links: Vec<String>,
    /// `watch` streams what arrives here.
    pub(crate) stream: Arc<Mutex<Option<Messages>>>,
    /// `outlive` leaves work behind that waits for this, and then does as `publish`.
    pub(crate) later: Arc<Notify>,
    /// `hang` tells here that it has begun.
    pub(crate) hanging: Option<mpsc::UnboundedSender<()>>,
}

pub(crate) type Messages = mpsc::Receiver<Result<String, Status>>;
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

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
                "outlive" => {
                    let work = async move {
                        this.later.notified().await;
                        let peer = this.peer.unwrap();
                        say(peer, "from a peer", &[]).await.unwrap();
                        this.published.unwrap().send(telemetry::current_traceparent()).unwrap();
                    };
                    tokio::spawn(work.in_current_span());
                    Ok(Response::new(text))
                }
                "log" => {
                    tracing::debug_span!("inner").in_scope(|| tracing::info!("as usual"));
                    tracing::warn!(answer = 42, "something \"odd\" happened");
                    Ok(Response::new(text))
                }
                "complain" => {
                    tracing::error!("all is not well");
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

pub(crate) fn known() -> Arc<KnownMethods> {
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

pub(crate) async fn serve(echo: Echo) -> Tracing<Channel> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .layer(ServerLayer::new(known()))
        .add_service(echo)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    connect(address).await
}

pub(crate) async fn connect(address: SocketAddr) -> Tracing<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    ClientLayer.layer(channel)
}

pub(crate) async fn say(
    channel: Tracing<Channel>,
    text: &str,
    headers: &[(&'static str, &str)],
) -> Result<String, Status> {
    call(channel, SAY, text, headers).await
}

pub(crate) async fn call(
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
pub(crate) fn shared() -> &'static (Receiver, Guard) {
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
pub(crate) async fn trace(trace_id: &str, count: usize) -> Vec<Span> {
    let (receiver, guard) = shared();
    let of_trace = |spans: &[Span]| spans.iter().filter(|span| span.trace_id == trace_id).count() >= count;
    // A span closes a moment after its answer was read, so one flush may come too early.
    let flushing = std::thread::spawn(|| guard.flush());
    let arrived = receiver.wait_for(of_trace, LIMIT).await.unwrap();
    flushing.join().unwrap();
    arrived.into_iter().filter(|span| span.trace_id == trace_id).collect()
}

pub(crate) fn a_trace(number: u8) -> (String, String) {
    let trace_id = format!("{number:02x}f7651916cd43dd8448eb211c80319c");
    let traceparent = format!("00-{trace_id}-b7ad6b7169203331-01");
    (trace_id, traceparent)
}

pub(crate) fn find<'a>(spans: &'a [Span], kind: &str, parent: &str) -> &'a Span {
    spans
        .iter()
        .find(|span| span.kind == kind && span.parent_id == parent)
        .unwrap_or_else(|| panic!("no {kind} span under {parent} in {spans:#?}"))
}

/// A span of the test itself that continues the given trace; its id is that of the span calls are children of.
pub(crate) fn within(traceparent: &str) -> tracing::Span {
    telemetry::span_following("test", traceparent)
}

/// Telemetry for one test, and the lines it writes. Put to use with `dispatcher::set_default`: each test runs its client and its
/// servers on one thread.
pub(crate) fn scoped(config: Config) -> (tracing::Dispatch, Guard, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let (dispatch, guard) = telemetry::scoped(&config, move |line| sink.lock().unwrap().push(line.to_owned())).unwrap();
    (dispatch, guard, lines)
}

/// Lines about calls, as the transport has some of its own at finer levels.
pub(crate) fn json(lines: &Mutex<Vec<String>>) -> Vec<serde_json::Value> {
    lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
