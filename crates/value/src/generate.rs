//! Customers who buy till they leave, as the models have it: made-up data of any size, the same for the same seed.
//!
//! Everything about a customer follows from the seed and their number, so customers can be made in any order, on many
//! threads, or again from where it broke off. The stream of numbers is the crate's own and part of its contract: a
//! version that changes it says so.
//!
//! Time runs on within the day, as the models have it. Who sums purchases up by days, as one does, finds a fit a shade off
//! the parameters that went in: two purchases of a day are one occasion.

mod random;

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use random::Random;

use crate::{
    GammaGamma, Model,
    error::{Error, within},
    history::Occasion,
};

const DAYS_A_WEEK: f64 = 7.0;
/// The mean purchases a week up to which a population is made: beyond it parameters are in error, and one customer would
/// go on for ever.
const MAX_RATE: f64 = 1_000.0;

/// How many customers, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Customers in all.
    pub customers: u64,
    /// First purchases are spread evenly over so many days, in the order of the customers' numbers; at least 1.
    pub arrival_days: u32,
    /// Days that are looked at, numbered from 0; at least `arrival_days`, up to 100,000.
    pub days: u32,
    /// Another seed, other customers.
    pub seed: u64,
}

/// One purchase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Purchase {
    /// The customer's number, from 0.
    pub customer: u64,
    /// The day, from 0.
    pub day: u32,
    /// The time of the day, from 0 up to 1.
    pub time: f64,
    /// What was paid, in the unit of money that the model of spend is in.
    pub value: f64,
}

impl From<Purchase> for Occasion {
    fn from(purchase: Purchase) -> Self {
        // Days are at most 100,000.
        Self { day: purchase.day.cast_signed(), value: purchase.value }
    }
}

/// Customers who buy as a model says.
///
/// ```
/// use value::{BgNbd, GammaGamma, Parameters, generate::{Plan, Population}};
///
/// let buying = BgNbd::new(Parameters { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 })?;
/// let spend = GammaGamma::new(6.25, 3.74, 15.44)?;
/// let plan = Plan { customers: 1_000, arrival_days: 90, days: 365, seed: 1 };
/// let population = Population::new(buying, spend, plan)?;
/// let in_order_of_time: Vec<_> = population.by_time(0..plan.customers).collect();
/// assert!(in_order_of_time.is_sorted_by_key(|purchase| purchase.day));
/// assert!(in_order_of_time.iter().filter(|p| p.customer == 7).eq(&population.customer(7).collect::<Vec<_>>()));
/// # Ok::<(), value::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Population {
    buying: Model,
    spend: GammaGamma,
    plan: Plan,
}

impl Population {
    /// Customers of these models.
    ///
    /// # Errors
    /// [`Error::Invalid`] names `arrival_days` or `days` out of its range, and `rate` when the mean customer would buy
    /// more than a thousand times a week.
    pub fn new(buying: impl Into<Model>, spend: GammaGamma, plan: Plan) -> Result<Self, Error> {
        let buying = buying.into();
        within("days", f64::from(plan.days), 1.0, 1e5, "must lie within 1 and 100,000")?;
        let days = f64::from(plan.days);
        within("arrival_days", f64::from(plan.arrival_days), 1.0, days, "must lie within 1 and days")?;
        let (shape, scale) = buying.rates();
        within("rate", shape / scale, 0.0, MAX_RATE, "must be at most 1,000 purchases a week")?;
        Ok(Self { buying, spend, plan })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The purchases of one customer in order of time; none of one beyond the plan.
    pub fn customer(&self, number: u64) -> Purchases {
        let Plan { customers, arrival_days, days, seed } = self.plan;
        let mut random = Random::new(seed, number);
        let (shape, scale) = self.buying.rates();
        let rate = random.gamma(shape) / scale / DAYS_A_WEEK;
        let departure = match &self.buying {
            Model::BgNbd(model) => Departure::after_occasions(&mut random, model.parameters(), 0),
            Model::MbgNbd(model) => Departure::after_occasions(&mut random, model.parameters(), 1),
            Model::ParetoNbd(model) => {
                let rate = random.gamma(model.s()) / model.beta() / DAYS_A_WEEK;
                Departure::At(random.exponential() / rate)
            }
        };
        let spend_rate = random.gamma(self.spend.q()) / self.spend.gamma();
        let place = u128::from(number) * u128::from(arrival_days) / u128::from(customers.max(1));
        let first_day = if number < customers { place as f64 } else { f64::INFINITY };
        let first = first_day + random.uniform();
        let departure = departure.counted_from(first);
        Purchases {
            random,
            next: first,
            end: f64::from(days),
            rate,
            departure,
            shape: self.spend.p(),
            spend_rate,
            customer: number,
        }
    }

    /// The purchases of these customers, customer by customer.
    pub fn by_customer(&self, customers: Range<u64>) -> impl Iterator<Item = Purchase> + use<'_> {
        self.within_plan(customers).flat_map(|number| self.customer(number))
    }

    /// The purchases of these customers in order of time. Holds some 120 bytes for each who has come and not gone.
    pub fn by_time(&self, customers: Range<u64>) -> ByTime<'_> {
        ByTime { population: self, to_come: self.within_plan(customers), here: BinaryHeap::new() }
    }

    fn within_plan(&self, customers: Range<u64>) -> Range<u64> {
        customers.start..customers.end.min(self.plan.customers)
    }
}

/// When a customer leaves.
#[derive(Debug, Clone, Copy)]
enum Departure {
    /// After any occasion with this chance, once so many more are past.
    AfterOccasions { chance: f64, safe: u32 },
    /// At a time, in days.
    At(f64),
}

impl Departure {
    /// With a chance drawn from the model's; `first` is 1 where already the first occasion may be the last.
    fn after_occasions(random: &mut Random, parameters: crate::Parameters, first: u32) -> Self {
        Self::AfterOccasions { chance: random.beta(parameters.a, parameters.b), safe: 1 - first }
    }

    /// The same with times counted from `first` on.
    fn counted_from(self, first: f64) -> Self {
        match self {
            Self::At(at) => Self::At(first + at),
            Self::AfterOccasions { .. } => self,
        }
    }
}

/// One customer's purchases in order of time.
#[derive(Debug, Clone)]
pub struct Purchases {
    random: Random,
    /// When the next purchase is, in days; at or past `end` when there is none.
    next: f64,
    end: f64,
    /// Purchases a day.
    rate: f64,
    departure: Departure,
    shape: f64,
    spend_rate: f64,
    customer: u64,
}

impl Iterator for Purchases {
    type Item = Purchase;

    fn next(&mut self) -> Option<Purchase> {
        if self.next >= self.end {
            return None;
        }
        let at = self.next;
        let value = self.random.gamma(self.shape) / self.spend_rate;
        // Who hardly ever buys waits for longer than any number says.
        let next = at + self.random.exponential() / self.rate;
        let stays = match &mut self.departure {
            Departure::At(departure) => next < *departure,
            Departure::AfterOccasions { chance, safe } if *safe == 0 => self.random.uniform() >= *chance,
            Departure::AfterOccasions { safe, .. } => {
                *safe -= 1;
                true
            }
        };
        self.next = if stays { next } else { f64::INFINITY };
        // A draw at the very edge of what floats can hold still is money.
        let value = value.clamp(1e-9, 1e18);
        Some(Purchase { customer: self.customer, day: at as u32, time: at.fract(), value })
    }
}

/// The purchases of many customers in order of time, those of one moment by customer.
#[derive(Debug)]
pub struct ByTime<'a> {
    population: &'a Population,
    /// Not yet begun. Who has the higher number comes later, so nobody need be held before their day.
    to_come: Range<u64>,
    here: BinaryHeap<Reverse<Waiting>>,
}

impl Iterator for ByTime<'_> {
    type Item = Purchase;

    fn next(&mut self) -> Option<Purchase> {
        // All who may buy before the earliest known purchase must be there: those of its day and before.
        loop {
            let known = self.here.peek().map(|Reverse(waiting)| waiting.0.next.floor());
            if self.to_come.is_empty() {
                break;
            }
            let coming = Waiting(self.population.customer(self.to_come.start));
            if known.is_some_and(|day| coming.0.next.floor() > day) {
                break;
            }
            self.to_come.start += 1;
            self.here.push(Reverse(coming));
        }
        let mut first = self.here.peek_mut()?;
        let purchase = first.0.0.next();
        if first.0.0.next >= first.0.0.end {
            std::collections::binary_heap::PeekMut::pop(first);
        }
        purchase
    }
}

/// A customer by when they next buy.
#[derive(Debug)]
struct Waiting(Purchases);

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.next.total_cmp(&other.0.next).then(self.0.customer.cmp(&other.0.customer))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}
