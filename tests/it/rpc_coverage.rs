//! An RPC that no test calls is not finished.
use std::{collections::BTreeSet, fs, path::Path};

use e2e::wire;

#[test]
fn every_rpc_is_called_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for entry in fs::read_dir(root.join("../crates")).unwrap() {
        read(&entry.unwrap().path().join("tests"), &mut sources);
    }
    read(&root.join("src"), &mut sources);
    read(&root.join("it"), &mut sources);
    let methods = wire::methods();
    // Found by name: two RPCs of the same name would vouch for each other.
    let names: BTreeSet<_> = methods.iter().map(|method| method.name().to_owned()).collect();
    assert_eq!(names.len(), methods.len(), "two RPCs share a name");
    let missing: Vec<_> = methods
        .iter()
        .filter(|method| !sources.contains(&format!(".{}(", snake_case(method.name()))))
        .map(|method| method.full_name().to_owned())
        .collect();
    assert!(missing.is_empty(), "no test calls {}", missing.join(", "));
}

/// All Rust sources below a folder, without their comments.
fn read(folder: &Path, sources: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                sources.push_str(line.split("//").next().unwrap_or_default().trim());
            }
        }
    }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
