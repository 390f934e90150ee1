//! An expression word by word: where each stands, and what can be refused before a grammar is asked.
use super::expression::{Fault, MAX_NESTING, MAX_WORDS};

/// A place in a text, counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// The beginning.
    pub const START: Self = Self { line: 1, column: 1 };

    /// As the reader of CEL gives it.
    pub(super) fn from_reader((line, column): (isize, isize)) -> Self {
        Self { line: usize::try_from(line).unwrap_or(1).max(1), column: usize::try_from(column).unwrap_or(1).max(1) }
    }
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A name, of a field or a function.
    Name,
    /// `true`, `false`, `null`, a number or a text.
    Literal,
    /// `in`, and everything that is no word.
    Sign,
}

/// A word, number, text or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) sort: Sort,
    pub(super) text: String,
    pub(super) place: Place,
}

/// All of an expression.
#[derive(Debug)]
pub(super) struct Words(Vec<Word>);

/// The names that may stand before a bracket.
const FUNCTIONS: [&str; 5] = ["double", "int", "startsWith", "endsWith", "contains"];

impl Words {
    /// Takes a text apart.
    pub(super) fn of(text: &str) -> Result<Self, Fault> {
        let mut reader = Reader { rest: text, place: Place::START };
        let mut words: Vec<Word> = Vec::new();
        let mut open = 0_usize;
        while let Some(word) = reader.next()? {
            match word.text.as_str() {
                _ if word.sort != Sort::Sign => {}
                "(" | "[" | "{" => open += 1,
                ")" | "]" | "}" => open = open.saturating_sub(1),
                _ => {}
            }
            if open > MAX_NESTING {
                return Err(Fault::at(word.place, format!("is the {open}th bracket open; {MAX_NESTING} are allowed")));
            }
            if words.len() == MAX_WORDS {
                let message =
                    format!("is word {} of it; {MAX_WORDS} words, numbers and signs are allowed", words.len() + 1);
                return Err(Fault::at(word.place, message));
            }
            words.push(word);
        }
        Ok(Self(words))
    }

    /// Refuses names that are nothing, `unknown` saying what there is.
    pub(super) fn check(&self, is_field: impl Fn(&str) -> bool, unknown: &str) -> Result<(), Fault> {
        for (index, word) in self.0.iter().enumerate() {
            if word.sort != Sort::Name {
                continue;
            }
            let called = self.0.get(index + 1).is_some_and(|next| next.text == "(" && next.sort == Sort::Sign);
            if called && !FUNCTIONS.contains(&word.text.as_str()) {
                let message = format!("is no function; there are {}", FUNCTIONS.join(", "));
                return Err(Fault::at(word.place, message));
            }
            if !called && !is_field(&word.text) {
                return Err(Fault::at(word.place, unknown));
            }
        }
        Ok(())
    }

    /// What the reader makes leaves of, in the same order.
    pub(super) fn leaves(&self) -> Vec<&Word> {
        self.0.iter().filter(|word| word.sort != Sort::Sign).collect()
    }
}

struct Reader<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Reader<'a> {
    /// Takes so many bytes.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for c in taken.chars() {
            if c == '\n' {
                self.place = Place { line: self.place.line + 1, column: 1 };
            } else {
                self.place.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn next(&mut self) -> Result<Option<Word>, Fault> {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with("//") {
                break;
            }
            self.take_while(|c| c != '\n');
        }
        let place = self.place;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let (sort, text) = match first {
            '"' | '\'' => (Sort::Literal, self.quoted(first, place)?),
            'a'..='z' | 'A'..='Z' | '_' => {
                let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                if self.rest.starts_with(['"', '\'']) {
                    return Err(Fault::at(place, "is a text with a prefix; plain texts in quotes are allowed"));
                }
                let sort = match name {
                    "true" | "false" | "null" => Sort::Literal,
                    "in" => Sort::Sign,
                    _ => Sort::Name,
                };
                (sort, name)
            }
            '0'..='9' => (Sort::Literal, self.number()),
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => (Sort::Literal, self.number()),
            c if c.is_ascii_graphic() => (Sort::Sign, self.take(c.len_utf8())),
            _ => return Err(Fault::at(place, "is a character that stands in texts in quotes alone")),
        };
        Ok(Some(Word { sort, text: text.to_owned(), place }))
    }

    /// A number as far as it goes: digits, letters and points, and a sign after an exponent.
    fn number(&mut self) -> &'a str {
        let hexadecimal = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        let mut before = ' ';
        let mut end = 0;
        for c in self.rest.chars() {
            let sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E') && !hexadecimal;
            if !(c.is_ascii_alphanumeric() || c == '.' || sign) {
                break;
            }
            (before, end) = (c, end + 1);
        }
        self.take(end)
    }

    fn quoted(&mut self, quote: char, place: Place) -> Result<&'a str, Fault> {
        let mut escaped = false;
        let mut end = None;
        for (at, c) in self.rest.char_indices().skip(1) {
            if c.is_control() {
                break;
            }
            if !escaped && c == quote {
                end = Some(at + 1);
                break;
            }
            escaped = !escaped && c == '\\';
        }
        match end {
            // Two quotes and a third begin a text over several lines, of which there is no need.
            Some(2) if self.rest[2..].starts_with(quote) => {
                Err(Fault::at(place, "is a text in three quotes; one on each side is allowed"))
            }
            Some(end) => Ok(self.take(end)),
            None => Err(Fault::at(place, "is a text that does not end on its line")),
        }
    }
}
