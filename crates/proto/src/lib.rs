//! The contract of every service, generated from `proto/` at build time: read the comments there.
#![allow(clippy::all, missing_debug_implementations, unreachable_pub, rustdoc::all)]

/// Every message and service as a `FileDescriptorSet`, for reflection and for tests that walk all RPCs.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

mod prepared;

pub use prepared::{Encoded, Prepared};

/// What the services share: money, feeds, error reasons.
pub mod common {
    pub mod v1 {
        tonic::include_proto!("clientele.common.v1");
    }
}

impl common::v1::Money {
    /// What a currency's code must be, for whoever gave another one.
    pub const CURRENCY: &str =
        "must be the ISO 4217 code of a currency with a minor unit: three capital letters such as EUR";

    /// Digits behind the point of a currency (ISO 4217): two for most, and for a code that is none.
    pub fn exponent(currency: &str) -> u32 {
        digits(currency).unwrap_or(2)
    }

    /// Whether amounts can be in it. They cannot where ISO 4217 knows no minor unit: metals, the code for tests, the one for none.
    pub fn is_currency(code: &str) -> bool {
        digits(code).is_some()
    }
}

fn digits(currency: &str) -> Option<u32> {
    iso_currency::Currency::from_code(currency)?.exponent().map(u32::from)
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

impl complaints::v1::ComplaintState {
    /// The states of an open complaint, where a list of them is needed.
    pub const ALL_OPEN: [Self; 4] = [Self::Filed, Self::Open, Self::Waiting, Self::Reopened];

    /// Whether a complaint in this state is still to be solved. One in a state that is not known counts as open, so that nobody sells to an
    /// unhappy customer.
    pub fn is_open(self) -> bool {
        match self {
            Self::Filed | Self::Open | Self::Waiting | Self::Reopened | Self::Unspecified => true,
            Self::Resolved | Self::Closed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        common::v1::Money,
        complaints::v1::{Complaint, ComplaintState as State},
    };

    #[test]
    fn a_currency_is_one_that_amounts_can_be_in() {
        for (code, digits) in [("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            assert!(Money::is_currency(code), "{code}");
            assert_eq!(Money::exponent(code), digits, "{code}");
        }
        for code in ["", "eur", "EURO", "XXQ", "ZZZ", "XXX", "XTS", "XAU", "€"] {
            assert!(!Money::is_currency(code), "{code}");
            assert_eq!(Money::exponent(code), 2, "{code}");
        }
    }

    #[test]
    fn a_complaint_is_open_unless_it_is_known_to_be_answered() {
        let answered = [State::Resolved, State::Closed];
        for number in (0..=7).chain([99]) {
            // The last two are such as a newer service may send.
            let state = Complaint { state: number, ..Default::default() }.state();
            assert_eq!(state.is_open(), !answered.contains(&state), "{state:?}");
        }
    }

    #[test]
    fn the_list_of_open_states_names_all_that_a_complaint_can_be_in() {
        let open: Vec<_> =
            (1..=6).filter_map(|number| State::try_from(number).ok()).filter(|state| state.is_open()).collect();
        assert_eq!(open.len(), State::ALL_OPEN.len());
        assert!(State::ALL_OPEN.iter().all(|state| open.contains(state)));
    }
}
