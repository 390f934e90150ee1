//! `transitions`: who moved where over a period.
use std::collections::{BTreeMap, BTreeSet};

use proto::scoring::v1 as scoring;

use crate::{
    cli::Target,
    client::{Result, request},
    view,
};

/// `transitions`.
///
/// # Errors
/// A day that is none; a server that does not answer.
pub async fn transitions(target: &Target, from: Option<scoring::Date>, to: Option<scoring::Date>) -> Result<()> {
    let message = scoring::GetTransitionsRequest { from, to };
    let reply = target.client()?.scoring().get_transitions(request(message)).await?.into_inner();
    if target.json {
        return view::json("clientele.scoring.v1.GetTransitionsResponse", &reply);
    }
    view::line(format!(
        "From {} to {}: {} at the end, {} won back.",
        view::time(reply.start_time.as_ref()),
        view::time(reply.end_time.as_ref()),
        view::counted(reply.customers.unsigned_abs(), "customer"),
        view::count(reply.regained)
    ));
    if reply.customers == 0 {
        view::line(match reply.first_record_time.as_ref() {
            Some(first) => {
                format!("Nobody had a state in this period; the first was recorded {}.", view::time(Some(first)))
            }
            None => "No customer has a state yet: import purchases first.".to_owned(),
        });
        return Ok(());
    }
    // Then everybody came from nowhere: where they came to says it all, and who was kept or lost of the tiers is nobody.
    let from_nowhere = reply.relationships.iter().all(|cell| cell.from == 0 || cell.customers == 0);
    let mut bracketed = false;
    let mut show = |what: &str, cells: Vec<Cell>, name: fn(i32) -> String| {
        let of_start = |cell: &Cell| !from_nowhere || cell.0.0 == 0;
        let cells = cells.into_iter().filter(of_start).map(|(pair, (customers, moves))| {
            let moves = if from_nowhere { customers } else { moves };
            bracketed |= brackets(pair, customers, moves);
            (pair, (customers, moves))
        });
        let cells: Vec<Cell> = cells.collect();
        view::line(matrix(what, cells.into_iter(), name));
    };
    let cells = reply.relationships.iter().map(|cell| ((cell.from, cell.to), (cell.customers, cell.moves)));
    show("relationship", cells.collect(), view::relationship);
    let cells = reply.stages.iter().map(|cell| ((cell.from, cell.to), (cell.customers, cell.moves)));
    show("stage", cells.collect(), view::stage);
    let cells = reply.tiers.iter().map(|cell| ((cell.from, cell.to), (cell.customers, cell.moves)));
    show("tier", cells.collect(), view::tier);
    if from_nowhere {
        let first = view::time(reply.first_record_time.as_ref());
        view::line(format!(
            "Nobody had a state at the start, so that nobody can have been kept or lost. The records begin {first}: with --from and a day \
             after the first record it shows who moved since."
        ));
        return Ok(());
    }
    if bracketed {
        view::line(
            "449 (455) means: 449 customers stood there at the start and here at the end, and 455 times somebody moved so in between, \
             those who moved on included.",
        );
    }
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), view::percent);
    let rows = reply.retention.iter().map(|tier| {
        vec![
            view::tier(tier.tier),
            view::count(tier.customers),
            share(tier.retention_rate),
            share(tier.loss_rate),
            view::count(tier.stayed),
            view::count(tier.rose),
            view::count(tier.fell),
        ]
    });
    let header = ["tier at the start", "customers", "retained", "lost", "stayed", "rose", "fell"];
    view::line(view::table(&header, &[1, 2, 3, 4, 5, 6], rows));
    Ok(())
}

/// From and to; customers and moves.
type Cell = ((i32, i32), (i64, i64));

/// Whether the moves are told apart from the customers.
fn brackets((from, to): (i32, i32), customers: i64, moves: i64) -> bool {
    from != to && customers != moves
}

/// A table with a row for each state at the start and a column for each at the end; in brackets the moves, where they differ.
fn matrix(what: &str, cells: impl Iterator<Item = Cell>, name: fn(i32) -> String) -> String {
    let cells: BTreeMap<(i32, i32), (i64, i64)> = cells.filter(|(_, counts)| *counts != (0, 0)).collect();
    let states = |of: fn(&(i32, i32)) -> i32| cells.keys().map(of).collect::<BTreeSet<i32>>();
    let (starts, ends) = (states(|pair| pair.0), states(|pair| pair.1));
    let name = |state: &i32| if *state == 0 { "none yet".to_owned() } else { name(*state) };
    let header: Vec<String> = std::iter::once(format!("{what} from ↓ to →")).chain(ends.iter().map(name)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = starts.iter().map(|from| {
        let mut row = vec![name(from)];
        row.extend(ends.iter().map(|to| match cells.get(&(*from, *to)) {
            None => String::new(),
            Some((customers, moves)) if !brackets((*from, *to), *customers, *moves) => view::count(*customers),
            Some((customers, moves)) => format!("{} ({})", view::count(*customers), view::count(*moves)),
        }));
        row
    });
    view::table(&header, &(1..=ends.len()).collect::<Vec<_>>(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_shows_who_went_where_and_the_moves_that_led_elsewhere() {
        let cells = [((4, 5), (3, 3)), ((5, 5), (10, 0)), ((4, 7), (1, 2)), ((5, 7), (0, 0))];
        let text = matrix("relationship", cells.into_iter(), view::relationship);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.iter().any(|line| line[..] == ["first", "time", "3", "1", "(2)"]), "{text}");
        assert!(lines.iter().any(|line| line[..] == ["repeat", "10"]), "{text}");
    }
}
