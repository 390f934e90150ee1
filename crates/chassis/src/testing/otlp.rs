//! An OTLP receiver within the test: what telemetry exports can be asked for and waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric, number_data_point};
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span as it arrived. Ids are lower-case hexadecimal, attributes are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Name of the span.
    pub name: String,
    /// `internal`, `server`, `client`, `producer`, `consumer` or `unspecified`.
    pub kind: &'static str,
    /// 32 digits.
    pub trace_id: String,
    /// 16 digits.
    pub span_id: String,
    /// 16 digits, or empty for the first span of a trace.
    pub parent_id: String,
    /// `service.name` of the process it came from.
    pub service: String,
    /// Whether its status is an error.
    pub is_error: bool,
    /// Attributes by key.
    pub attributes: BTreeMap<String, String>,
    /// Its events, in order.
    pub events: Vec<SpanEvent>,
    /// The spans it is linked to, in order.
    pub links: Vec<Link>,
}

/// What was said within a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanEvent {
    /// The message.
    pub name: String,
    /// Attributes by key, as text.
    pub attributes: BTreeMap<String, String>,
}

/// Another span that a span is linked to. Ids are lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// 32 digits.
    pub trace_id: String,
    /// 16 digits.
    pub span_id: String,
}

impl Span {
    /// An attribute, empty when there is none.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The last state of one time series.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Name of the instrument.
    pub name: String,
    /// Attributes by key.
    pub attributes: BTreeMap<String, String>,
    /// A counter's total, a gauge's value, or the sum of a histogram.
    pub value: f64,
    /// How many values a histogram has seen; 1 for the others.
    pub count: u64,
}

impl Measurement {
    /// An attribute, empty when there is none.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    measurements: Vec<Measurement>,
}

/// The receiver. It has a thread and a runtime of its own, so that it outlives the runtimes of single tests; both end with it.
pub struct Receiver {
    address: SocketAddr,
    received: watch::Receiver<Received>,
    _stop: oneshot::Sender<()>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Receiver {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (sender, received) = watch::channel(Received::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        thread::Builder::new().name("otlp-receiver".to_owned()).spawn(move || {
            let service = Service { sender: Arc::new(sender) };
            runtime.block_on(async move {
                let serve = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(service.clone()))
                    .add_service(MetricsServiceServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    _ = serve => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, received, _stop: stop })
    }

    /// Where telemetry is to send to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have arrived, in the order they did.
    pub fn spans(&self) -> Vec<Span> {
        self.received.borrow().spans.clone()
    }

    /// All time series that have arrived, each in its last state.
    pub fn measurements(&self) -> Vec<Measurement> {
        self.received.borrow().measurements.clone()
    }

    /// Waits until the spans that have arrived satisfy `enough`, and returns them. It wakes up with each arrival and does not poll.
    ///
    /// # Errors
    /// After `limit`, with what has arrived until then.
    pub async fn wait_for(
        &self,
        enough: impl Fn(&[Span]) -> bool,
        limit: Duration,
    ) -> Result<Vec<Span>, TooLate<Vec<Span>>> {
        self.wait(|received| enough(&received.spans), |received| received.spans.clone(), limit).await
    }

    /// Waits until the time series that have arrived satisfy `enough`, and returns them.
    ///
    /// # Errors
    /// After `limit`, with what has arrived until then.
    pub async fn wait_for_measurements(
        &self,
        enough: impl Fn(&[Measurement]) -> bool,
        limit: Duration,
    ) -> Result<Vec<Measurement>, TooLate<Vec<Measurement>>> {
        self.wait(|received| enough(&received.measurements), |received| received.measurements.clone(), limit).await
    }

    async fn wait<T: fmt::Debug>(
        &self,
        enough: impl Fn(&Received) -> bool,
        take: impl Fn(&Received) -> T,
        limit: Duration,
    ) -> Result<T, TooLate<T>> {
        let mut received = self.received.clone();
        let arrived = tokio::time::timeout(limit, received.wait_for(|received| enough(received))).await;
        match arrived {
            Ok(Ok(received)) => Ok(take(&received)),
            Ok(Err(_)) | Err(_) => Err(TooLate { arrived: take(&self.received.borrow()) }),
        }
    }
}

/// What was waited for did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("what was waited for did not arrive in time; arrived: {arrived:?}")]
pub struct TooLate<T: fmt::Debug> {
    /// What has arrived until then.
    pub arrived: T,
}

#[derive(Clone, Debug)]
struct Service {
    sender: Arc<watch::Sender<Received>>,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = Vec::new();
        for resource in request.into_inner().resource_spans {
            let service =
                attributes(resource.resource.unwrap_or_default().attributes).remove("service.name").unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    kind: kind(span.kind),
                    is_error: span.status.is_some_and(|status| status.code == 2),
                    name: span.name,
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent_id: hex(&span.parent_span_id),
                    service: service.clone(),
                    attributes: attributes(span.attributes),
                    events: span
                        .events
                        .into_iter()
                        .map(|event| SpanEvent { name: event.name, attributes: attributes(event.attributes) })
                        .collect(),
                    links: span
                        .links
                        .into_iter()
                        .map(|link| Link { trace_id: hex(&link.trace_id), span_id: hex(&link.span_id) })
                        .collect(),
                });
            }
        }
        self.sender.send_modify(|received| received.spans.extend(spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let metrics = request
            .into_inner()
            .resource_metrics
            .into_iter()
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics);
        let mut arrived = Vec::new();
        for metric in metrics {
            match metric.data {
                Some(metric::Data::Sum(sum)) => arrived.extend(numbers(&metric.name, sum.data_points)),
                Some(metric::Data::Gauge(gauge)) => arrived.extend(numbers(&metric.name, gauge.data_points)),
                Some(metric::Data::Histogram(histogram)) => {
                    arrived.extend(histogram.data_points.into_iter().map(|point| Measurement {
                        name: metric.name.clone(),
                        attributes: attributes(point.attributes),
                        value: point.sum.unwrap_or_default(),
                        count: point.count,
                    }));
                }
                _ => {}
            }
        }
        self.sender.send_modify(|received| {
            for measurement in arrived {
                let same = |known: &&mut Measurement| {
                    known.name == measurement.name && known.attributes == measurement.attributes
                };
                match received.measurements.iter_mut().find(same) {
                    Some(known) => *known = measurement,
                    None => received.measurements.push(measurement),
                }
            }
        });
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn numbers(name: &str, points: Vec<NumberDataPoint>) -> impl Iterator<Item = Measurement> {
    points.into_iter().map(move |point| Measurement {
        name: name.to_owned(),
        attributes: attributes(point.attributes),
        value: match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            // Totals of a test are far below the integers that a float cannot hold.
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None => 0.0,
        },
        count: 1,
    })
}

fn kind(kind: i32) -> &'static str {
    match kind {
        1 => "internal",
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        _ => "unspecified",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, attribute.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}
