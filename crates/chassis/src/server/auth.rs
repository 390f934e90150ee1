//! Asks callers who they are, where any are named.
use tonic::body::Body;

use super::{Called, Mounts, answer, is_health};
use crate::{
    auth::{Caller, Callers},
    error::Error,
    telemetry,
};

/// The last layer before the services.
#[derive(Clone)]
pub(super) struct Auth {
    inner: Mounts,
    callers: Callers,
}

impl Auth {
    pub(super) fn new(inner: Mounts, callers: Callers) -> Self {
        Self { inner, callers }
    }

    pub(super) fn call(&self, mut request: http::Request<Body>) -> Called {
        match self.admit(&mut request) {
            Ok(None) => self.inner.call(request),
            Ok(Some(caller)) => {
                let call = self.inner.call(request);
                // While it is polled the span of the call is the current one.
                Box::pin(async move {
                    telemetry::name_caller(caller.shared_name());
                    call.await
                })
            }
            Err(error) => Box::pin(std::future::ready(Ok(answer(error)))),
        }
    }

    /// Who calls, where anybody is asked.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<Option<Caller>, Error> {
        // Probes have no token, and learn nothing but whether we serve.
        if self.callers.is_empty() || is_health(request.uri().path()) {
            return Ok(None);
        }
        let caller = self.callers.identify(request.headers())?;
        request.extensions_mut().insert(caller.clone());
        Ok(Some(caller))
    }
}
