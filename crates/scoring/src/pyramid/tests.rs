use proptest::prelude::*;

use super::*;
use crate::score::cdnow;

fn rank(mut customers: Vec<Ranked>) -> Ranking {
    super::rank(&mut customers)
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn ranked(n: u128, realised_minor: i64, expected_minor: i64) -> Ranked {
    Ranked { customer: id(n), realised_minor, expected_minor, revenue_minor: realised_minor }
}

fn sizes(rows: &[TierRow]) -> Vec<u64> {
    rows.iter().map(|row| row.customers).collect()
}

#[test]
fn cdnow_by_realised_value_gives_the_published_pyramid() {
    let customers: Vec<Ranked> = cdnow::summaries(cdnow::last_day())
        .into_iter()
        .map(|(customer, s)| Ranked {
            customer,
            realised_minor: s.sales_minor,
            expected_minor: 0,
            revenue_minor: s.sales_minor,
        })
        .collect();
    let ranking = rank(customers);
    assert_eq!(ranking.customers, 2_357);
    assert_eq!(sizes(&ranking.realised), [24, 448, 707, 1_178]);
    let revenue: i64 = ranking.realised.iter().map(|row| row.revenue_minor).sum();
    let shares: Vec<String> = ranking
        .realised
        .iter()
        .map(|row| format!("{:.1}", 100.0 * row.revenue_minor as f64 / revenue as f64))
        .collect();
    assert_eq!(shares, ["14.6", "52.9", "22.0", "10.5"]);
}

#[test]
fn tiers_end_at_the_next_whole_customer_for_every_number_of_customers() {
    for n in 1..=500_u64 {
        // All worth the same: the ids alone decide, and still no tier is larger or smaller.
        let customers: Vec<Ranked> = (0..n).rev().map(|i| ranked(i.into(), 7, 7)).collect();
        let ranking = rank(customers);
        let ends = [n.div_ceil(100), n.div_ceil(5), n.div_ceil(2)];
        let expected = [ends[0], ends[1] - ends[0], ends[2] - ends[1], n - ends[2]];
        assert_eq!(sizes(&ranking.lifetime), expected, "{n} customers");
        assert_eq!(sizes(&ranking.realised), expected, "{n} customers");
        let a_fifth = |is_in: &dyn Fn(Uuid) -> bool| (0..n).filter(|i| is_in(id((*i).into()))).count() as u64;
        assert_eq!(a_fifth(&|c| ranking.cut_offs.realised_in_top_fifth(7, c)), ends[1], "{n} customers");
        assert_eq!(a_fifth(&|c| ranking.cut_offs.expected_in_top_fifth(7, c)), ends[1], "{n} customers");
        assert_eq!(a_fifth(&|c| ranking.cut_offs.headroom_in_top_fifth(7, 7, c)), ends[1], "{n} customers");
    }
}

#[test]
fn nobody_ranked_means_no_tiers_and_empty_rows() {
    let ranking = rank(Vec::new());
    assert_eq!(ranking.cut_offs, CutOffs::default());
    assert_eq!(ranking.cut_offs.tier(Basis::Lifetime, i64::MAX, id(1)), pb::Tier::Unspecified);
    assert_eq!(sizes(&ranking.lifetime), [0; 4]);
    assert!(!ranking.cut_offs.realised_in_top_fifth(1, id(1)));
    assert!(!ranking.cut_offs.expected_in_top_fifth(1, id(1)));
    assert!(!ranking.cut_offs.headroom_in_top_fifth(1, 1, id(1)));
}

#[test]
fn a_tie_at_a_cut_off_goes_to_the_lower_id_ranked_or_not() {
    let cut_offs = rank((1..=10).map(|n| ranked(n * 10, 500, 0)).collect()).cut_offs;
    let tier = |n| cut_offs.tier(Basis::Lifetime, 500, id(n));
    assert_eq!(tier(10), pb::Tier::Important);
    assert_eq!(tier(5), pb::Tier::Important);
    assert_eq!(tier(11), pb::Tier::Major);
    assert_eq!(tier(20), pb::Tier::Major);
    assert_eq!(tier(50), pb::Tier::Ordinary);
    assert_eq!(tier(51), pb::Tier::Small);
    assert_eq!(cut_offs.tier(Basis::Lifetime, 501, id(99)), pb::Tier::Important);
}

#[test]
fn the_lowest_value_of_a_tier_is_its_own_and_an_empty_tier_has_none() {
    let rows = rank((1..=10).map(|n| ranked(n, n as i64 * 100, 0)).collect()).lifetime;
    let lowest: Vec<i64> = rows.iter().map(|row| row.lowest_value_minor).collect();
    assert_eq!(lowest, [1_000, 900, 600, 100]);
    let rows = rank(vec![ranked(1, 5, 0)]).lifetime;
    assert_eq!((rows[0].customers, rows[3].customers, rows[3].lowest_value_minor), (1, 0, 0));
}

#[test]
fn who_has_brought_nothing_and_promises_something_has_more_headroom_than_anybody() {
    let mut customers: Vec<Ranked> = (1..=9).map(|n| ranked(n, 100, 1_000 * n as i64)).collect();
    customers.push(ranked(10, 0, 1));
    let cut_offs = rank(customers).cut_offs;
    assert!(cut_offs.headroom_in_top_fifth(0, 1, id(10)));
    assert!(cut_offs.headroom_in_top_fifth(100, 9_000, id(9)));
    assert!(!cut_offs.headroom_in_top_fifth(100, 8_000, id(8)));
    assert!(!cut_offs.headroom_in_top_fifth(0, 0, id(11)));
}

#[test]
fn who_cost_money_or_promises_nothing_has_no_headroom_whatever_the_others_have() {
    let cut_offs = rank(vec![ranked(1, -5, 50), ranked(2, 10, 0), ranked(3, 0, 0), ranked(4, -9, -9)]).cut_offs;
    assert_eq!(cut_offs.headroom_fifth, None);
    assert!(!cut_offs.headroom_in_top_fifth(-5, 50, id(1)));
    assert!(!cut_offs.headroom_in_top_fifth(10, 0, id(2)));
}

#[test]
fn the_fifth_by_headroom_is_of_those_with_positive_value() {
    // Ten are worth something, ninety are not: two are the fifth, not twenty.
    let mut customers: Vec<Ranked> = (1..=10).map(|n| ranked(n, 100, n as i64)).collect();
    customers.extend((11..=100).map(|n| ranked(n, -100, 50)));
    let cut_offs = rank(customers).cut_offs;
    let inside: Vec<u128> = (1..=10).filter(|n| cut_offs.headroom_in_top_fifth(100, *n as i64, id(*n))).collect();
    assert_eq!(inside, [9, 10]);
}

#[test]
fn headroom_is_compared_as_fractions_where_floats_cannot_tell() {
    let near = Headroom::of(i64::MAX - 1, i64::MAX, id(2)).unwrap();
    let even = Headroom::of(i64::MAX, i64::MAX, id(1)).unwrap();
    assert_eq!(near.ratio(), even.ratio());
    assert_eq!(near.order(&even), Ordering::Less);
}

#[test]
fn ids_do_not_make_a_top_fifth_of_those_who_brought_nothing() {
    let cut_offs = rank((1..=10).map(|n| ranked(n, 0, 0)).collect()).cut_offs;
    assert!(!cut_offs.realised_in_top_fifth(0, id(1)));
    assert!(!cut_offs.expected_in_top_fifth(0, id(1)));
}

#[test]
fn a_ranking_is_read_back_as_it_was_kept() {
    let ranking = rank((1..=200).map(|n| ranked(n, n as i64 * 100 - 500, 7)).collect());
    let kept = serde_json::to_string(&ranking).unwrap();
    assert!(kept.contains("TIER_IMPORTANT") && kept.contains("00000000-0000-0000-0000-0000000000c7"), "{kept}");
    assert_eq!(serde_json::from_str::<Ranking>(&kept).unwrap(), ranking);
    let nobody = rank(Vec::new());
    assert_eq!(serde_json::from_str::<Ranking>(&serde_json::to_string(&nobody).unwrap()).unwrap(), nobody);
}

/// Few distinct values, so that ties abound, and the extremes.
fn money() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -3..6_i64, 2 => -100_000..10_000_000_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

fn customers() -> impl Strategy<Value = Vec<Ranked>> {
    prop::collection::vec((money(), money(), money()), 0..260).prop_map(|rows| {
        let customer = |(n, (realised_minor, expected_minor, revenue_minor)): (usize, _)| Ranked {
            // Ids in no order of their own.
            customer: id((n as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)),
            realised_minor,
            expected_minor,
            revenue_minor,
        };
        rows.into_iter().enumerate().map(customer).collect()
    })
}

proptest! {
    #[test]
    fn cut_offs_give_back_the_tiers_of_a_plain_sort(customers in customers()) {
        let ranking = rank(customers.clone());
        for (basis, rows) in [(Basis::Lifetime, &ranking.lifetime), (Basis::Realised, &ranking.realised)] {
            let mut sorted = customers.clone();
            sorted.sort_by_key(|c| (std::cmp::Reverse(c.value_minor(basis)), c.customer));
            let n = sorted.len();
            let mut counts = [0_u64; 5];
            for (index, c) in sorted.iter().enumerate() {
                let tier = if index < n.div_ceil(100) {
                    pb::Tier::Important
                } else if index < n.div_ceil(5) {
                    pb::Tier::Major
                } else if index < n.div_ceil(2) {
                    pb::Tier::Ordinary
                } else {
                    pb::Tier::Small
                };
                prop_assert_eq!(ranking.cut_offs.tier(basis, c.value_minor(basis), c.customer), tier);
                counts[tier as usize] += 1;
            }
            prop_assert_eq!(sizes(rows), &counts[1..]);
            for row in rows.iter().filter(|row| row.customers > 0) {
                let of_tier = |c: &&Ranked| ranking.cut_offs.tier(basis, c.value_minor(basis), c.customer) == row.tier;
                let lowest = customers.iter().filter(of_tier).map(|c| c.value_minor(basis)).min();
                prop_assert_eq!(Some(row.lowest_value_minor), lowest);
            }
        }
    }

    #[test]
    fn the_order_in_which_customers_come_changes_nothing(
        (given, shuffled) in customers().prop_flat_map(|c| (Just(c.clone()), Just(c).prop_shuffle()))
    ) {
        prop_assert_eq!(rank(given), rank(shuffled));
    }

    #[test]
    fn more_value_never_means_a_lower_tier(
        customers in customers(), value in money(), more in 0..1_000_i64, customer in any::<u128>(),
    ) {
        let cut_offs = rank(customers).cut_offs;
        for basis in [Basis::Lifetime, Basis::Realised] {
            let before = cut_offs.tier(basis, value, id(customer));
            let after = cut_offs.tier(basis, value.saturating_add(more), id(customer));
            // Numbered from the top.
            prop_assert!(after as i32 <= before as i32);
        }
    }

    #[test]
    fn a_top_fifth_is_never_larger_than_a_fifth(customers in customers()) {
        let cut_offs = rank(customers.clone()).cut_offs;
        let count = |is_in: &dyn Fn(&Ranked) -> bool| customers.iter().filter(|c| is_in(c)).count();
        let fifth = customers.len().div_ceil(5);
        prop_assert!(count(&|c| cut_offs.realised_in_top_fifth(c.realised_minor, c.customer)) <= fifth);
        prop_assert!(count(&|c| cut_offs.expected_in_top_fifth(c.expected_minor, c.customer)) <= fifth);
        let worth = count(&|c| c.value_minor(Basis::Lifetime) > 0);
        let with_headroom = count(&|c| Headroom::of(c.realised_minor, c.expected_minor, c.customer).is_some());
        let inside = count(&|c| cut_offs.headroom_in_top_fifth(c.realised_minor, c.expected_minor, c.customer));
        prop_assert_eq!(inside, worth.div_ceil(5).min(with_headroom));
    }
}
