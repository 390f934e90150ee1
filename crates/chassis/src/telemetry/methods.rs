//! The RPCs a process serves, read from their descriptors.

use std::collections::HashMap;
use std::sync::OnceLock;

use opentelemetry::KeyValue;
use prost::Message;
use prost_types::FileDescriptorSet;

use super::metrics::CODES;

/// What unknown paths are called: a stranger who probes paths must not grow the number of time series.
const OTHER: &str = "other";

/// Infrastructure such as health and reflection lives under this package, whether its descriptors are known or not. Probes come every few seconds and would be most of
/// the spans of an idle system, so these calls are measured and not traced.
const UNTRACED_PATHS: &str = "/grpc.";

/// Packages are `clientele.<service>.v1`; the middle part says whose work a span is.
const OWN_PACKAGE: &str = "clientele.";

pub(super) fn is_traced(path: &str) -> bool {
    !path.starts_with(UNTRACED_PATHS)
}

/// One RPC.
#[derive(Debug)]
pub struct Method {
    /// Full name of the gRPC service, such as `clientele.scoring.v1.ScoringService`.
    pub service: &'static str,
    /// Name of the RPC, such as `GetScore`.
    pub method: &'static str,
    /// The client sends a stream of messages.
    pub client_streaming: bool,
    /// The server answers with a stream of messages.
    pub server_streaming: bool,
    name: &'static str,
    /// What a span of this RPC begins with. Made once: given as fields of the span, each would be copied on every call.
    attributes: Vec<KeyValue>,
    by_code: [OnceLock<[KeyValue; 3]>; CODES],
}

impl Method {
    fn new(service: &'static str, method: &'static str, client_streaming: bool, server_streaming: bool) -> Self {
        let name = if method == OTHER { OTHER } else { forever(format!("{service}/{method}")) };
        let mut attributes = vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service),
            KeyValue::new("rpc.method", method),
        ];
        attributes.extend(owner(service).map(|owner| KeyValue::new("clientele.service", owner)));
        Self { service, method, client_streaming, server_streaming, name, attributes, by_code: Default::default() }
    }

    /// `service/method`, as spans are named.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Which service of the suite the RPC belongs to (`scoring`); `None` for foreign packages.
    pub fn owner(&self) -> Option<&'static str> {
        owner(self.service)
    }

    pub(super) fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    /// The attributes of a measurement that ended with `code`, made once per code.
    pub(super) fn labels(&self, code: usize) -> &[KeyValue] {
        // A code beyond the known ones is UNKNOWN (2), as gRPC says.
        let code = if code < CODES { code } else { 2 };
        self.by_code[code].get_or_init(|| {
            [
                KeyValue::new("rpc.grpc.status_code", i64::try_from(code).unwrap_or(2)),
                KeyValue::new("rpc.method", self.method),
                KeyValue::new("rpc.service", self.service),
            ]
        })
    }
}

fn owner(service: &'static str) -> Option<&'static str> {
    service.strip_prefix(OWN_PACKAGE)?.split('.').next()
}

/// Descriptors are read once and for the life of the process. Names that live as long are never copied again, which at
/// half a dozen per call would be the larger part of what tracing costs.
fn forever(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Every RPC by its path. Built once at start, then only read.
#[derive(Debug)]
pub struct KnownMethods {
    by_path: HashMap<String, usize>,
    methods: Vec<Method>,
}

impl Default for KnownMethods {
    /// No RPC known: every path is `other`.
    fn default() -> Self {
        // The first place is the one unknown paths share.
        Self { by_path: HashMap::new(), methods: vec![Method::new(OTHER, OTHER, false, false)] }
    }
}

impl KnownMethods {
    /// Reads the RPCs of an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// When the bytes are not a descriptor set.
    pub fn from_descriptors(descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        Self::default().and(descriptors)
    }

    /// Adds the RPCs of one more `FileDescriptorSet`, such as the one of the health service.
    ///
    /// # Errors
    /// When the bytes are not a descriptor set.
    pub fn and(mut self, descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        let set = FileDescriptorSet::decode(descriptors)?;
        for file in &set.file {
            let package = match file.package() {
                "" => String::new(),
                package => format!("{package}."),
            };
            for service in &file.service {
                let service_name = forever(format!("{package}{}", service.name()));
                for method in &service.method {
                    let path = format!("/{service_name}/{}", method.name());
                    let method = Method::new(
                        service_name,
                        forever(method.name().to_owned()),
                        method.client_streaming(),
                        method.server_streaming(),
                    );
                    self.by_path.insert(path, self.methods.len());
                    self.methods.push(method);
                }
            }
        }
        Ok(self)
    }

    /// The RPC at a request's path (`/package.Service/Method`), `None` when no such RPC is served.
    pub fn get(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path).and_then(|index| self.methods.get(*index))
    }

    /// All RPCs, in the order of their descriptors.
    pub fn iter(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().skip(1)
    }

    /// The place of a path's RPC, for [`Self::at`]; unknown paths share one.
    pub(super) fn index(&self, path: &str) -> usize {
        self.by_path.get(path).copied().unwrap_or(0)
    }

    pub(super) fn at(&self, index: usize) -> &Method {
        self.methods.get(index).unwrap_or(&self.methods[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_known_with_its_streaming_and_is_not_traced() {
        let known = KnownMethods::from_descriptors(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        let check = known.get("/grpc.health.v1.Health/Check").unwrap();
        assert_eq!((check.service, check.method), ("grpc.health.v1.Health", "Check"));
        assert!(!check.client_streaming && !check.server_streaming);
        assert!(!is_traced("/grpc.health.v1.Health/Check") && is_traced("/a.B/C"));
        assert!(known.get("/grpc.health.v1.Health/Watch").unwrap().server_streaming);
        assert_eq!(check.owner(), None);
    }

    #[test]
    fn unknown_paths_share_one_label() {
        let known = KnownMethods::default();
        assert!(known.get("/a.B/C").is_none());
        assert_eq!(known.at(known.index("/a.B/C")).name(), "other");
        assert_eq!(known.iter().count(), 0);
    }

    #[test]
    fn the_owner_is_the_middle_of_our_own_package() {
        assert_eq!(Method::new("clientele.scoring.v1.Scores", "Get", false, false).owner(), Some("scoring"));
        assert_eq!(Method::new("acme.v1.Scores", "Get", false, false).owner(), None);
    }

    #[test]
    fn bytes_that_are_no_descriptors_are_refused() {
        assert!(KnownMethods::from_descriptors(&[0xff, 0xff, 0xff]).is_err());
    }
}
