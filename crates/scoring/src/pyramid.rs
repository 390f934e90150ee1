//! The customer pyramid: who stands where by rank of value, and the cut-offs that carry a ranking until the next one.
//!
//! Among those who have bought, by value and highest first, a tier ends at ceil(1 %), ceil(20 %) and ceil(50 %) of the
//! customers; of equal values the lower customer id comes first. So the order is total, and a cut-off, the last
//! (value, customer) of a group, says of anybody on which side they stand, also of those who were not ranked.

use std::cmp::Ordering;

use proto::scoring::v1 as pb;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where the first three tiers end, in percent of those who have bought, from the top.
const IMPORTANT_PERCENT: usize = 1;
const MAJOR_PERCENT: usize = 20;
const ORDINARY_PERCENT: usize = 50;
/// The fifth that codes A and B ask for.
const TOP_FIFTH_PERCENT: usize = 20;

/// What a pyramid is ordered by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Realised value plus expected value.
    Lifetime,
    /// Realised value so far.
    Realised,
}

/// A customer who has bought, as the ranking needs them. Money in minor units.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    pub customer: Uuid,
    /// Profit so far.
    pub realised_minor: i64,
    /// Profit to expect.
    pub expected_minor: i64,
    /// Sales less returns so far.
    pub revenue_minor: i64,
}

impl Ranked {
    fn value_minor(&self, basis: Basis) -> i64 {
        match basis {
            Basis::Lifetime => self.realised_minor.saturating_add(self.expected_minor),
            Basis::Realised => self.realised_minor,
        }
    }

    fn headroom(&self) -> Option<Headroom> {
        Headroom::of(self.realised_minor, self.expected_minor, self.customer)
    }
}

/// A place in a ranking by value.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub value_minor: i64,
    #[serde(with = "id_text")]
    pub customer: Uuid,
}

/// The better place first: higher value, then lower id.
impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        other.value_minor.cmp(&self.value_minor).then_with(|| self.customer.cmp(&other.customer))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The last place of each tier but the lowest, which has no end.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierEnds {
    pub important: Place,
    pub major: Place,
    pub ordinary: Place,
}

/// Expected over realised value: how much more the customer promises than they have brought.
///
/// Compared as fractions, exactly. Who has realised nothing has boundless headroom if anything is expected of them; who
/// promises nothing, or has cost money so far (no base to grow from), has none.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headroom {
    expected_minor: i64,
    realised_minor: i64,
    #[serde(with = "id_text")]
    customer: Uuid,
}

impl Headroom {
    /// `None` where there is no headroom.
    fn of(realised_minor: i64, expected_minor: i64, customer: Uuid) -> Option<Self> {
        (expected_minor > 0 && realised_minor >= 0).then_some(Self { expected_minor, realised_minor, customer })
    }

    /// More headroom first, then lower id.
    fn order(&self, other: &Self) -> Ordering {
        // e₁/r₁ > e₂/r₂ ⇔ e₁·r₂ > e₂·r₁, and with e > 0 ≤ r also where a denominator is zero.
        let (e1, r1) = (i128::from(self.expected_minor), i128::from(self.realised_minor));
        let (e2, r2) = (i128::from(other.expected_minor), i128::from(other.realised_minor));
        (e2 * r1).cmp(&(e1 * r2)).then_with(|| self.customer.cmp(&other.customer))
    }

    /// Expected ÷ realised; infinite where nothing was realised.
    pub fn ratio(&self) -> f64 {
        self.expected_minor as f64 / self.realised_minor as f64
    }
}

/// What a ranking leaves behind to judge by until the next one. Empty (the default) where nobody was ranked.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutOffs {
    /// By lifetime value.
    pub lifetime: Option<TierEnds>,
    /// By realised value.
    pub realised: Option<TierEnds>,
    /// The last of the top fifth by realised value.
    pub realised_fifth: Option<Place>,
    /// The last of the top fifth by expected value.
    pub expected_fifth: Option<Place>,
    /// The last with headroom within the top fifth, by headroom, of those whose lifetime value is positive.
    pub headroom_fifth: Option<Headroom>,
    /// What the tiers by lifetime value leave of their list prices, from important to small; known of the two tiers of key customers, whom alone
    /// it is asked of. Nothing before this was ranked for.
    #[serde(default)]
    pub margins: [Margin; 4],
}

/// What customers leave of their list prices, by what is known: sums over those of them, and those of their sales, of which it was recorded.
/// Money in minor units.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Margin {
    /// What sales brought whose discount is known, also where it was none.
    pub priced_minor: i64,
    /// Taken off their list prices.
    pub discount_minor: i64,
    /// Sales less returns of those for whom any cost of serving them was recorded.
    pub net_minor: i64,
    /// That cost.
    pub cost_minor: i64,
}

impl Margin {
    /// Discount of each unit at list price; `None` where it is not known.
    pub fn discount_share(&self) -> Option<f64> {
        part(self.discount_minor, self.priced_minor.saturating_add(self.discount_minor))
    }

    /// Cost of serving of each unit sold; `None` where it is not known.
    pub fn cost_share(&self) -> Option<f64> {
        part(self.cost_minor, self.net_minor)
    }

    /// With another one's. Sums that exceed 64 bits stop at the limit.
    pub fn add(&mut self, other: &Self) {
        self.priced_minor = self.priced_minor.saturating_add(other.priced_minor);
        self.discount_minor = self.discount_minor.saturating_add(other.discount_minor);
        self.net_minor = self.net_minor.saturating_add(other.net_minor);
        self.cost_minor = self.cost_minor.saturating_add(other.cost_minor);
    }
}

/// part ÷ whole, where there is a whole.
fn part(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn limited(sum: i128) -> i64 {
    sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl CutOffs {
    /// Where the tiers of a pyramid end.
    pub fn ends(&self, basis: Basis) -> Option<&TierEnds> {
        match basis {
            Basis::Lifetime => self.lifetime.as_ref(),
            Basis::Realised => self.realised.as_ref(),
        }
    }

    /// The tier of a customer who has bought, ranked or not; `UNSPECIFIED` where nobody was ranked.
    pub fn tier(&self, basis: Basis, value_minor: i64, customer: Uuid) -> pb::Tier {
        let place = Place { value_minor, customer };
        match self.ends(basis) {
            None => pb::Tier::Unspecified,
            Some(ends) if place <= ends.important => pb::Tier::Important,
            Some(ends) if place <= ends.major => pb::Tier::Major,
            Some(ends) if place <= ends.ordinary => pb::Tier::Ordinary,
            Some(_) => pb::Tier::Small,
        }
    }

    /// What customers of a tier leave of their list prices.
    pub fn margin(&self, tier: pb::Tier) -> Margin {
        let place = usize::try_from(i32::from(tier)).ok().and_then(|number| number.checked_sub(1));
        place.and_then(|place| self.margins.get(place)).copied().unwrap_or_default()
    }

    /// Whether realised value is in the top fifth. Never where nothing was realised: where fewer than a fifth brought
    /// anything, the order of ids must not make the best customers.
    pub fn realised_in_top_fifth(&self, realised_minor: i64, customer: Uuid) -> bool {
        let place = Place { value_minor: realised_minor, customer };
        realised_minor > 0 && self.realised_fifth.is_some_and(|end| place <= end)
    }

    /// Whether expected value is in the top fifth. Never where nothing is expected.
    pub fn expected_in_top_fifth(&self, expected_minor: i64, customer: Uuid) -> bool {
        let place = Place { value_minor: expected_minor, customer };
        expected_minor > 0 && self.expected_fifth.is_some_and(|end| place <= end)
    }

    /// Whether growth headroom, expected ÷ realised, is in the top fifth of those with positive lifetime value.
    pub fn headroom_in_top_fifth(&self, realised_minor: i64, expected_minor: i64, customer: Uuid) -> bool {
        Headroom::of(realised_minor, expected_minor, customer)
            .is_some_and(|headroom| self.headroom_fifth.is_some_and(|end| headroom.order(&end).is_le()))
    }
}

/// A tier of a pyramid. Money in minor units; sums that exceed 64 bits stop at the limit.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierRow {
    #[serde(with = "tier_name")]
    pub tier: pb::Tier,
    pub customers: u64,
    /// By the basis of the pyramid; 0 where the tier is empty, as happens with few customers.
    pub lowest_value_minor: i64,
    /// Sales less returns so far.
    pub revenue_minor: i64,
    /// By the basis of the pyramid.
    pub value_minor: i64,
}

/// What a ranking finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    pub cut_offs: CutOffs,
    /// From important to small, four rows; none where what is realised alone is known.
    pub lifetime: Vec<TierRow>,
    /// From important to small, always four rows.
    pub realised: Vec<TierRow>,
    /// How many were ranked.
    pub customers: u64,
}

impl Ranking {
    /// Leaves what was realised so far alone, where nothing could be expected of anybody: ranks by lifetime value would be the same under another name.
    pub fn forget_the_future(&mut self) {
        self.lifetime.clear();
        (self.cut_offs.lifetime, self.cut_offs.expected_fifth, self.cut_offs.headroom_fifth) = (None, None, None);
    }

    /// Whether it knows what was realised alone.
    pub fn is_realised_alone(&self) -> bool {
        self.lifetime.is_empty()
    }
}

/// Ranks all who have bought, each given once, in any order, which is another one then. Takes time in proportion to their number: nothing here
/// needs the order within a tier. Takes no memory beyond theirs.
pub fn rank(customers: &mut [Ranked]) -> Ranking {
    let (lifetime_ends, lifetime) = pyramid(customers, Basis::Lifetime);
    let (realised_ends, realised) = pyramid(customers, Basis::Realised);

    let expected = |c: &Ranked| Place { value_minor: c.expected_minor, customer: c.customer };
    let fifth = share(customers.len(), TOP_FIFTH_PERCENT);
    let expected_fifth = last_of_top(customers, fifth, |a, b| expected(a).cmp(&expected(b))).map(expected);

    // Those who are worth something count for the size of the fifth, also where they have no headroom.
    let worth = |c: &Ranked| c.value_minor(Basis::Lifetime) > 0;
    let fifth = share(customers.iter().filter(|c| worth(c)).count(), TOP_FIFTH_PERCENT);
    let with_headroom = to_front(customers, |c| worth(c) && c.headroom().is_some());
    let order = |a: &Ranked, b: &Ranked| match (a.headroom(), b.headroom()) {
        (Some(a), Some(b)) => a.order(&b),
        // Nobody without is among them.
        (a, b) => a.is_none().cmp(&b.is_none()),
    };
    let headroom_fifth = last_of_top(with_headroom, fifth, order).and_then(Ranked::headroom);

    Ranking {
        cut_offs: CutOffs {
            lifetime: lifetime_ends,
            realised: realised_ends,
            // The same fifth that the upper two tiers make.
            realised_fifth: realised_ends.map(|ends| ends.major),
            expected_fifth,
            headroom_fifth,
            margins: Default::default(),
        },
        lifetime,
        realised,
        customers: customers.len() as u64,
    }
}

/// ceil(percent % of n), in integers: 0.2 × 5 in floating point would round up to 2.
fn share(n: usize, percent: usize) -> usize {
    n.saturating_mul(percent).div_ceil(100)
}

/// The last of the first `count`; of all, where there are fewer.
fn last_of_top<T>(items: &mut [T], count: usize, order: impl Fn(&T, &T) -> Ordering) -> Option<&T> {
    let index = count.min(items.len()).checked_sub(1)?;
    Some(items.select_nth_unstable_by(index, order).1)
}

/// Puts those that are wanted first; them.
fn to_front<T>(items: &mut [T], wanted: impl Fn(&T) -> bool) -> &mut [T] {
    let mut count = 0;
    for index in 0..items.len() {
        if wanted(&items[index]) {
            items.swap(count, index);
            count += 1;
        }
    }
    &mut items[..count]
}

fn pyramid(customers: &mut [Ranked], basis: Basis) -> (Option<TierEnds>, Vec<TierRow>) {
    let place = |c: &Ranked| Place { value_minor: c.value_minor(basis), customer: c.customer };
    let n = customers.len();
    let ends = [IMPORTANT_PERCENT, MAJOR_PERCENT, ORDINARY_PERCENT].map(|percent| share(n, percent));
    // From the widest group inwards: each selection works within the one before.
    let mut within = n;
    for end in ends.iter().rev() {
        if let Some(last) = end.checked_sub(1) {
            customers[..within].select_nth_unstable_by_key(last, place);
        }
        within = *end;
    }
    let tiers = [pb::Tier::Important, pb::Tier::Major, pb::Tier::Ordinary, pb::Tier::Small];
    let [important, major, ordinary] = ends;
    let groups = [0..important, important..major, major..ordinary, ordinary..n];
    let rows = tiers.into_iter().zip(groups).map(|(tier, group)| row(tier, &customers[group], basis)).collect();

    let end = |count: usize| count.checked_sub(1).and_then(|last| customers.get(last)).map(place);
    let ends = match (end(important), end(major), end(ordinary)) {
        (Some(important), Some(major), Some(ordinary)) => Some(TierEnds { important, major, ordinary }),
        _ => None,
    };
    (ends, rows)
}

fn row(tier: pb::Tier, customers: &[Ranked], basis: Basis) -> TierRow {
    let sum = |of: fn(&Ranked, Basis) -> i64| limited(customers.iter().map(|c| i128::from(of(c, basis))).sum());
    TierRow {
        tier,
        customers: customers.len() as u64,
        lowest_value_minor: customers.iter().map(|c| c.value_minor(basis)).min().unwrap_or(0),
        revenue_minor: sum(|c, _| c.revenue_minor),
        value_minor: sum(Ranked::value_minor),
    }
}

/// An id is stored as its text.
mod id_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        Uuid::parse_str(&text).map_err(D::Error::custom)
    }
}

/// A tier is stored by its name in the contract, which a reader of the table understands.
mod tier_name {
    use proto::scoring::v1::Tier;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    // The signature is what `serde(with)` asks for.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(tier: &Tier, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(tier.as_str_name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tier, D::Error> {
        let name = String::deserialize(deserializer)?;
        Tier::from_str_name(&name).ok_or_else(|| D::Error::custom("no such tier"))
    }
}

#[cfg(test)]
mod tests;
