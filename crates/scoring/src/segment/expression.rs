//! Expressions: read as CEL, checked against the fields there are, and turned into a small tree that is evaluated without allocating and in
//! time bounded by its size.
//!
//! The CEL crate reads the text; its own interpreter knows no types before it runs, and makes an object of every value: for a million customers
//! and a hundred segments a day that would be the whole day's work. A test holds this evaluation against that interpreter.
//! Errors name a place in the text and never repeat what stands there.
use std::fmt;

use cel::{
    common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators},
    parser::Parser,
};

use super::{
    field::{FIELDS, Field, Fields, Kind, Known, Value},
    words::{Place, Word, Words},
};

/// Longest expression, in characters: what a person still reads.
pub const MAX_CHARS: usize = 2_000;
/// Words, numbers and signs of one: with them the cost of evaluating it is bounded, at some nanoseconds each.
pub const MAX_WORDS: usize = 300;
/// Brackets within brackets: reading them takes stack.
pub const MAX_NESTING: usize = 16;
/// How deep the reader goes at most: brackets, and chains of `?:`, `!` and `-`.
const MAX_DEPTH: u16 = 48;
/// Bytes of the reader's stack: address space, of which only what is used is taken.
const READER_STACK: usize = 64 * 1024 * 1024;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub(super) fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.place.line, self.place.column, self.message)
    }
}

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Expression {
    root: Node,
    fields: Vec<Field>,
}

impl Expression {
    /// Reads and checks an expression; the first fault, with its place, where there is one.
    ///
    /// # Errors
    /// `Overloaded` where it could not be read just now, which says nothing of the text.
    pub fn parse(text: &str) -> chassis::Result<Result<Self, Fault>> {
        if let Err(fault) = Self::check_words(text) {
            return Ok(Err(fault));
        }
        Ok(read(text)?.and_then(|ast| Self::of(text, &ast)))
    }

    fn check_words(text: &str) -> Result<(), Fault> {
        Words::of(text)?.check(|name| Field::of(name).is_some(), &unknown_field())
    }

    fn of(text: &str, ast: &IdedExpr) -> Result<Self, Fault> {
        let words = Words::of(text)?;
        let mut check = Check { leaves: words.leaves(), next: 0, fields: Vec::new() };
        let root = check.node(ast)?;
        if root.kind != Kind::Bool {
            let message = format!("the whole is {}; a truth value is needed, such as a comparison", root.kind.name());
            return Err(Fault::at(Place::START, message));
        }
        Ok(Self { root: root.node, fields: check.fields })
    }

    /// Nobody.
    pub fn never() -> Self {
        Self { root: Node::Bool(false), fields: Vec::new() }
    }

    /// Whether it is true for a customer: neither false nor unknown.
    pub fn matches(&self, customer: &Fields<'_>) -> bool {
        self.root.truth(customer) == Some(true)
    }

    /// The fields that it speaks of.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// What the reader makes of a text. It recurses through some ten rules for every bracket and operator: on a stack of its own, which the limits
/// above keep it well within, whoever calls; and a fault of it ends nothing but itself.
fn read(text: &str) -> chassis::Result<Result<IdedExpr, Fault>> {
    let refused = |place| {
        Fault::at(place, "cannot be read as CEL from here on; is an operator, an operand or a bracket missing?")
    };
    let text = text.to_owned();
    let reader = std::thread::Builder::new().name("expression".to_owned()).stack_size(READER_STACK);
    let reading = reader.spawn(move || {
        Parser::new().max_recursion_depth(MAX_DEPTH).parse(&text).map_err(|errors| {
            // Not the errors themselves: they are bound to their thread.
            errors.errors.first().map_or(Place::START, |error| Place::from_reader(error.pos))
        })
    });
    // For want of memory or threads, which passes.
    let reading = reading.map_err(|_| chassis::Error::Overloaded("expressions"))?;
    Ok(reading.join().unwrap_or(Err(Place::START)).map_err(refused))
}

fn unknown_field() -> String {
    let names: Vec<_> = FIELDS.iter().map(|known| known.name).collect();
    format!("is no field; there are {}", names.join(", "))
}

/// A node of the tree. Its operands are of the kinds that it takes: the check saw to that.
#[derive(Clone, Debug)]
enum Node {
    Field(Field),
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    If(Box<Self>, Box<Self>, Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    Within(Box<Self>, Vec<Self>),
    Calculate(Operation, Box<Self>, Box<Self>),
    Negate(Box<Self>),
    Search(Search, Box<Self>, Box<Self>),
    ToDouble(Box<Self>),
    ToInt(Box<Self>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug)]
enum Search {
    Start,
    End,
    Anywhere,
}

impl Node {
    /// What it comes to; `None` where that is unknown, as CEL's errors are: a field that is, a division by zero, an overflow.
    fn value<'a>(&'a self, customer: &'a Fields<'_>) -> Option<Value<'a>> {
        match self {
            Self::Field(field) => customer.get(*field),
            Self::Text(text) => Some(Value::Text(text)),
            Self::Bool(truth) => Some(Value::Bool(*truth)),
            Self::Int(number) => Some(Value::Int(*number)),
            Self::Double(number) => Some(Value::Double(*number)),
            Self::Not(of) => Some(Value::Bool(!of.truth(customer)?)),
            Self::And(a, b) => both(a.truth(customer), || b.truth(customer), false),
            Self::Or(a, b) => both(a.truth(customer), || b.truth(customer), true),
            Self::If(condition, yes, no) => {
                if condition.truth(customer)? {
                    yes.value(customer)
                } else {
                    no.value(customer)
                }
            }
            Self::Compare(comparison, a, b) => {
                comparison.holds(a.value(customer)?, b.value(customer)?).map(Value::Bool)
            }
            Self::Within(of, list) => {
                let of = of.value(customer)?;
                let mut found = false;
                for item in list {
                    found |= Comparison::Equal.holds(of, item.value(customer)?)?;
                }
                Some(Value::Bool(found))
            }
            Self::Calculate(operation, a, b) => operation.result(a.value(customer)?, b.value(customer)?),
            Self::Negate(of) => match of.value(customer)? {
                Value::Int(number) => number.checked_neg().map(Value::Int),
                Value::Double(number) => Some(Value::Double(-number)),
                Value::Text(_) | Value::Bool(_) => None,
            },
            Self::Search(search, text, part) => {
                let (Value::Text(text), Value::Text(part)) = (text.value(customer)?, part.value(customer)?) else {
                    return None;
                };
                Some(Value::Bool(match search {
                    Search::Start => text.starts_with(part),
                    Search::End => text.ends_with(part),
                    Search::Anywhere => text.contains(part),
                }))
            }
            Self::ToDouble(of) => match of.value(customer)? {
                Value::Int(number) => Some(Value::Double(number as f64)),
                number @ Value::Double(_) => Some(number),
                Value::Text(_) | Value::Bool(_) => None,
            },
            Self::ToInt(of) => match of.value(customer)? {
                number @ Value::Int(_) => Some(number),
                // What is beyond the range of whole numbers has none, and neither has what is no number.
                Value::Double(number) if number.abs() < i64::MAX as f64 => Some(Value::Int(number as i64)),
                _ => None,
            },
        }
    }

    fn truth(&self, customer: &Fields<'_>) -> Option<bool> {
        match self.value(customer)? {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }
}

/// `&&` and `||`: one side that decides makes the other's being unknown irrelevant.
fn both<'a>(a: Option<bool>, b: impl FnOnce() -> Option<bool>, decides: bool) -> Option<Value<'a>> {
    if a == Some(decides) {
        return Some(Value::Bool(decides));
    }
    let b = b();
    if b == Some(decides) {
        return Some(Value::Bool(decides));
    }
    (a.is_some() && b.is_some()).then_some(Value::Bool(!decides))
}

impl Comparison {
    fn holds(self, a: Value<'_>, b: Value<'_>) -> Option<bool> {
        let order = match (a, b) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(&b)),
            (Value::Int(a), Value::Double(b)) => (a as f64).partial_cmp(&b),
            (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(b as f64)),
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(&b),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(&b)),
            _ => None,
        }?;
        Some(match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        })
    }
}

impl Operation {
    fn result<'a>(self, a: Value<'_>, b: Value<'_>) -> Option<Value<'a>> {
        match (a, b) {
            (Value::Int(a), Value::Int(b)) => match self {
                Self::Add => a.checked_add(b),
                Self::Subtract => a.checked_sub(b),
                Self::Multiply => a.checked_mul(b),
                Self::Divide => a.checked_div(b),
                Self::Remainder => a.checked_rem(b),
            }
            .map(Value::Int),
            (Value::Double(a), Value::Double(b)) => {
                let result = match self {
                    Self::Add => a + b,
                    Self::Subtract => a - b,
                    Self::Multiply => a * b,
                    Self::Divide => a / b,
                    Self::Remainder => return None,
                };
                // Zero by zero is no number to compare with.
                (!result.is_nan()).then_some(Value::Double(result))
            }
            _ => None,
        }
    }
}

/// A checked part.
struct Part {
    node: Node,
    kind: Kind,
    /// Where it begins.
    place: Place,
    /// The field that it is, and nothing more.
    field: Option<&'static Known>,
}

impl Part {
    fn of(node: Node, kind: Kind, place: Place) -> Self {
        Self { node, kind, place, field: None }
    }
}

/// Goes through what was read from left to right, and through the words along with it: each leaf is the next word.
struct Check<'a> {
    leaves: Vec<&'a Word>,
    next: usize,
    fields: Vec<Field>,
}

impl Check<'_> {
    fn leaf(&mut self) -> Place {
        let place = self.leaves.get(self.next).or(self.leaves.last()).map_or(Place::START, |word| word.place);
        self.next += 1;
        place
    }

    fn here(&self) -> Place {
        self.leaves.get(self.next).or(self.leaves.last()).map_or(Place::START, |word| word.place)
    }

    fn node(&mut self, expr: &IdedExpr) -> Result<Part, Fault> {
        match &expr.expr {
            Expr::Literal(literal) => {
                let place = self.leaf();
                match literal {
                    LiteralValue::Boolean(truth) => Ok(Part::of(Node::Bool(*truth.inner()), Kind::Bool, place)),
                    LiteralValue::Int(number) => Ok(Part::of(Node::Int(*number.inner()), Kind::Int, place)),
                    LiteralValue::Double(number) if number.inner().is_finite() => {
                        Ok(Part::of(Node::Double(*number.inner()), Kind::Double, place))
                    }
                    LiteralValue::Double(_) => Err(Fault::at(place, "is too large a number")),
                    LiteralValue::String(text) => Ok(Part::of(Node::Text(text.inner().to_owned()), Kind::Text, place)),
                    LiteralValue::UInt(_) => Err(Fault::at(place, "is an unsigned number; leave the `u` away")),
                    LiteralValue::Bytes(_) => Err(Fault::at(place, "is a string of bytes; leave the `b` away")),
                    LiteralValue::Null => {
                        Err(Fault::at(place, "is null, which no field ever is; what is unknown makes nobody a member"))
                    }
                }
            }
            Expr::Ident(name) => {
                let place = self.leaf();
                let known = Field::of(name).ok_or_else(|| Fault::at(place, unknown_field()))?;
                if !self.fields.contains(&known.field) {
                    self.fields.push(known.field);
                }
                Ok(Part { field: Some(known), ..Part::of(Node::Field(known.field), known.kind, place) })
            }
            Expr::Call(call) => self.call(call),
            Expr::List(_) => Err(Fault::at(self.here(), "begins a list, which stands after `in` alone")),
            Expr::Select(_) => Err(Fault::at(self.here(), "has no parts to select; a field is one word")),
            Expr::Map(_) | Expr::Struct(_) => {
                Err(Fault::at(self.here(), "begins a map or a message; there are none here"))
            }
            Expr::Comprehension(_) | Expr::Unspecified => Err(Fault::at(self.here(), ALLOWED_CALLS)),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Result<Part, Fault> {
        if let Some(target) = &call.target {
            return self.method(call, target);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [a, b]) => {
                let (a, b) = (self.truth(a)?, self.truth(b)?);
                Ok(Part::of(Node::And(Box::new(a.node), Box::new(b.node)), Kind::Bool, a.place))
            }
            (operators::LOGICAL_OR, [a, b]) => {
                let (a, b) = (self.truth(a)?, self.truth(b)?);
                Ok(Part::of(Node::Or(Box::new(a.node), Box::new(b.node)), Kind::Bool, a.place))
            }
            (operators::LOGICAL_NOT, [of]) => {
                let of = self.truth(of)?;
                Ok(Part::of(Node::Not(Box::new(of.node)), Kind::Bool, of.place))
            }
            (operators::NEGATE, [of]) => {
                let of = self.number(of)?;
                Ok(Part::of(Node::Negate(Box::new(of.node)), of.kind, of.place))
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let (condition, yes, no) = (self.truth(condition)?, self.node(yes)?, self.node(no)?);
                if yes.kind != no.kind {
                    let message = format!(
                        "is {}, and the other outcome is {}: both must be of one kind",
                        no.kind.name(),
                        yes.kind.name()
                    );
                    return Err(Fault::at(no.place, message));
                }
                let node = Node::If(Box::new(condition.node), Box::new(yes.node), Box::new(no.node));
                Ok(Part::of(node, yes.kind, condition.place))
            }
            (operators::EQUALS, [a, b]) => self.compare(Comparison::Equal, a, b),
            (operators::NOT_EQUALS, [a, b]) => self.compare(Comparison::NotEqual, a, b),
            (operators::LESS, [a, b]) => self.compare(Comparison::Less, a, b),
            (operators::LESS_EQUALS, [a, b]) => self.compare(Comparison::LessOrEqual, a, b),
            (operators::GREATER, [a, b]) => self.compare(Comparison::Greater, a, b),
            (operators::GREATER_EQUALS, [a, b]) => self.compare(Comparison::GreaterOrEqual, a, b),
            (operators::ADD, [a, b]) => self.calculate(Operation::Add, a, b),
            (operators::SUBSTRACT, [a, b]) => self.calculate(Operation::Subtract, a, b),
            (operators::MULTIPLY, [a, b]) => self.calculate(Operation::Multiply, a, b),
            (operators::DIVIDE, [a, b]) => self.calculate(Operation::Divide, a, b),
            (operators::MODULO, [a, b]) => self.calculate(Operation::Remainder, a, b),
            (operators::IN, [of, list]) => self.within(of, list),
            ("double", [of]) => {
                let place = self.leaf();
                let of = self.number(of)?;
                Ok(Part::of(Node::ToDouble(Box::new(of.node)), Kind::Double, place))
            }
            ("int", [of]) => {
                let place = self.leaf();
                let of = self.number(of)?;
                Ok(Part::of(Node::ToInt(Box::new(of.node)), Kind::Int, place))
            }
            _ => Err(Fault::at(self.here(), ALLOWED_CALLS)),
        }
    }

    fn method(&mut self, call: &CallExpr, target: &IdedExpr) -> Result<Part, Fault> {
        let text = self.text(target)?;
        let place = self.leaf();
        let search = match call.func_name.as_str() {
            "startsWith" => Search::Start,
            "endsWith" => Search::End,
            "contains" => Search::Anywhere,
            _ => return Err(Fault::at(place, ALLOWED_CALLS)),
        };
        let [part] = call.args.as_slice() else {
            return Err(Fault::at(place, "takes one text"));
        };
        let part = self.text(part)?;
        Ok(Part::of(Node::Search(search, Box::new(text.node), Box::new(part.node)), Kind::Bool, text.place))
    }

    fn of_kind(&mut self, expr: &IdedExpr, fits: fn(Kind) -> bool, needed: &str) -> Result<Part, Fault> {
        let part = self.node(expr)?;
        if fits(part.kind) {
            return Ok(part);
        }
        Err(Fault::at(part.place, format!("is {}; {needed} is needed here", part.kind.name())))
    }

    fn truth(&mut self, expr: &IdedExpr) -> Result<Part, Fault> {
        self.of_kind(expr, |kind| kind == Kind::Bool, "a truth value")
    }

    fn number(&mut self, expr: &IdedExpr) -> Result<Part, Fault> {
        self.of_kind(expr, Kind::is_number, "a number")
    }

    fn text(&mut self, expr: &IdedExpr) -> Result<Part, Fault> {
        self.of_kind(expr, |kind| kind == Kind::Text, "a text")
    }

    fn compare(&mut self, comparison: Comparison, a: &IdedExpr, b: &IdedExpr) -> Result<Part, Fault> {
        let (a, b) = (self.node(a)?, self.node(b)?);
        comparable(&a, &b)?;
        if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) && a.kind == Kind::Bool {
            return Err(Fault::at(
                a.place,
                "is a truth value, of which none is less than another; == and != are allowed",
            ));
        }
        a_word_of(&a, &b)?;
        a_word_of(&b, &a)?;
        Ok(Part::of(Node::Compare(comparison, Box::new(a.node), Box::new(b.node)), Kind::Bool, a.place))
    }

    fn within(&mut self, of: &IdedExpr, list: &IdedExpr) -> Result<Part, Fault> {
        let of = self.node(of)?;
        let Expr::List(list) = &list.expr else {
            return Err(Fault::at(self.here(), "is no list; `in` takes one of literals, such as [\"A\", \"B\"]"));
        };
        let mut items = Vec::with_capacity(list.elements.len());
        for item in &list.elements {
            let item = self.node(item)?;
            if !matches!(item.node, Node::Text(_) | Node::Bool(_) | Node::Int(_) | Node::Double(_)) {
                return Err(Fault::at(item.place, "is no literal; a list holds literals alone"));
            }
            comparable(&of, &item)?;
            a_word_of(&of, &item)?;
            items.push(item.node);
        }
        Ok(Part::of(Node::Within(Box::new(of.node), items), Kind::Bool, of.place))
    }

    fn calculate(&mut self, operation: Operation, a: &IdedExpr, b: &IdedExpr) -> Result<Part, Fault> {
        let (a, b) = (self.number(a)?, self.number(b)?);
        if a.kind != b.kind {
            let message = format!(
                "is {}, and the other operand is {}: both must be of one kind; write 2.0 for 2, or double(…) around the int",
                b.kind.name(),
                a.kind.name()
            );
            return Err(Fault::at(b.place, message));
        }
        if matches!(operation, Operation::Remainder) && a.kind != Kind::Int {
            return Err(Fault::at(a.place, "is a double; `%` takes ints alone"));
        }
        let (kind, place) = (a.kind, a.place);
        Ok(Part::of(Node::Calculate(operation, Box::new(a.node), Box::new(b.node)), kind, place))
    }
}

const ALLOWED_CALLS: &str =
    "is not allowed; there are double(x) and int(x), and on texts startsWith, endsWith and contains";

fn comparable(a: &Part, b: &Part) -> Result<(), Fault> {
    if a.kind == b.kind || (a.kind.is_number() && b.kind.is_number()) {
        return Ok(());
    }
    Err(Fault::at(b.place, format!("is {}, which cannot be compared with {}", b.kind.name(), a.kind.name())))
}

/// A literal that is compared with a field of few words must be one of them: anything else is a slip that would never be found.
fn a_word_of(field: &Part, literal: &Part) -> Result<(), Fault> {
    let (Some(Known { words: Some(words), .. }), Node::Text(text)) = (field.field, &literal.node) else {
        return Ok(());
    };
    let words = words();
    if words.contains(&text.as_str()) {
        return Ok(());
    }
    Err(Fault::at(literal.place, format!("is no value of this field; it is one of {}", words.join(", "))))
}

#[cfg(test)]
mod tests;
