//! A sample of customers: even over all of them, however they came to their ids, and the same in every run and on both databases.
//!
//! Each customer draws a number by their id alone, and the lowest numbers are in: so it does not matter in what order they are looked at, nor how
//! many there are, which need not be known (bottom-k sampling, Cohen & Kaplan 2007).
use std::collections::BTreeMap;

use uuid::Uuid;

/// Mixed into every draw, so that it goes with nothing else that is made of ids. Any number: another one draws another sample.
const SEED: u64 = 0x5eed_0f5c_0e1e_55ed;

/// At most so many customers, with something of each.
#[derive(Clone, Debug)]
pub struct Sample<T> {
    most: usize,
    /// By draw; ids tell equal ones apart.
    drawn: BTreeMap<(u64, Uuid), T>,
}

impl<T> Sample<T> {
    /// Nobody yet.
    pub fn new(most: usize) -> Self {
        Self { most, drawn: BTreeMap::new() }
    }

    /// Whether a customer would be in it, of those that came so far: if not now, then never.
    pub fn wants(&self, customer: Uuid) -> bool {
        let place = (draw(customer), customer);
        self.drawn.len() < self.most || self.drawn.last_key_value().is_some_and(|(last, _)| place < *last)
    }

    /// Takes a customer in if they are wanted; somebody else may go for it.
    pub fn add(&mut self, customer: Uuid, item: T) {
        if !self.wants(customer) {
            return;
        }
        self.drawn.insert((draw(customer), customer), item);
        if self.drawn.len() > self.most {
            self.drawn.pop_last();
        }
    }

    /// Who is in it, in the order of their draws, which goes with nothing.
    pub fn into_items(self) -> impl Iterator<Item = (Uuid, T)> {
        self.drawn.into_iter().map(|((_, customer), item)| (customer, item))
    }
}

/// The number of a customer: both halves of the id through the finalizer of SplitMix64 (Steele, Lea & Flood 2014), which leaves no pattern of them.
fn draw(customer: Uuid) -> u64 {
    let (high, low) = customer.as_u64_pair();
    mix(mix(SEED ^ high) ^ low)
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(customers: impl Iterator<Item = u128>, most: usize) -> Vec<u128> {
        let mut sample = Sample::new(most);
        customers.for_each(|number| sample.add(Uuid::from_u128(number), number));
        sample.into_items().map(|(_, number)| number).collect()
    }

    #[test]
    fn the_old_and_the_new_are_in_it_alike() {
        // Ids that grow with time, in both halves.
        for step in [1_u128, 1 << 70, (1 << 80) + 1] {
            let drawn = sample((0..50_000).map(|number| number * step), 5_000);
            assert_eq!(drawn.len(), 5_000);
            for tenth in 0..10 {
                let range = tenth * 5_000 * step..(tenth + 1) * 5_000 * step;
                let part = drawn.iter().filter(|number| range.contains(number)).count();
                // Five standard deviations of what chance would give.
                assert!((390..=610).contains(&part), "{step} {tenth}: {part}");
            }
            // And their order tells nothing of their age.
            let first = drawn[..2_500].iter().filter(|number| **number < 25_000 * step).count();
            assert!((1_125..=1_375).contains(&first), "{step}: {first}");
        }
    }

    #[test]
    fn it_is_the_same_whatever_the_order_and_grows_by_few() {
        let forth = sample(0..10_000, 1_000);
        assert_eq!(forth, sample((0..10_000).rev(), 1_000));
        assert_eq!(forth, sample((0..10_000).chain(0..10_000), 1_000));
        assert_eq!(sample(0..900, 1_000).len(), 900);
        assert_eq!(sample(0..900, 0), []);
        // A hundredth more customers change about a hundredth of the sample.
        let more = sample(0..10_100, 1_000);
        assert!(forth.iter().filter(|number| !more.contains(number)).count() < 40);
    }
}
