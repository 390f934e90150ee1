//! What the span of a served call carries: which RPC it is of, who called, and its OpenTelemetry span.
//!
//! The spans of served calls do not go through `tracing-opentelemetry`, as all others do: one call is one span, and to gather it field by field, to
//! look it up for each of them and to build it when it closes is most of what tracing a call of a few microseconds costs. Here it is built once, from
//! what is known beforehand of its RPC. So `tracing-opentelemetry` does not know it either: a span that is opened within a call becomes its child by
//! [`context::adopt`](super::context::adopt), and begins a trace of its own without.

use std::fmt;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};
use tonic::Code;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::context::{Carried, Incoming};
use super::{KnownMethods, Method};

/// The name of the spans of served calls, as long as they are not exported: then it is `service/method`.
const SPAN_NAME: &str = "rpc";

/// Whether a span is that of a served call.
pub(super) fn is_served(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == SPAN_NAME && metadata.target() == module_path!()
}

/// A call that is served; kept among the extensions of its `tracing` span.
#[derive(Debug)]
pub(super) struct Served {
    known: Arc<KnownMethods>,
    index: usize,
    caller: Option<Arc<str>>,
    /// Absent with telemetry off, and once the call has ended.
    span: Option<SdkSpan>,
    /// The same span's, which outlives it: what a call began may go on after its caller went away, and belongs to its trace.
    context: Option<SpanContext>,
}

impl Served {
    /// The span of a call to the RPC at `index`, a child of the caller's span if there is one. Without a `tracer` the caller's context rides on it as it
    /// came.
    pub(super) fn open(
        known: &Arc<KnownMethods>,
        index: usize,
        tracer: Option<&SdkTracer>,
        incoming: Option<Incoming>,
    ) -> Span {
        // A request begins its own tree: what happens to be current in the accepting task is not its parent.
        let opened = tracing::info_span!(parent: None, SPAN_NAME);
        let carried = incoming.as_ref().filter(|_| tracer.is_none()).map(|incoming| incoming.parent);
        let span = tracer.map(|tracer| start(tracer, known.at(index), incoming));
        let context = span.as_ref().map(|span| span.span_context().clone());
        let served = Self { known: Arc::clone(known), index, caller: None, span, context };
        within(&opened, |span| {
            let mut extensions = span.extensions_mut();
            extensions.insert(served);
            if let Some(parent) = carried {
                extensions.insert(Carried(parent));
            }
        });
        opened
    }

    /// Says which caller it is of.
    pub(super) fn name_caller(span: &Span, name: &Arc<str>) {
        Self::with(span, |served| {
            served.caller = Some(Arc::clone(name));
            if let Some(span) = &mut served.span {
                let name = opentelemetry::StringValue::from(Arc::clone(name));
                span.set_attribute(KeyValue::new(super::CALLER, name));
            }
        });
    }

    /// The call has ended; `is_fault` where that is the server's.
    pub(super) fn end(span: &Span, code: Code, is_fault: bool) {
        let exported = Self::with(span, |served| served.span.take()).flatten();
        let Some(mut exported) = exported else { return };
        exported.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
        if is_fault {
            exported.set_status(Status::error(""));
        }
        exported.end();
    }

    fn with<T>(span: &Span, then: impl FnOnce(&mut Self) -> T) -> Option<T> {
        within(span, |span| span.extensions_mut().get_mut::<Self>().map(then)).flatten()
    }

    /// Links the call to another span: what it did rests on that, and is no part of its trace.
    pub(super) fn link(&mut self, to: SpanContext) {
        // A span that is not recorded keeps none.
        if let Some(span) = &mut self.span {
            span.add_link(to, Vec::new());
        }
    }

    /// The context of the call's span; absent with telemetry off.
    pub(super) fn context(&self) -> Option<SpanContext> {
        self.context.clone()
    }

    fn is_recording(&self) -> bool {
        self.span.as_ref().is_some_and(SdkSpan::is_recording)
    }

    pub(super) fn method(&self) -> &Method {
        self.known.at(self.index)
    }

    pub(super) fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }
}

fn start(tracer: &SdkTracer, method: &Method, incoming: Option<Incoming>) -> SdkSpan {
    let known = method.attributes();
    // Two more places, for the caller and the status.
    let mut attributes = Vec::with_capacity(known.len() + 2);
    attributes.extend_from_slice(known);
    let builder = SpanBuilder::from_name(method.name()).with_kind(SpanKind::Server).with_attributes(attributes);
    let parent = opentelemetry::Context::new();
    match incoming {
        Some(incoming) => tracer.build_with_context(builder, &parent.with_remote_span_context(incoming.into_context())),
        None => tracer.build_with_context(builder, &parent),
    }
}

fn within<T>(span: &Span, then: impl FnOnce(SpanRef<'_, Registry>) -> T) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| dispatch.downcast_ref::<Registry>()?.span(id).map(then)).flatten()
}

/// The attribute that says where an event is from.
const TARGET: &str = "target";

/// The layer that notes on the span of a served call what is logged within it. It is to see the spans that are exported, and no others.
#[derive(Debug)]
pub(super) struct Events;

impl<S> Layer<S> for Events
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What is said within a span of its own, such as that of a call to a peer, belongs there.
        let Some(span) = context.event_span(event) else { return };
        if !span.extensions().get::<Served>().is_some_and(Served::is_recording) {
            return;
        }
        // Before the span is locked: how a value is written down is foreign code, which may log as well, or panic.
        let said = Said::of(event);
        let mut extensions = span.extensions_mut();
        let Some(span) = extensions.get_mut::<Served>().and_then(|served| served.span.as_mut()) else { return };
        span.add_event(said.name.unwrap_or_else(|| event.metadata().name().to_owned()), said.attributes);
        if *event.metadata().level() == Level::ERROR {
            span.set_status(Status::error(""));
        }
    }
}

/// An event's message and fields.
struct Said {
    name: Option<String>,
    attributes: Vec<KeyValue>,
}

impl Said {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut said = Self { name: None, attributes: Vec::new() };
        said.push("level", metadata.level().as_str());
        event.record(&mut said);
        // A record of the `log` crate has said its own.
        if !said.attributes.iter().any(|said| said.key.as_str() == TARGET) {
            said.push(TARGET, metadata.target());
        }
        said
    }

    fn push(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }

    fn push_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.name = Some(text),
            "log.target" => self.push(TARGET, text),
            // About the source of a `log` record.
            name if name.starts_with("log.") => {}
            name => self.push(name, text),
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value);
    }
}
