//! Log lines: text for people, JSON for programs, both with the trace they belong to.
//!
//! A layer of our own instead of the ready-made one: that one renders the fields of every span as it opens, which at tens of
//! thousands of calls a second costs more than the calls' traces. Here a span's fields are noted, and rendered only
//! for the few spans within which something is logged.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use opentelemetry::trace::SpanContext;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::{Extensions, LookupSpan, SpanRef};

use super::context::{self, Carried, TraceParent};
use super::served::Served;
use super::{Active, COLLECTOR_TARGET};
use crate::clock::stopwatch;

/// At least this much time lies between two lines about the collector: it may be down for days.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(60);

/// The targets of the OpenTelemetry crates begin with this.
const SDK_TARGETS: &str = "opentelemetry";

/// Events of the `log` crate come with this target and say the real one in a field.
const LOG_CRATE: &str = "log";

/// Where finished lines go.
pub(super) type Sink = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Text { colour: bool },
    Json,
}

/// A call as fields, made only when a line is written.
fn fields_of(call: &Served) -> Fields {
    let method = call.method();
    let mut fields = Fields::new(false, 4);
    let known = [
        ("rpc.service", Some(method.service)),
        ("rpc.method", Some(method.method)),
        ("clientele.service", method.owner()),
        (super::CALLER, call.caller()),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            let start = fields.text.len();
            fields.text.push_str(value);
            fields.push(name, Value::Text(start..fields.text.len()));
        }
    }
    fields
}

/// The layer that writes log lines and keeps what the spans carry.
pub(super) struct Logs {
    style: Style,
    sink: Sink,
    active: Arc<Active>,
    complaints: Complaints,
}

impl Logs {
    pub(super) fn new(style: Style, sink: Sink, active: Arc<Active>) -> Self {
        Self { style, sink, active, complaints: Complaints::default() }
    }

    pub(super) fn active(&self) -> &Arc<Active> {
        &self.active
    }

    /// Trace and span of the innermost span that belongs to a trace.
    fn ids<S>(&self, innermost: &SpanRef<'_, S>) -> Ids
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        if !self.active.exports() {
            let carried = innermost.scope().find_map(|span| span.extensions().get::<Carried>().copied());
            return Ids { trace: carried.map(|Carried(parent)| parent.trace_id().to_owned()), span: None };
        }
        let Some(dispatch) = self.active.dispatch() else { return Ids::default() };
        // A span of a library is kept for the lines and not exported: the next one around it is.
        let context = innermost.scope().find_map(|span| context::exported(&span, &dispatch));
        let Some(context) = context.filter(SpanContext::is_valid) else { return Ids::default() };
        Ids { trace: Some(context.trace_id().to_string()), span: Some(context.span_id().to_string()) }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("style", &self.style).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Ids {
    trace: Option<String>,
    span: Option<String>,
}

impl<S> Layer<S> for Logs
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.active.set_dispatch(dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.fields().is_empty() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::for_span(attributes.fields().len());
        attributes.record(&mut fields);
        let carried = fields.traceparent.take();
        let mut extensions = span.extensions_mut();
        if let Some(parent) = carried {
            extensions.insert(Carried(parent));
        }
        extensions.insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::for_event();
        event.record(&mut fields);
        let metadata = event.metadata();
        let about_the_collector = is_about_the_collector(metadata.target());
        if about_the_collector && !self.complaints.may_speak(stopwatch()) {
            return;
        }
        // What the exporter has to say may be said while a span is locked; and it belongs to no trace.
        let innermost = if about_the_collector { None } else { context.event_span(event) };
        let ids = innermost.as_ref().map(|span| self.ids(span)).unwrap_or_default();
        let mut line = Line { text: String::with_capacity(256), now: wall_clock(), metadata, event: &fields, ids };
        match self.style {
            Style::Json => line.json(innermost),
            Style::Text { colour } => line.text(innermost, colour),
        }
        (self.sink)(&line.text);
    }
}

fn is_about_the_collector(target: &str) -> bool {
    target == COLLECTOR_TARGET || target.starts_with(SDK_TARGETS)
}

/// Lets one line about the collector through in a while.
#[derive(Debug, Default)]
struct Complaints(Mutex<Option<Instant>>);

impl Complaints {
    fn may_speak(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_COMPLAINTS);
        if may {
            *last = Some(now);
        }
        may
    }
}

/// Which events are logged, and which spans are kept: the configured filter decides on events alone. Spans down to INFO are always
/// kept, for they carry the trace and say where an error was logged, however few lines are wanted.
pub(super) struct LogFilter {
    events: EnvFilter,
    names_sdk: bool,
    /// There are directives about spans, so the filter has to be told about each span as it comes and goes.
    names_spans: bool,
}

impl LogFilter {
    pub(super) fn new(directives: &str) -> Result<Self, tracing_subscriber::filter::ParseError> {
        let events = EnvFilter::builder().parse(directives)?;
        Ok(Self { events, names_sdk: directives.contains(SDK_TARGETS), names_spans: directives.contains('[') })
    }

    /// The SDK reports its every step; nobody wants to read that unless he asks for it by name.
    fn is_sdk_chatter(&self, metadata: &Metadata<'_>) -> bool {
        !self.names_sdk && *metadata.level() > Level::WARN && metadata.target().starts_with(SDK_TARGETS)
    }
}

fn is_kept_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && *metadata.level() <= Level::INFO
}

impl<S> Filter<S> for LogFilter
where
    EnvFilter: Filter<S>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        is_kept_span(metadata) || (!self.is_sdk_chatter(metadata) && Filter::enabled(&self.events, metadata, context))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked first, for the filter notes down the call sites it is asked about.
        let interest = Filter::callsite_enabled(&self.events, metadata);
        if is_kept_span(metadata) {
            Interest::always()
        } else if self.is_sdk_chatter(metadata) {
            Interest::never()
        } else {
            interest
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.events).map(|hint| hint.max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if self.names_spans {
            Filter::on_new_span(&self.events, attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if self.names_spans {
            Filter::on_record(&self.events, id, values, context);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if self.names_spans {
            Filter::on_enter(&self.events, id, context);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if self.names_spans {
            Filter::on_exit(&self.events, id, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if self.names_spans {
            Filter::on_close(&self.events, id, context);
        }
    }
}

/// The fields of a span or of an event, noted with at most two allocations.
#[derive(Debug)]
struct Fields {
    /// All texts, one after the other.
    text: String,
    values: Vec<(&'static str, Value)>,
    /// A span's display name, or an event's message.
    title: Option<Range<usize>>,
    /// Target of an event of the `log` crate.
    target: Option<Range<usize>>,
    traceparent: Option<TraceParent>,
    of_event: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(Range<usize>),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
}

impl Fields {
    fn for_span(fields: usize) -> Self {
        Self::new(false, fields)
    }

    fn for_event() -> Self {
        Self::new(true, 4)
    }

    fn new(of_event: bool, fields: usize) -> Self {
        Self {
            text: if fields == 0 { String::new() } else { String::with_capacity(160) },
            values: Vec::with_capacity(fields),
            title: None,
            target: None,
            traceparent: None,
            of_event,
        }
    }

    fn title(&self) -> Option<&str> {
        self.title.clone().and_then(|range| self.text.get(range))
    }

    fn target(&self) -> Option<&str> {
        self.target.clone().and_then(|range| self.text.get(range))
    }

    fn push(&mut self, name: &'static str, value: Value) {
        // A field recorded a second time replaces its first value.
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    fn push_text(&mut self, name: &'static str, text: Range<usize>) {
        match name {
            "message" if self.of_event => self.title = Some(text),
            "otel.name" if !self.of_event => self.title = Some(text),
            "log.target" => self.target = Some(text),
            // Meant for exporters, or about the source of a `log` record.
            _ if name.starts_with("otel.") || name.starts_with("log.") => {}
            _ => self.push(name, Value::Text(text)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "traceparent" && !self.of_event {
            self.traceparent = TraceParent::parse(value);
            return;
        }
        let start = self.text.len();
        self.text.push_str(value);
        self.push_text(field.name(), start..self.text.len());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let start = self.text.len();
        // Writing to a string fails only when a value's own rendering does; what it wrote until then stays.
        let _ = write!(self.text, "{value:?}");
        self.push_text(field.name(), start..self.text.len());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.push(field.name(), Value::Unsigned(value));
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), Value::Bool(value));
    }
}

/// Keys of a JSON line that a field must not take.
const RESERVED: [&str; 7] = ["timestamp", "level", "target", "message", "trace_id", "span_id", "span"];

struct Line<'a> {
    text: String,
    now: Timestamp,
    metadata: &'static Metadata<'static>,
    event: &'a Fields,
    ids: Ids,
}

impl Line<'_> {
    fn target(&self) -> &str {
        match self.event.target() {
            Some(target) if self.metadata.target() == LOG_CRATE => target,
            _ => self.metadata.target(),
        }
    }

    /// One object on one line. Fields of the spans stand beside those of the event; of two with one name the innermost stays.
    fn json<S>(&mut self, innermost: Option<SpanRef<'_, S>>)
    where
        S: for<'span> LookupSpan<'span>,
    {
        let mut text = std::mem::take(&mut self.text);
        let _ = write!(text, r#"{{"timestamp":"{:.6}","level":"{}","target":"#, self.now, self.metadata.level());
        push_json(&mut text, self.target());
        if let Some(message) = self.event.title() {
            text.push_str(r#","message":"#);
            push_json(&mut text, message);
        }
        for (key, id) in [("trace_id", &self.ids.trace), ("span_id", &self.ids.span)] {
            if let Some(id) = id {
                let _ = write!(text, r#","{key}":"{id}""#);
            }
        }
        let mut written: Vec<&'static str> = Vec::new();
        push_json_fields(&mut text, self.event, &mut written);
        if let Some(innermost) = innermost {
            text.push_str(r#","span":"#);
            push_json(&mut text, span_name(&innermost.extensions(), innermost.metadata()));
            for span in innermost.scope() {
                let extensions = span.extensions();
                if let Some(call) = extensions.get::<Served>() {
                    push_json_fields(&mut text, &fields_of(call), &mut written);
                }
                if let Some(fields) = extensions.get::<Fields>() {
                    push_json_fields(&mut text, fields, &mut written);
                }
            }
        }
        text.push_str("}\n");
        self.text = text;
    }

    /// Time, level, target, message, fields; then the spans from the innermost outwards and the trace.
    fn text<S>(&mut self, innermost: Option<SpanRef<'_, S>>, colour: bool)
    where
        S: for<'span> LookupSpan<'span>,
    {
        let mut text = std::mem::take(&mut self.text);
        let (dim, plain) = if colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let level = match (colour, *self.metadata.level()) {
            (true, Level::ERROR) => "\x1b[31m",
            (true, Level::WARN) => "\x1b[33m",
            (true, Level::INFO) => "\x1b[32m",
            (true, _) => "\x1b[34m",
            (false, _) => "",
        };
        let _ = write!(
            text,
            "{dim}{:.3}{plain} {level}{:>5}{plain} {dim}{}:{plain} ",
            self.now,
            self.metadata.level(),
            self.target()
        );
        push_visible(&mut text, self.event.title().unwrap_or_default());
        push_text_fields(&mut text, self.event);
        for span in innermost.iter().flat_map(SpanRef::scope) {
            let extensions = span.extensions();
            let _ = write!(text, " {dim}in{plain} ");
            // The name of a call says its service and method already.
            push_visible(&mut text, span_name(&extensions, span.metadata()));
            if let Some(fields) = extensions.get::<Fields>() {
                push_text_fields(&mut text, fields);
            }
        }
        if let Some(trace) = &self.ids.trace {
            let _ = write!(text, " {dim}trace={trace}{plain}");
        }
        text.push('\n');
        self.text = text;
    }
}

fn span_name<'a>(extensions: &'a Extensions<'_>, metadata: &'static Metadata<'static>) -> &'a str {
    let call = extensions.get::<Served>().map(|call| call.method().name());
    call.or_else(|| extensions.get::<Fields>().and_then(Fields::title)).unwrap_or(metadata.name())
}

fn push_json_fields(text: &mut String, fields: &Fields, written: &mut Vec<&'static str>) {
    for (name, value) in &fields.values {
        if written.contains(name) {
            continue;
        }
        written.push(name);
        let prefix = if RESERVED.contains(name) { "field." } else { "" };
        let _ = write!(text, r#","{prefix}{name}":"#);
        let _ = match value {
            Value::Text(range) => {
                push_json(text, fields.text.get(range.clone()).unwrap_or_default());
                Ok(())
            }
            Value::Signed(value) => write!(text, "{value}"),
            Value::Unsigned(value) => write!(text, "{value}"),
            // JSON knows no infinity and no NaN.
            Value::Float(value) if value.is_finite() => write!(text, "{value}"),
            Value::Float(value) => write!(text, r#""{value}""#),
            Value::Bool(value) => write!(text, "{value}"),
        };
    }
}

fn push_json(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

fn push_text_fields(text: &mut String, fields: &Fields) {
    for (name, value) in &fields.values {
        let _ = write!(text, " {name}=");
        let _ = match value {
            Value::Text(range) => {
                let value = fields.text.get(range.clone()).unwrap_or_default();
                if value.is_empty() || value.contains([' ', '"', '=']) {
                    write!(text, "{value:?}")
                } else {
                    push_visible(text, value);
                    Ok(())
                }
            }
            Value::Signed(value) => write!(text, "{value}"),
            Value::Unsigned(value) => write!(text, "{value}"),
            Value::Float(value) => write!(text, "{value}"),
            Value::Bool(value) => write!(text, "{value}"),
        };
    }
}

/// A line break in a value must not look like the beginning of another line, nor may a value steer the terminal.
fn push_visible(text: &mut String, value: &str) {
    for character in value.chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
}

/// Lines are dated by the machine's own clock even where the services run on a shifted one: they are read beside the lines of
/// other programs.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_a_minute_gets_through() {
        let complaints = Complaints::default();
        let start = stopwatch();
        assert!(complaints.may_speak(start));
        assert!(!complaints.may_speak(start + Duration::from_secs(59)));
        assert!(complaints.may_speak(start + Duration::from_secs(60)));
        assert!(!complaints.may_speak(start + Duration::from_secs(61)));
    }
}
