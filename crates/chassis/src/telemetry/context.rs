//! The trace context that calls and changes carry, with telemetry on or off.
//!
//! With telemetry on the context is OpenTelemetry's and lives in the span. With telemetry off nobody makes spans worth
//! exporting, but a caller's context must still reach the peers and the feed, or a trace would end at every process
//! that runs without a collector. Then the validated `traceparent` itself rides on the span.

use std::fmt;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Dispatch, Span, dispatcher};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::is_exported;
use super::logs::Logs;
use super::served::Served;
use crate::hex;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a version-00 `traceparent`: 2 + 32 + 2 digits and the span's 16, with three dashes.
const LENGTH: usize = 55;

/// A `traceparent` that was checked digit by digit: header text of a stranger is never passed on as it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceParent([u8; LENGTH]);

impl TraceParent {
    /// Reads a W3C `traceparent`. Later versions are read as version 00, as the standard demands; anything malformed,
    /// or with an all-zero id, is as if it were absent.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.trim().as_bytes();
        let head: [u8; LENGTH] = bytes.get(..LENGTH)?.try_into().ok()?;
        let digit = |at: usize| matches!(head[at], b'0'..=b'9' | b'a'..=b'f');
        let digits = |from: usize, to: usize| (from..to).all(digit);
        let zero = |from: usize, to: usize| head[from..to].iter().all(|byte| *byte == b'0');
        let shaped = head[2] == b'-' && head[35] == b'-' && head[52] == b'-';
        let hex = digits(0, 2) && digits(3, 35) && digits(36, 52) && digits(53, 55);
        if !shaped || !hex || zero(3, 35) || zero(36, 52) {
            return None;
        }
        let whole = match &head[..2] {
            b"00" => bytes.len() == LENGTH,
            b"ff" => false,
            _ => bytes.len() == LENGTH || bytes[LENGTH] == b'-',
        };
        if !whole {
            return None;
        }
        let mut version_00 = head;
        version_00[..2].copy_from_slice(b"00");
        Some(Self(version_00))
    }

    fn from_context(context: &SpanContext) -> Option<Self> {
        if !context.is_valid() {
            return None;
        }
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &context.trace_id().to_bytes());
        write_hex(&mut text[36..52], &context.span_id().to_bytes());
        if context.is_sampled() {
            text[54] = b'1';
        }
        Some(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        // Only ASCII digits and dashes get in, so the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 32 digits of the trace's id.
    pub(super) fn trace_id(&self) -> &str {
        &self.as_str()[3..35]
    }

    fn to_context(self, state: TraceState) -> SpanContext {
        let text = self.as_str();
        SpanContext::new(
            TraceId::from_hex(&text[3..35]).unwrap_or(TraceId::INVALID),
            SpanId::from_hex(&text[36..52]).unwrap_or(SpanId::INVALID),
            TraceFlags::new(u8::from_str_radix(&text[53..55], 16).unwrap_or(0)) & TraceFlags::SAMPLED,
            true,
            state,
        )
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn write_hex(target: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in target.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&hex(*byte));
    }
}

/// The `traceparent` a span carries while telemetry is off; kept among the span's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried(pub(super) TraceParent);

/// What came with a request: the caller's span and the vendors' `tracestate`.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) parent: TraceParent,
    state: TraceState,
}

impl Incoming {
    pub(super) fn into_context(self) -> SpanContext {
        self.parent.to_context(self.state)
    }
}

/// Reads the W3C headers of a request, `None` where the caller traces nothing.
pub(super) fn extract(headers: &HeaderMap) -> Option<Incoming> {
    let parent = TraceParent::parse(headers.get(TRACEPARENT)?.to_str().ok()?)?;
    let state = headers
        .get(TRACESTATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    Some(Incoming { parent, state })
}

/// Lets `span` begin as a child of another. To be called before the span is first entered.
fn begin(span: &Span, parent: SpanContext) {
    // Refused only for a span that is filtered out or already started; neither is worth failing a call for.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
}

/// Writes the context of `span` into the headers of a call made on its behalf.
pub(super) fn inject(span: &Span, headers: &mut HeaderMap) {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    let Some(parent) = TraceParent::from_context(context) else { return };
    insert(headers, parent);
    let state = context.trace_state().header();
    if !state.is_empty()
        && let Ok(value) = HeaderValue::from_str(&state)
    {
        headers.insert(TRACESTATE, value);
    }
}

/// Writes a carried `traceparent` into the headers of a call.
pub(super) fn insert(headers: &mut HeaderMap, parent: TraceParent) {
    if let Ok(value) = HeaderValue::from_bytes(&parent.0) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The context of the current span, or of the nearest span around it that carries one.
pub(super) fn current() -> Option<TraceParent> {
    Span::current()
        .with_subscriber(|(id, dispatch)| {
            let logs = dispatch.downcast_ref::<Logs>()?;
            let mut scope = dispatch.downcast_ref::<Registry>()?.span(id)?.scope();
            if logs.active().exports() {
                TraceParent::from_context(&scope.find_map(|span| exported(&span, dispatch))?)
            } else {
                scope.find_map(|span| span.extensions().get::<Carried>().map(|carried| carried.0))
            }
        })
        .flatten()
}

/// The context of a span that is exported: those that only log lines speak of have none.
pub(super) fn exported<S>(span: &SpanRef<'_, S>, dispatch: &Dispatch) -> Option<SpanContext>
where
    S: for<'span> LookupSpan<'span>,
{
    if let Some(served) = span.extensions().get::<Served>() {
        return served.context();
    }
    let context = tracing_opentelemetry::get_otel_context(&span.id(), dispatch)?;
    Some(context.span().span_context().clone())
}

/// Lets a span that was just opened, and not entered yet, be a child of the served call on whose behalf the current span works. Where another span that
/// is exported lies between, it is that one's already.
pub(super) fn adopt(span: &Span) {
    let serving = Span::current().with_subscriber(|(id, dispatch)| {
        let mut scope = dispatch.downcast_ref::<Registry>()?.span(id)?.scope();
        let nearest = scope.find(|span| is_exported(span.metadata()))?;
        nearest.extensions().get::<Served>().and_then(Served::context)
    });
    if let Some(parent) = serving.flatten() {
        begin(span, parent);
    }
}

/// Whether spans are exported, at the price of a look at the subscriber.
fn exports() -> bool {
    dispatcher::get_default(|dispatch| dispatch.downcast_ref::<Logs>().is_some_and(|logs| logs.active().exports()))
}

/// The W3C `traceparent` of the current span: what a change is published with, so that whoever follows it can
/// continue the trace with [`span_following`]. With telemetry off it is the one that came with the request; `None` outside
/// any trace.
pub fn current_traceparent() -> Option<String> {
    current().map(|parent| parent.as_str().to_owned())
}

/// A span that consumes a published change: its parent is the remote span that `traceparent` names, so that one trace
/// shows the purchase, the follower and the decision. `name` is the span's name in traces and logs.
///
/// With telemetry off the span carries the context on, to peers and to changes published within it. A `traceparent` that is
/// empty or malformed starts a trace of its own.
pub fn span_following(name: &'static str, traceparent: &str) -> Span {
    let parent = TraceParent::parse(traceparent);
    let exports = exports();
    let carried = parent.as_ref().filter(|_| !exports).map(TraceParent::as_str);
    let span = tracing::info_span!(
        parent: None,
        "follow",
        otel.name = name,
        otel.kind = "consumer",
        traceparent = carried,
    );
    if exports && let Some(parent) = parent {
        begin(&span, parent.to_context(TraceState::default()));
    }
    span
}

/// Links the current span to the span that `traceparent` names: what it did rests on that, and is no part of its trace.
///
/// Does nothing with telemetry off, in a span that is not recorded, outside any span, or where `traceparent` is empty or malformed.
pub fn link(traceparent: &str) {
    Span::current().with_subscriber(|(id, dispatch)| {
        if !dispatch.downcast_ref::<Logs>()?.active().exports() {
            return None;
        }
        let to = TraceParent::parse(traceparent)?.to_context(TraceState::default());
        for span in dispatch.downcast_ref::<Registry>()?.span(id)?.scope() {
            if let Some(served) = span.extensions_mut().get_mut::<Served>() {
                served.link(to);
                break;
            }
            if let Some(context) = tracing_opentelemetry::get_otel_context(&span.id(), dispatch) {
                let span = context.span();
                // Asked here: a link handed to the span's builder would be kept before it is known whether the trace is.
                if span.is_recording() {
                    span.add_link(to, Vec::new());
                }
                break;
            }
        }
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_survives_the_way_through_a_span_context() {
        let parent = TraceParent::parse(GOOD).unwrap();
        assert_eq!(parent.as_str(), GOOD);
        assert_eq!(parent.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let context = parent.to_context(TraceState::default());
        assert!(context.is_remote() && context.is_sampled());
        assert_eq!(TraceParent::from_context(&context), Some(parent));
    }

    #[test]
    fn a_malformed_traceparent_is_as_if_absent() {
        for bad in [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_the_version_we_know() {
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(TraceParent::parse(later).unwrap().as_str(), GOOD);
    }
}
