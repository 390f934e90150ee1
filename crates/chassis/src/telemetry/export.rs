//! The way out to the collector: a queue that is bounded, on a thread of its own, and quick to give up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, RetryPolicy, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData,
};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tracing::dispatcher;

use super::{Active, Config, Error};
use crate::clock::stopwatch;

/// Spans that may wait for the collector; what comes beyond is dropped, never waited for. About 8 MB when full.
const QUEUE_SPANS: usize = 8192;
/// Spans of one export: large enough to make the call's own cost vanish, small enough to stay far below 4 MiB.
const BATCH_SPANS: usize = 512;
/// How long a span waits for its batch to fill, at most.
const BATCH_DELAY: Duration = Duration::from_secs(2);
/// How often measurements are sent.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// How long a connection to the collector may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one export may take. Shorter than [`SHUTDOWN_LIMIT`], so that a last export can fail and be done with.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long after a failed export spans are dropped without asking again: under load a dead collector would otherwise
/// cost the encoding of every batch.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long [`super::Guard::shutdown`] may take in all.
pub(super) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// What exports spans and measurements while it lives.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) tracers: SdkTracerProvider,
    pub(super) meters: SdkMeterProvider,
    /// Ends the thread that drives the connection, when dropped.
    _connection: oneshot::Sender<()>,
}

impl Pipeline {
    pub(super) fn start(config: &Config, endpoint: &str, active: &Arc<Active>) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Endpoint { endpoint: endpoint.to_owned(), reason };
        let target = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|error| invalid(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(EXPORT_TIMEOUT);
        if target.uri().scheme_str() != Some("http") {
            return Err(invalid("the address of a collector starts with http://".to_owned()));
        }
        let (channel, connection) = connect(target)?;
        let health = Arc::new(Health::new(endpoint, Arc::clone(active)));
        // The resource says which process this is; standard OTEL_RESOURCE_ATTRIBUTES may add the pod and the node.
        let resource = Resource::builder().with_service_name(config.service.clone()).build();

        let spans = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let batches = BatchSpanProcessor::builder(Calm { inner: spans, health: Arc::clone(&health) })
            .with_batch_config(
                BatchConfigBuilder::default()
                    .with_max_queue_size(QUEUE_SPANS)
                    .with_max_export_batch_size(BATCH_SPANS)
                    .with_scheduled_delay(BATCH_DELAY)
                    .build(),
            )
            .build();
        let tracers = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            // Who began the trace decided whether it is kept: half a trace is worth little.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
            .with_span_processor(batches)
            .build();

        let measurements = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let reader =
            PeriodicReader::builder(Calm { inner: measurements, health }).with_interval(METRICS_INTERVAL).build();
        let meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        Ok(Self { tracers, meters, _connection: connection })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.tracers.tracer("clientele")
    }

    /// Sends what is queued. Failures are noted by [`Health`], so there is nothing to report here.
    pub(super) fn flush(&self) {
        let _ = self.tracers.force_flush();
        let _ = self.meters.force_flush();
    }

    /// Sends what is queued and stops; gives up after [`SHUTDOWN_LIMIT`].
    pub(super) fn stop(self) {
        let deadline = stopwatch() + SHUTDOWN_LIMIT;
        let (done, finished) = mpsc::channel();
        // The providers wait without a limit of their own in places, so they wait on threads that nobody waits for.
        let also_done = done.clone();
        let (tracers, meters) = (self.tracers.clone(), self.meters.clone());
        let threads = [
            thread::Builder::new().name("spans-out".to_owned()).spawn(move || {
                let _ = tracers.shutdown_with_timeout(SHUTDOWN_LIMIT);
                let _ = done.send(());
            }),
            thread::Builder::new().name("metrics-out".to_owned()).spawn(move || {
                let _ = meters.shutdown_with_timeout(SHUTDOWN_LIMIT);
                let _ = also_done.send(());
            }),
        ];
        for _ in threads.iter().filter(|thread| thread.is_ok()) {
            let _ = finished.recv_timeout(deadline.saturating_duration_since(stopwatch()));
        }
    }
}

/// A connection driven by a thread of its own: exports neither wait for the runtime that serves requests nor hold it up, and
/// shutting down from within that runtime cannot lock itself out.
fn connect(target: Endpoint) -> Result<(Channel, oneshot::Sender<()>), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    let channel = {
        let _entered = runtime.enter();
        target.connect_lazy()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    thread::Builder::new()
        .name("telemetry-out".to_owned())
        .spawn(move || {
            // Nothing is sent: the other end is dropped when telemetry ends.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })
        .map_err(Error::Thread)?;
    Ok((channel, stop))
}

/// Whether the collector answers; shared by spans and measurements.
#[derive(Debug)]
struct Health {
    endpoint: String,
    active: Arc<Active>,
    paused_until: Mutex<Option<Instant>>,
    lost_spans: AtomicU64,
}

impl Health {
    fn new(endpoint: &str, active: Arc<Active>) -> Self {
        Self { endpoint: endpoint.to_owned(), active, paused_until: Mutex::new(None), lost_spans: AtomicU64::new(0) }
    }

    fn is_paused(&self) -> bool {
        let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| stopwatch() < until)
    }

    /// Notes the outcome of an export and turns a failure into a quiet success: the SDK would log every single one.
    fn note(&self, result: OTelSdkResult, spans: u64) -> OTelSdkResult {
        let Err(error) = result else { return Ok(()) };
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopwatch() + PAUSE_AFTER_FAILURE);
        let lost = self.lost_spans.fetch_add(spans, Ordering::Relaxed) + spans;
        // This runs on a thread that has no subscriber unless one is installed for the whole process.
        if let Some(dispatch) = self.active.dispatch() {
            dispatcher::with_default(&dispatch, || {
                tracing::warn!(
                    target: super::COLLECTOR_TARGET,
                    endpoint = %self.endpoint,
                    lost_spans = lost,
                    error = %error,
                    "the telemetry collector does not take our spans and measurements; serving goes on without them"
                );
            });
        }
        Ok(())
    }
}

/// An exporter that bears a dead collector calmly.
#[derive(Debug)]
struct Calm<E> {
    inner: E,
    health: Arc<Health>,
}

impl opentelemetry_sdk::trace::SpanExporter for Calm<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if self.health.is_paused() {
            self.health.lost_spans.fetch_add(spans, Ordering::Relaxed);
            return Ok(());
        }
        self.health.note(self.inner.export(batch).await, spans)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl PushMetricExporter for Calm<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if self.health.is_paused() {
            return Ok(());
        }
        self.health.note(self.inner.export(metrics).await, 0)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
