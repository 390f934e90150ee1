//! Moves between relationships, stages and tiers: what is recorded of each, and what they add up to over a period.
//!
//! A move is written in the transaction that announces it. So where anybody stood at a moment is what the first move from then on says stood
//! before it; without one, where they stand now.
use std::{collections::BTreeMap, ops::Range};

use jiff::Timestamp;
use proto::scoring::v1 as pb;
use uuid::Uuid;

use crate::score::Standing;

/// Where somebody stands, as far as moves are recorded. All unspecified: not known to scoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Where they stand with the company.
    pub relationship: pb::Relationship,
    /// Life-cycle stage.
    pub stage: pb::LifeCycleStage,
    /// Tier.
    pub tier: pb::Tier,
}

impl From<&Standing> for State {
    fn from(standing: &Standing) -> Self {
        Self { relationship: standing.relationship, stage: standing.stage, tier: standing.tier }
    }
}

impl State {
    /// Whether there was anybody to stand somewhere.
    fn is_known(&self) -> bool {
        self.relationship != pb::Relationship::Unspecified
    }
}

/// One recorded move of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub customer: Uuid,
    /// The revision of the standing that it led to.
    pub revision: i64,
    /// When.
    pub time: Timestamp,
    /// Why.
    pub cause: pb::ChangeCause,
    /// Where they stood.
    pub before: State,
    /// Where they stand since.
    pub after: State,
}

/// From one state to another, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The first state.
    pub before: State,
    /// The second.
    pub after: State,
    /// Customers, or moves.
    pub count: i64,
}

/// What happened within a period.
#[derive(Clone, Debug)]
pub struct Period {
    /// From the first moment to the first one after it.
    pub range: Range<Timestamp>,
    /// When the first move ever was recorded.
    pub first_record: Option<Timestamp>,
    /// Customers by where they stood at the start and at the end.
    pub customers: Vec<Tally>,
    /// The moves within it.
    pub moves: Vec<Tally>,
}

/// Cells of a matrix: customers who went from one to another, and moves between them.
type Cells<S> = BTreeMap<(S, S), (i64, i64)>;

impl Period {
    fn cells<S: Ord + Copy>(&self, of: fn(&State) -> S) -> Cells<S> {
        let mut cells = Cells::new();
        // Who was not known at either end has no place in it; a move is one of this matrix where its own state changed.
        for tally in self.customers.iter().filter(|tally| tally.before.is_known() || tally.after.is_known()) {
            cells.entry((of(&tally.before), of(&tally.after))).or_default().0 += tally.count;
        }
        for tally in self.moves.iter().filter(|tally| of(&tally.before) != of(&tally.after)) {
            cells.entry((of(&tally.before), of(&tally.after))).or_default().1 += tally.count;
        }
        cells
    }

    fn count(&self, counts: impl Fn(&Tally) -> bool) -> i64 {
        self.customers.iter().filter(|tally| counts(tally)).map(|tally| tally.count).sum()
    }

    /// What became of those whom a tier had at the start.
    fn retention(&self, tier: pb::Tier) -> pb::TierRetention {
        use pb::Relationship::Lost;
        let within = |tally: &Tally| tally.before.tier == tier && tally.before.relationship != Lost;
        let customers = self.count(within);
        let lost = self.count(|tally| within(tally) && tally.after.relationship == Lost);
        let stayed = self.count(|tally| within(tally) && tally.after.tier == tier);
        // The higher tier has the lower number, and no tier is below all.
        let rose = self.count(|tally| {
            within(tally) && tally.after.tier != pb::Tier::Unspecified && i32::from(tally.after.tier) < i32::from(tier)
        });
        let share = |part: i64| (customers > 0).then(|| part as f64 / customers as f64);
        pb::TierRetention {
            tier: tier.into(),
            customers,
            retained: customers - lost,
            lost,
            retention_rate: share(customers - lost),
            loss_rate: share(lost),
            stayed,
            rose,
            fell: customers - stayed - rose,
        }
    }

    /// As protobuf has it.
    pub fn to_proto(&self) -> pb::GetTransitionsResponse {
        use pb::Relationship::{Lost, Loyal, Repeat};
        let relationships = self.cells(|state| state.relationship).into_iter();
        let stages = self.cells(|state| state.stage).into_iter();
        let tiers = self.cells(|state| state.tier).into_iter();
        pb::GetTransitionsResponse {
            start_time: Some(chassis::clock::to_proto(self.range.start)),
            end_time: Some(chassis::clock::to_proto(self.range.end)),
            first_record_time: self.first_record.map(chassis::clock::to_proto),
            customers: self.count(|tally| tally.after.is_known()),
            relationships: relationships
                .map(|((from, to), (customers, moves))| pb::RelationshipMove {
                    from: from.into(),
                    to: to.into(),
                    customers,
                    moves,
                })
                .collect(),
            stages: stages
                .map(|((from, to), (customers, moves))| pb::StageMove {
                    from: from.into(),
                    to: to.into(),
                    customers,
                    moves,
                })
                .collect(),
            tiers: tiers
                .map(|((from, to), (customers, moves))| pb::TierMove {
                    from: from.into(),
                    to: to.into(),
                    customers,
                    moves,
                })
                .collect(),
            retention: [pb::Tier::Important, pb::Tier::Major, pb::Tier::Ordinary, pb::Tier::Small]
                .into_iter()
                .map(|tier| self.retention(tier))
                .collect(),
            regained: self
                .count(|tally| tally.before.relationship == Lost && matches!(tally.after.relationship, Repeat | Loyal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use pb::{LifeCycleStage as Stage, Relationship, Tier};
    use proptest::prelude::*;

    use super::*;

    fn state(relationship: Relationship, tier: Tier) -> State {
        State { relationship, stage: Stage::Maturity, tier }
    }

    fn period(customers: Vec<(State, State, i64)>) -> Period {
        let tally = |(before, after, count)| Tally { before, after, count };
        Period {
            range: Timestamp::UNIX_EPOCH..Timestamp::UNIX_EPOCH,
            first_record: None,
            customers: customers.into_iter().map(tally).collect(),
            moves: Vec::new(),
        }
    }

    #[test]
    fn retention_counts_who_could_be_lost_and_says_where_they_went() {
        use Relationship::{Lost, Repeat};
        let period = period(vec![
            (state(Repeat, Tier::Major), state(Repeat, Tier::Major), 5),
            (state(Repeat, Tier::Major), state(Lost, Tier::Major), 2),
            (state(Repeat, Tier::Major), state(Repeat, Tier::Important), 1),
            (state(Repeat, Tier::Major), state(Repeat, Tier::Small), 1),
            (state(Repeat, Tier::Major), state(Relationship::Potential, Tier::Unspecified), 1),
            // Lost already: can be won back, and cannot be kept.
            (state(Lost, Tier::Major), state(Lost, Tier::Major), 90),
            (state(Lost, Tier::Major), state(Repeat, Tier::Major), 3),
            (State::default(), state(Repeat, Tier::Major), 40),
        ]);
        let reply = period.to_proto();
        let major = &reply.retention[1];
        assert_eq!((major.tier(), major.customers, major.retained, major.lost), (Tier::Major, 10, 8, 2));
        assert_eq!((major.stayed, major.rose, major.fell), (7, 1, 2));
        assert_eq!((major.retention_rate, major.loss_rate), (Some(0.8), Some(0.2)));
        assert_eq!((reply.regained, reply.customers), (3, 143));
        // Nobody was there: no share, not zero.
        assert_eq!((reply.retention[0].customers, reply.retention[0].retention_rate), (0, None));
    }

    #[test]
    fn who_was_not_known_at_either_end_is_in_no_matrix() {
        let reply = period(vec![(State::default(), State::default(), 7)]).to_proto();
        assert_eq!((reply.customers, reply.relationships.len(), reply.tiers.len()), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn each_matrix_counts_every_customer_once_and_each_tier_s_customers_go_somewhere(
            rows in proptest::collection::vec((0..8_i32, 0..5_i32, 0..8_i32, 0..5_i32, 0..1_000_i64), 0..40),
        ) {
            let state = |relationship, tier| State {
                relationship: Relationship::try_from(relationship).unwrap(),
                stage: Stage::Maturity,
                tier: Tier::try_from(tier).unwrap(),
            };
            let rows: Vec<_> = rows.into_iter().map(|(r, t, s, u, n)| (state(r, t), state(s, u), n)).collect();
            let known = rows.iter().filter(|row| row.0.is_known() || row.1.is_known()).map(|row| row.2).sum::<i64>();
            let reply = period(rows).to_proto();
            prop_assert_eq!(reply.relationships.iter().map(|cell| cell.customers).sum::<i64>(), known);
            prop_assert_eq!(reply.stages.iter().map(|cell| cell.customers).sum::<i64>(), known);
            prop_assert_eq!(reply.tiers.iter().map(|cell| cell.customers).sum::<i64>(), known);
            for tier in &reply.retention {
                prop_assert_eq!(tier.retained + tier.lost, tier.customers);
                prop_assert_eq!(tier.stayed + tier.rose + tier.fell, tier.customers);
                prop_assert!(tier.retention_rate.is_none_or(|rate| (0.0..=1.0).contains(&rate)));
            }
        }
    }
}
