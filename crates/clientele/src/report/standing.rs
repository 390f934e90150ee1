//! Where the customers stand, and how they moved.
use std::collections::BTreeMap;

use jiff::{Timestamp, Zoned, civil, tz::TimeZone};
use proto::scoring::v1::{self as scoring, CustomerCode, LifeCycleStage, Relationship, Tier};

use super::{
    chart, float,
    page::{figures, paragraph, table},
    to_proto,
};
use crate::{
    client::{Client, Result, request},
    view,
};

/// Days of moves that are shown unless told otherwise: a quarter of a year.
const PERIOD_DAYS: i64 = 91;

/// A kind of state.
struct Kind {
    name: &'static str,
    /// Under its charts.
    caption: &'static str,
    /// Every state of it, in order: one that nobody is in is news, too.
    states: &'static [i32],
    word: fn(i32) -> String,
}

const RELATIONSHIP: Kind = Kind {
    name: "relationship",
    caption: "Relationships",
    states: &[
        Relationship::NonCustomer as i32,
        Relationship::Potential as i32,
        Relationship::Target as i32,
        Relationship::FirstTime as i32,
        Relationship::Repeat as i32,
        Relationship::Loyal as i32,
        Relationship::Lost as i32,
    ],
    word: view::relationship,
};
const STAGE: Kind = Kind {
    name: "life-cycle stage",
    caption: "Life-cycle stages, from winning to leaving",
    states: &[
        LifeCycleStage::Acquisition as i32,
        LifeCycleStage::Growth as i32,
        LifeCycleStage::Maturity as i32,
        LifeCycleStage::Decline as i32,
        LifeCycleStage::Departure as i32,
    ],
    word: view::stage,
};
const TIER: Kind = Kind {
    name: "tier",
    caption: "Tiers",
    states: &[Tier::Important as i32, Tier::Major as i32, Tier::Ordinary as i32, Tier::Small as i32],
    word: view::tier,
};
const CODE: Kind = Kind {
    name: "code",
    caption: "Customer codes: A best, B great potential, C general",
    states: &[CustomerCode::A as i32, CustomerCode::B as i32, CustomerCode::C as i32],
    word: view::code,
};

/// How many stand where.
///
/// # Errors
/// A server that does not answer.
pub(super) async fn stages(client: &Client) -> Result<String> {
    let reply = client.scoring().get_standing_counts(request(scoring::GetStandingCountsRequest {})).await?.into_inner();
    let all: i64 = reply.counts.iter().map(|count| count.customers).sum();
    if all == 0 {
        return Ok(paragraph("Nobody is known yet."));
    }
    type Of = fn(&scoring::StandingCount) -> i32;
    let kinds: [(Kind, Of); 3] = [(STAGE, |of| of.stage), (RELATIONSHIP, |of| of.relationship), (CODE, |of| of.code)];
    let (mut charts, mut tables) = (Vec::new(), String::new());
    for (Kind { name, caption, states, word }, of) in kinds {
        let mut counts = BTreeMap::<i32, i64>::new();
        for count in &reply.counts {
            *counts.entry(of(count)).or_default() += count.customers;
        }
        // Those without a state come first, if there are any.
        let states: Vec<i32> =
            counts.get_key_value(&0).map(|(none, _)| *none).into_iter().chain(states.iter().copied()).collect();
        let count = |state: &i32| counts.get(state).copied().unwrap_or(0);
        let share = |state: &i32| float(count(state)) / float(all);
        let labels: Vec<String> = states.iter().map(|state| word(*state)).collect();
        let title = format!("Share of customers by {name}");
        charts.push((chart::bars(&title, &labels, &[("customers", states.iter().map(share).collect())])?, caption));
        let rows = states
            .iter()
            .zip(labels)
            .map(|(state, label)| vec![label, view::count(count(state)), view::percent(share(state))]);
        tables.push_str(&table(&[name, "customers", "share"], &[1, 2], rows));
    }
    Ok(figures(&charts) + "<div class=\"charts\">\n" + &tables + "</div>\n")
}

/// Who moved from where to where.
///
/// # Errors
/// A first day that the server refuses; a server that does not answer.
pub(super) async fn transitions(
    client: &Client,
    since: Option<scoring::Date>,
    now: Option<&prost_types::Timestamp>,
) -> Result<String> {
    let ask = async |from| {
        let message = scoring::GetTransitionsRequest { from, to: None };
        client.scoring().get_transitions(request(message)).await.map(tonic::Response::into_inner)
    };
    let all = ask(since).await?;
    let Some(first) = all.first_record_time.as_ref().and_then(day) else {
        return Ok(paragraph("Nobody has stood anywhere yet."));
    };
    // At the first record nobody had a state before it: moves are those from the day after.
    let begin = now.and_then(day).map(|today| {
        let quarter = today.saturating_sub(jiff::Span::new().days(PERIOD_DAYS));
        (quarter.max(first.saturating_add(jiff::Span::new().days(1))), today)
    });
    let reply = match begin {
        Some((from, today)) if since.is_none() && from <= today => ask(Some(to_proto(from))).await?,
        _ => all,
    };
    let kinds: [(Kind, Vec<Move>); 3] = [
        (RELATIONSHIP, reply.relationships.iter().map(|of| (of.from, of.to, of.customers)).collect()),
        (STAGE, reply.stages.iter().map(|of| (of.from, of.to, of.customers)).collect()),
        (TIER, reply.tiers.iter().map(|of| (of.from, of.to, of.customers)).collect()),
    ];
    let (mut charts, mut tables) = (Vec::new(), String::new());
    for (kind, moves) in kinds {
        let matrix = Matrix::new(&moves, &kind);
        let title =
            format!("Of a hundred customers in each {} at the start, how many are in which at the end", kind.name);
        charts.push((chart::matrix(&title, &matrix.labels, &matrix.shares())?, kind.caption));
        tables.push_str(&matrix.table(kind.name));
    }
    let sentence = format!(
        "From {} to {}. Rows are where customers stood at the start, columns where they stand at the end: of a hundred in a row, so many are in each \
         column. {} lost customers were won back.",
        view::time(reply.start_time.as_ref()),
        view::time(reply.end_time.as_ref()),
        view::count(reply.regained)
    );
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), view::percent);
    let retention = table(
        &["tier at the start", "customers", "retained", "lost", "stayed", "rose", "fell"],
        &[1, 2, 3, 4, 5, 6],
        reply.retention.iter().map(|tier| {
            let mut row = vec![view::tier(tier.tier), view::count(tier.customers)];
            row.extend([share(tier.retention_rate), share(tier.loss_rate)]);
            row.extend([tier.stayed, tier.rose, tier.fell].map(view::count));
            row
        }),
    );
    Ok(paragraph(&sentence) + &figures(&charts) + &tables + &retention)
}

/// From, to, and how many.
type Move = (i32, i32, i64);

/// Who went from where to where.
struct Matrix {
    states: Vec<i32>,
    labels: Vec<String>,
    customers: BTreeMap<(i32, i32), i64>,
}

impl Matrix {
    fn new(moves: &[Move], kind: &Kind) -> Self {
        // Pairs that somebody only passed through have nobody in them.
        let customers: BTreeMap<(i32, i32), i64> =
            moves.iter().filter(|(.., count)| *count > 0).map(|(from, to, count)| ((*from, *to), *count)).collect();
        let none = customers.keys().any(|(from, to)| *from == 0 || *to == 0);
        let states: Vec<i32> = none.then_some(0).into_iter().chain(kind.states.iter().copied()).collect();
        // Where somebody comes from nowhere, they were not known then.
        let label = |state: &i32| if *state == 0 { "none yet".to_owned() } else { (kind.word)(*state) };
        Self { labels: states.iter().map(label).collect(), states, customers }
    }

    /// Of those in a row, the share in each column.
    fn shares(&self) -> Vec<Vec<Option<f64>>> {
        let count = |from: &i32, to: &i32| self.customers.get(&(*from, *to)).copied().unwrap_or(0);
        let row = |from: &i32| {
            let all: i64 = self.states.iter().map(|to| count(from, to)).sum();
            self.states.iter().map(|to| (all > 0).then(|| float(count(from, to)) / float(all))).collect()
        };
        self.states.iter().map(row).collect()
    }

    /// The same in numbers, of the states that occur.
    fn table(&self, name: &str) -> String {
        let occurs = |of: fn(&(i32, i32)) -> i32| -> Vec<(i32, &String)> {
            let found = |state: &i32| self.customers.keys().any(|pair| of(pair) == *state);
            self.states.iter().copied().zip(&self.labels).filter(|(state, _)| found(state)).collect()
        };
        let (from, to) = (occurs(|pair| pair.0), occurs(|pair| pair.1));
        let corner = format!("{name} at the start");
        let header: Vec<&str> =
            std::iter::once(corner.as_str()).chain(to.iter().map(|(_, label)| label.as_str())).collect();
        let rows = from.iter().map(|(from, label)| {
            let cell = |to: i32| self.customers.get(&(*from, to)).map_or(String::new(), |count| view::count(*count));
            std::iter::once((*label).clone()).chain(to.iter().map(|(to, _)| cell(*to))).collect()
        });
        table(&header, &(1..header.len()).collect::<Vec<_>>(), rows)
    }
}

/// The day of a moment, in UTC.
fn day(time: &prost_types::Timestamp) -> Option<civil::Date> {
    let time = Timestamp::new(time.seconds, time.nanos).ok()?;
    Some(Zoned::new(time, TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_has_every_state_and_shares_of_its_rows() {
        let moves = [(4, 5, 3), (4, 7, 1), (5, 5, 10), (6, 5, 0)];
        let matrix = Matrix::new(&moves, &RELATIONSHIP);
        assert_eq!(matrix.labels.len(), 7, "nobody comes from nowhere");
        let shares = matrix.shares();
        assert_eq!(shares[3][4], Some(0.75));
        assert_eq!(shares[3].iter().flatten().sum::<f64>(), 1.0);
        assert!(shares[5].iter().all(Option::is_none), "nobody was loyal at the start");
        let table = matrix.table("relationship");
        assert!(table.contains("<td>first time</td><td class=\"n\">3</td><td class=\"n\">1</td>"), "{table}");
        assert!(!table.contains("loyal"), "{table}");
        let new = Matrix::new(&[(0, 1, 5)], &TIER);
        assert_eq!((new.labels.len(), new.labels[0].as_str(), new.shares()[0][1]), (5, "none yet", Some(1.0)));
    }

    #[test]
    fn a_chart_of_moves_says_how_many_in_a_hundred() {
        let matrix = Matrix::new(&[(1, 1, 997), (1, 4, 3), (4, 4, 5)], &TIER);
        let svg = chart::matrix("moves", &matrix.labels, &matrix.shares()).unwrap();
        let figures: Vec<&str> =
            svg.split("</text>").filter_map(|text| text.trim().lines().last()).map(str::trim).collect();
        for figure in ["100", "&lt;1", "important", "small"] {
            assert!(svg.contains(figure), "{figure}: {figures:?}");
        }
        assert!(svg.contains("rotate(270"), "{svg}");
    }
}
