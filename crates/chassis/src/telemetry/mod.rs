//! Traces, measurements and log lines.
//!
//! | to … | open |
//! | --- | --- |
//! | see what is exported, how much may queue, when it gives up | `export.rs` |
//! | change how log lines look | `logs.rs` |
//! | see how a trace passes from call to call and through the feed | `context.rs` |
//! | trace and measure incoming calls | `server.rs`, `served.rs`, `call.rs` |
//! | trace outgoing calls | `client.rs`, `call.rs` |
//! | add a measurement | `metrics.rs` |
//!
//! With an OTLP endpoint configured, spans and measurements go there; without one neither is made, and the caller's
//! trace context is passed on all the same. In both cases a log line says which trace it belongs to. No request body, no metadata
//! value but the trace context, and no answer but its status is ever looked at, so none can leak.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use serde::{Deserialize, Serialize};
use tracing::dispatcher::{self, WeakDispatch};
use tracing::{Dispatch, Level, Metadata};
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

mod call;
mod client;
mod context;
mod export;
mod logs;
mod methods;
mod metrics;
mod served;
mod server;

pub use call::Answer;
pub use client::{ClientLayer, Tracing};
pub use context::{current_traceparent, link, span_following};
pub use methods::{KnownMethods, Method};
pub use metrics::{count, record_feed_failure, record_feed_lag, record_tx};
pub use server::{ServerLayer, Traced, name_caller};

use crate::config::{Check, Validate};
use export::Pipeline;
use logs::{LogFilter, Logs, Sink, Style};
use metrics::Instruments;
use served::{Events, is_served};

/// The target of our own lines about the collector.
const COLLECTOR_TARGET: &str = "chassis::telemetry::collector";

/// The attribute that says who called.
const CALLER: &str = "clientele.caller";

/// What to trace, measure and log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Name of the process in traces (`service.name`). Which service of the suite a span belongs to is its attribute
    /// `clientele.service`, since several may share a process.
    pub service: String,
    /// Address of an OTLP collector that speaks gRPC, such as `http://localhost:4317`; without one nothing is exported.
    pub otlp_endpoint: Option<String>,
    /// Which log lines to write: directives such as `info` or `warn,scoring=debug`.
    pub log_filter: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Share of the traces begun here that are exported, from 0 to 1. Traces begun by a caller follow the caller's choice.
    pub sample_ratio: f64,
}

impl Default for Config {
    /// Everything traced, lines from INFO, no collector.
    fn default() -> Self {
        Self {
            service: "clientele".to_owned(),
            otlp_endpoint: None,
            log_filter: "info".to_owned(),
            log_format: LogFormat::Auto,
            sample_ratio: 1.0,
        }
    }
}

impl Validate for Config {
    fn validate(&self, check: &mut Check<'_>) {
        check.require("service", !self.service.is_empty(), "allowed: a name that is not empty");
        check.range("sample_ratio", self.sample_ratio, 0.0..=1.0);
        let endpoint = self.otlp_endpoint.as_deref().unwrap_or("http://none");
        let how = "allowed: an address that starts with http://. Export is in plain text, with no TLS built in: let it go to a collector on this \
                   machine or in this pod, which speaks https to the world";
        check.require("otlp_endpoint", endpoint.starts_with("http://"), how);
        check.require(
            "log_filter",
            LogFilter::new(&self.log_filter).is_ok(),
            "allowed: directives such as `info` or `warn,scoring=debug`",
        );
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The collector's address cannot be used.
    #[error("the telemetry collector's address {endpoint} cannot be used: {reason}")]
    Endpoint {
        /// The address as configured.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The filter for log lines cannot be read.
    #[error("the log filter {filter:?} cannot be read: {source}")]
    Filter {
        /// The filter as configured.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A process has one place its log lines go to.
    #[error("telemetry is already set up in this process")]
    AlreadyInstalled,
    /// The machine gives no more threads.
    #[error("no thread can be had for telemetry: {0}")]
    Thread(#[source] std::io::Error),
}

/// Sets up telemetry for the process: log lines to standard error, and the export of spans and measurements where a
/// collector is configured. Needs no runtime, never waits for the collector.
///
/// # Errors
/// When the configuration cannot be used, or when it was called before.
pub fn init(config: &Config) -> Result<Guard, Error> {
    let (style, sink) = to_stderr(config.log_format);
    let (dispatch, guard) = build(config, style, sink)?;
    dispatch.try_init().map_err(|_| Error::AlreadyInstalled)?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    if let Some(pipeline) = &guard.pipeline {
        opentelemetry::global::set_tracer_provider(pipeline.tracers.clone());
        opentelemetry::global::set_meter_provider(pipeline.meters.clone());
    }
    Ok(guard)
}

/// The same without installing it: for tests that need telemetry of their own, to be put to use with
/// [`tracing::dispatcher::set_default`] on the one thread that a `tokio::test` runs everything on. Lines go to `sink`, each with its line break;
/// [`LogFormat::Auto`] means JSON here.
///
/// # Errors
/// When the configuration cannot be used.
pub fn scoped(config: &Config, sink: impl Fn(&str) + Send + Sync + 'static) -> Result<(Dispatch, Guard), Error> {
    let style = match config.log_format {
        LogFormat::Text => Style::Text { colour: false },
        LogFormat::Auto | LogFormat::Json => Style::Json,
    };
    build(config, style, Box::new(sink))
}

fn build(config: &Config, style: Style, sink: Sink) -> Result<(Dispatch, Guard), Error> {
    let filter = LogFilter::new(&config.log_filter)
        .map_err(|source| Error::Filter { filter: config.log_filter.clone(), source })?;
    let active = Arc::new(Active::default());
    let logs = Logs::new(style, sink, Arc::clone(&active));
    let Some(endpoint) = &config.otlp_endpoint else {
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(logs.with_filter(filter)));
        return Ok((dispatch, Guard { pipeline: None }));
    };
    let pipeline = Pipeline::start(config, endpoint, &active)?;
    active.start(pipeline.tracer(), Instruments::new(pipeline.meters.meter("clientele")));
    // Source locations, threads and busy times of every span would cost more than they tell. Spans are told apart by
    // tracing's own notion of the current span, so OpenTelemetry's need not be kept in step on every poll.
    let exported = |is: fn(&Metadata<'_>) -> bool| FilterFn::new(is).with_max_level_hint(LevelFilter::INFO);
    let traces = tracing_opentelemetry::layer()
        .with_tracer(pipeline.tracer())
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(exported(|metadata| is_exported(metadata) && !is_served(metadata)));
    let events = Events.with_filter(exported(is_exported));
    let dispatch =
        Dispatch::new(tracing_subscriber::registry().with(traces).with(events).with(logs.with_filter(filter)));
    Ok((dispatch, Guard { pipeline: Some(pipeline) }))
}

/// Libraries whose spans and events say nothing about a customer's contact; those of the transport would also trace the export.
const UNTRACED: [&str; 7] = ["h2", "hyper", "tonic", "tower", "rustls", "opentelemetry", "sqlx"];

/// Whether a span or event goes out to the collector.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && !UNTRACED.iter().any(|library| metadata.target().starts_with(library))
}

fn to_stderr(format: LogFormat) -> (Style, Sink) {
    let is_terminal = std::io::stderr().is_terminal();
    let style = match format {
        LogFormat::Text => Style::Text { colour: false },
        LogFormat::Json => Style::Json,
        LogFormat::Auto if is_terminal => Style::Text { colour: std::env::var_os("NO_COLOR").is_none() },
        LogFormat::Auto => Style::Json,
    };
    let sink = |line: &str| {
        // Whole lines at once, so that those of several threads never mix. A closed standard error is no reason to stop.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    };
    (style, Box::new(sink))
}

/// Keeps telemetry going. Dropped, it shuts down as [`Guard::shutdown`] does.
#[must_use = "telemetry ends when its guard is dropped"]
pub struct Guard {
    pipeline: Option<Pipeline>,
}

impl Guard {
    /// Sends what is queued and stops exporting. Blocks, for three seconds at most; what is not sent by then is lost. Safe to call
    /// from within a runtime: the export has a thread of its own.
    pub fn shutdown(mut self) {
        self.stop();
    }

    /// Sends what is queued and goes on. Blocks until the collector has it, for a few seconds at most.
    pub fn flush(&self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.flush();
        }
    }

    fn stop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.stop();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("exports", &self.pipeline.is_some()).finish()
    }
}

/// What is switched on, reached through the current subscriber, so that tests with telemetry of their own do not
/// disturb each other.
#[derive(Debug, Default)]
struct Active {
    tracer: OnceLock<SdkTracer>,
    instruments: OnceLock<Instruments>,
    dispatch: OnceLock<WeakDispatch>,
}

impl Active {
    /// Spans and measurements are exported.
    fn exports(&self) -> bool {
        self.tracer.get().is_some()
    }

    fn instruments(&self) -> Option<&Instruments> {
        self.instruments.get()
    }

    /// What begins the spans of served calls.
    fn tracer(&self) -> Option<&SdkTracer> {
        self.tracer.get()
    }

    fn start(&self, tracer: SdkTracer, instruments: Instruments) {
        let _ = self.tracer.set(tracer);
        let _ = self.instruments.set(instruments);
    }

    fn dispatch(&self) -> Option<Dispatch> {
        self.dispatch.get().and_then(WeakDispatch::upgrade)
    }

    fn set_dispatch(&self, dispatch: WeakDispatch) {
        let _ = self.dispatch.set(dispatch);
    }
}

/// What the current subscriber has switched on; `None` where telemetry was never set up.
fn active() -> Option<Arc<Active>> {
    dispatcher::get_default(|dispatch| dispatch.downcast_ref::<Logs>().map(|logs| Arc::clone(logs.active())))
}
