//! The program as somebody at a terminal sees it.
use std::process::Output;

use e2e::program;
use serde_json::Value;

use crate::PROGRAM;

/// Runs the program with these arguments to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    let mut command = program::command(PROGRAM);
    command.args(arguments);
    program::output(command).await
}

/// What it printed; it must have ended well.
pub(crate) async fn told(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {} {errors}", output.status);
    assert_eq!(errors, "", "{arguments:?}: nothing is wrong, and nothing is said to be");
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON.
pub(crate) async fn json(arguments: &[&str]) -> Value {
    let text = told(arguments).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// What it complained of; it must have ended with 1 and printed nothing else.
pub(crate) async fn refused(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    assert!(errors.starts_with("error: "), "{errors}");
    // For people: no code of ours, no address of the source.
    for word in ["Status {", "panicked", "src/", "Some(", "MetadataMap"] {
        assert!(!errors.contains(word), "{arguments:?}: {errors}");
    }
    errors
}

/// What it says of arguments that it cannot read at all; it must have ended with 2.
pub(crate) async fn unreadable(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    assert!(errors.starts_with("error: ") && errors.contains("--help"), "{arguments:?}: {errors}");
    errors
}

/// A server to talk to, in lines without quotation marks.
pub(crate) struct At(pub(crate) String);

impl At {
    fn words<'a>(&'a self, line: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        line.split(' ').chain(more.iter().copied()).chain(["--server", &self.0]).collect()
    }

    /// What a command printed. `more` are arguments with blanks in them.
    pub(crate) async fn told(&self, line: &str, more: &[&str]) -> String {
        told(&self.words(line, more)).await
    }

    /// What it printed as JSON.
    pub(crate) async fn json(&self, line: &str, more: &[&str]) -> Value {
        json(&[&self.words(line, more)[..], &["--json"]].concat()).await
    }

    /// What it complained of, with `--json` in the same words.
    pub(crate) async fn refused(&self, line: &str, more: &[&str]) -> String {
        let words = self.words(line, more);
        let errors = refused(&words).await;
        assert_eq!(refused(&[&words[..], &["--json"]].concat()).await, errors);
        errors
    }
}
