//! Asks callers who they are, where any are named.
use std::{convert::Infallible, future::Future};

use tonic::body::Body;

use super::{Mounts, Response, answer, is_health};
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

    pub(super) fn call(
        &self,
        mut request: http::Request<Body>,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
        let call = self.admit(&mut request).map(|caller| (self.inner.call(request), caller));
        async move {
            match call {
                Ok((call, caller)) => {
                    if let Some(caller) = caller {
                        telemetry::name_caller(caller.shared_name());
                    }
                    call.await
                }
                Err(error) => Ok(answer(error)),
            }
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
