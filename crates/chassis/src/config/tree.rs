//! Values by their dotted keys.
use figment::value::{Dict, Value};

pub(super) fn join(prefix: &str, key: &str) -> String {
    match (prefix, key) {
        ("", key) => key.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, key) => format!("{prefix}.{key}"),
    }
}

/// The values that are not tables, by their dotted keys. An empty table and a list count as values.
pub(super) fn leaves(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(value, "", false, &mut found);
    found
}

/// The same, with the values of tables in lists by their places.
pub(super) fn leaves_in_lists(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(value, "", true, &mut found);
    found
}

fn collect(value: &Value, prefix: &str, in_lists: bool, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            for (key, value) in dict {
                collect(value, &join(prefix, key), in_lists, found);
            }
        }
        Value::Array(_, items) if in_lists && items.iter().any(|item| item.as_dict().is_some()) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &join(prefix, &index.to_string()), in_lists, found);
            }
        }
        Value::Dict(..) if prefix.is_empty() => {}
        value => found.push((prefix.to_owned(), value.clone())),
    }
}

/// What stands at a key; places in lists are parts of it.
pub(super) fn find<'v>(dict: &'v Dict, key: &str) -> Option<&'v Value> {
    match key.split_once('.') {
        Some((first, rest)) => find_within(dict.get(first)?, rest),
        None => dict.get(key),
    }
}

pub(super) fn find_within<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    key.split('.').try_fold(value, |value, part| match value {
        Value::Dict(_, dict) => dict.get(part),
        Value::Array(_, items) => part.parse().ok().and_then(|place: usize| items.get(place)),
        _ => None,
    })
}

/// The key of the innermost item of a list that a key leads to or into.
pub(super) fn item_of<'k>(dict: &Dict, key: &'k str) -> Option<&'k str> {
    let mut item = key;
    loop {
        let (list, _) = item.rsplit_once('.')?;
        if matches!(find(dict, list), Some(Value::Array(..))) {
            return Some(item);
        }
        item = list;
    }
}

pub(super) fn put(dict: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            dict.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = dict.entry(first.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if inner.as_dict().is_none() {
                *inner = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Takes away what stands at a key; places in lists are parts of it, and what stands behind moves up.
pub(super) fn remove(dict: &mut Dict, key: &str) {
    match key.split_once('.') {
        None => {
            dict.remove(key);
        }
        Some((first, rest)) => {
            if let Some(inner) = dict.get_mut(first) {
                remove_within(inner, rest);
            }
        }
    }
}

fn remove_within(value: &mut Value, key: &str) {
    match value {
        Value::Dict(_, dict) => remove(dict, key),
        Value::Array(_, items) => {
            let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
            let index: Option<usize> = first.parse().ok().filter(|index| *index < items.len());
            match (index, rest) {
                (Some(index), Some(rest)) => remove_within(&mut items[index], rest),
                (Some(index), None) => drop(items.remove(index)),
                (None, _) => {}
            }
        }
        _ => {}
    }
}

/// The known key that was probably meant: few letters differ, or only the table is another one.
pub(super) fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k String>) -> Option<&'k str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .map(|known| {
            let distance = distance(key, known);
            // The right name in the wrong table is as near as a slip of the finger or two.
            let distance = if last(known) == last(key) { distance.min(2) } else { distance };
            (distance, known.as_str())
        })
        .filter(|(distance, _)| *distance <= 2.max(key.len() / 4))
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be inserted, left out, replaced or swapped with their neighbour to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, opposite) in other.iter().enumerate() {
            let mut best =
                (last[column] + usize::from(letter != opposite)).min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && one[row - 1] == *opposite && *letter == other[column - 1];
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or_default()
}
