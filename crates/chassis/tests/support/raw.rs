//! A server whose start and end the test watches itself, and what is asked of it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]
use std::net::SocketAddr;

use chassis::{
    Context, Result, Service,
    clock::Clock,
    peers::{self, Channel, Peers},
    server::{self, Config},
    testing::noon,
};
use proto::scoring::v1::{GetScoreRequest, GetScoreResponse, scoring_client::ScoringClient};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

pub const SERVING: i32 = 1;

/// A server whose start and end the test watches itself.
pub struct Raw {
    pub address: SocketAddr,
    pub context: Context,
    pub end: CancellationToken,
    pub serving: JoinHandle<Result<()>>,
}

impl Raw {
    pub async fn start(config: Config, mount: impl FnOnce(&Context) -> Vec<Service>) -> Self {
        let listener = server::bind("127.0.0.1:0".parse().unwrap(), &config).await.unwrap();
        let address = listener.local_addr().unwrap();
        let context = Context::new(Clock::mock(noon()), Peers::default());
        let (end, services) = (CancellationToken::new(), mount(&context));
        let serving =
            tokio::spawn(server::serve(listener, config, context.clone(), services, end.clone().cancelled_owned()));
        Self { address, context, end, serving }
    }

    pub fn channel(&self) -> Channel {
        peers::channel("server", &format!("http://{}", self.address), None).unwrap()
    }
}

pub async fn health(channel: &Channel, service: &str) -> Result<i32, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    match HealthClient::new(channel.clone()).check(request).await {
        Ok(reply) => Ok(reply.into_inner().status),
        Err(status) => Err(status.code()),
    }
}

pub async fn get_score(channel: &Channel) -> Result<GetScoreResponse, Status> {
    Ok(ScoringClient::new(channel.clone()).get_score(GetScoreRequest::default()).await?.into_inner())
}
