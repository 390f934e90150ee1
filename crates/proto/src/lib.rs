//! The contract of every service, generated from `proto/` at build time: read the comments there.
#![allow(clippy::all, missing_debug_implementations, unreachable_pub, rustdoc::all)]

/// Every message and service as a `FileDescriptorSet`, for reflection and for tests that walk all RPCs.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// What the services share: money, feeds, error reasons.
pub mod common {
    pub mod v1 {
        tonic::include_proto!("clientele.common.v1");
    }
}

/// The one record of a customer.
pub mod profiles {
    pub mod v1 {
        tonic::include_proto!("clientele.profiles.v1");
    }
}

/// What each customer is worth.
pub mod scoring {
    pub mod v1 {
        tonic::include_proto!("clientele.scoring.v1");
    }
}

/// Which channel and queue a contact goes to.
pub mod routing {
    pub mod v1 {
        tonic::include_proto!("clientele.routing.v1");
    }
}

/// Complaints and their clocks.
pub mod complaints {
    pub mod v1 {
        tonic::include_proto!("clientele.complaints.v1");
    }
}
