//! Messages that nobody sensible would send, made from nothing but the contract.
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::random::Random;

/// Stands in every text that could be a person's own words; no error may repeat it.
pub const PERSONAL: &str = "Erika Mustermann";
/// How deep messages are filled: deeper than any request is meant to be.
const DEPTH: usize = 6;

/// What fills the fields of a message.
#[derive(Clone, Debug)]
pub struct Taste {
    /// Whole numbers, cut to what the field holds.
    pub number: i64,
    /// Numbers with a point.
    pub float: f64,
    /// Texts.
    pub text: String,
    /// Values of enums.
    pub choice: i32,
    /// Truth values.
    pub truth: bool,
    /// Items of lists at the top; below it there is one.
    pub items: usize,
}

/// Every field at one of its ends.
pub fn extremes() -> Vec<Taste> {
    let usual = Taste {
        number: 1,
        float: 0.5,
        text: "0198c000-0000-7000-8000-000000000000".to_owned(),
        choice: 1,
        truth: true,
        items: 1,
    };
    let numbers = [i64::MIN, i64::MAX, -1, i64::from(i32::MIN), i64::from(i32::MAX), 253_402_300_800];
    let floats = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN, f64::MAX, -0.0];
    let texts = [
        String::new(),
        " ".to_owned(),
        "\0".to_owned(),
        format!("{PERSONAL}\0"),
        PERSONAL.to_owned(),
        format!("{PERSONAL}{}", "x".repeat(100_000)),
        "é".repeat(50_000),
        "\u{202e}\u{feff}\u{10ffff}👩‍👩‍👧".to_owned(),
        "'; DROP TABLE customer; --".to_owned(),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned(),
        "%s%n../../etc/passwd".to_owned(),
        "9".repeat(64),
        "AAAA".to_owned(),
    ];
    let with = |change: &dyn Fn(&mut Taste)| {
        let mut taste = usual.clone();
        change(&mut taste);
        taste
    };
    let mut tastes = vec![usual.clone()];
    tastes.extend(numbers.map(|number| with(&|taste| taste.number = number)));
    tastes.extend(floats.map(|float| with(&|taste| taste.float = float)));
    tastes.extend(texts.iter().map(|text| with(&|taste| taste.text.clone_from(text))));
    tastes.extend([-1, 0, 999, i32::MIN, i32::MAX].map(|choice| with(&|taste| taste.choice = choice)));
    tastes.push(with(&|taste| taste.truth = false));
    // Nothing in each item, so that the message stays within what a server takes at all.
    tastes.push(with(&|taste| (taste.items, taste.text) = (10_001, String::new())));
    tastes.push(with(&|taste| taste.items = 0));
    let all = |number, float, text: &str, choice| Taste {
        number,
        float,
        text: text.to_owned(),
        choice,
        truth: true,
        items: 3,
    };
    tastes.push(all(i64::MIN, f64::NAN, "\0", i32::MIN));
    tastes.push(all(i64::MAX, f64::INFINITY, PERSONAL, i32::MAX));
    tastes
}

/// A message with every field of it filled so.
pub fn filled(descriptor: &MessageDescriptor, taste: &Taste) -> DynamicMessage {
    fill(descriptor, taste, 0)
}

fn fill(descriptor: &MessageDescriptor, taste: &Taste, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let value = || match field.kind() {
            Kind::Message(inner) => (depth < DEPTH).then(|| Value::Message(fill(&inner, taste, depth + 1))),
            kind => Some(scalar(&kind, taste)),
        };
        let value = if field.is_list() {
            let items = if depth == 0 { taste.items } else { taste.items.min(1) };
            value().map(|value| Value::List(vec![value; items]))
        } else {
            value()
        };
        if let Some(value) = value {
            message.set_field(&field, value);
        }
    }
    message
}

fn scalar(kind: &Kind, taste: &Taste) -> Value {
    let number = taste.number;
    let small = i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX });
    match kind {
        Kind::Double => Value::F64(taste.float),
        #[allow(clippy::cast_possible_truncation, reason = "nonsense")]
        Kind::Float => Value::F32(taste.float as f32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(small),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(small.unsigned_abs()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number.unsigned_abs()),
        Kind::Bool => Value::Bool(taste.truth),
        Kind::String => Value::String(taste.text.clone()),
        Kind::Bytes => Value::Bytes(taste.text.clone().into_bytes().into()),
        Kind::Enum(_) => Value::EnumNumber(taste.choice),
        Kind::Message(_) => unreachable!("messages are filled"),
    }
}

/// A message of values that are often right, sometimes wrong, and in no sensible order: it comes past the first checks.
pub fn random(descriptor: &MessageDescriptor, known: &[String], random: &mut Random) -> DynamicMessage {
    scatter(descriptor, known, random, 0)
}

fn scatter(descriptor: &MessageDescriptor, known: &[String], random: &mut Random, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if !random.chance(75) {
            continue;
        }
        if field.is_list() {
            let items: Vec<_> = (0..random.below(4)).filter_map(|_| some(&field, known, random, depth)).collect();
            message.set_field(&field, Value::List(items));
        } else if let Some(value) = some(&field, known, random, depth) {
            message.set_field(&field, value);
        }
    }
    message
}

fn some(field: &FieldDescriptor, known: &[String], random: &mut Random, depth: usize) -> Option<Value> {
    if let Kind::Message(inner) = field.kind() {
        return match inner.full_name() {
            _ if depth >= DEPTH => None,
            "google.protobuf.Timestamp" | "google.protobuf.Duration" if random.chance(80) => {
                let mut moment = DynamicMessage::new(inner);
                let seconds = *random.pick(&[0, 1, 60, 884_000_000, 899_215_200, 899_215_199, 7_258_118_400, -1]);
                moment.set_field_by_name("seconds", Value::I64(seconds));
                Some(Value::Message(moment))
            }
            _ => Some(Value::Message(scatter(&inner, known, random, depth + 1))),
        };
    }
    let taste = Taste {
        number: *random.pick(&[0, 1, 2, 3, 7, 12, 50, 1_000, 1_997, 1_998, 10_000, 1_000_000, -1, i64::MIN, i64::MAX]),
        float: *random.pick(&[0.0, 0.5, 1.0, -1.0, 1e300, f64::NAN]),
        text: random.pick(known).clone(),
        choice: *random.pick(&[0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 99, -1]),
        truth: random.chance(50),
        items: 1,
    };
    Some(scalar(&field.kind(), &taste))
}

/// The message with one field after the other spoiled, each in every way that its kind allows; the path of what was spoiled comes with it.
pub fn spoiled(message: &DynamicMessage) -> Vec<(String, DynamicMessage)> {
    let mut spoiled = Vec::new();
    for field in message.descriptor().fields() {
        for value in spoil(&field, &message.get_field(&field), message.has_field(&field)) {
            let mut copy = message.clone();
            match value.1 {
                Some(value) => copy.set_field(&field, value),
                None => copy.clear_field(&field),
            }
            let path = if value.0.is_empty() { String::new() } else { format!(".{}", value.0) };
            spoiled.push((format!("{}{path}", field.name()), copy));
        }
    }
    spoiled
}

type Spoiled = Vec<(String, Option<Value>)>;

fn spoil(field: &FieldDescriptor, value: &Value, is_set: bool) -> Spoiled {
    let mut spoiled: Spoiled = vec![(String::new(), None)];
    if let Value::List(items) = value {
        let many = items.first().map(|item| Value::List(vec![item.clone(); 10_001]));
        spoiled.extend(many.map(|many| (String::new(), Some(many))));
        let twice: Vec<_> = items.iter().chain(items).cloned().collect();
        spoiled.push((String::new(), Some(Value::List(twice))));
        if let [first, rest @ ..] = items.as_slice() {
            for (path, value) in spoil_one(&field.kind(), first) {
                let items = value.into_iter().chain(rest.iter().cloned()).collect();
                spoiled.push((format!("0.{path}"), Some(Value::List(items))));
            }
        }
    } else if is_set || !matches!(field.kind(), Kind::Message(_)) {
        spoiled.extend(spoil_one(&field.kind(), value));
    }
    spoiled
}

fn spoil_one(kind: &Kind, value: &Value) -> Spoiled {
    if let Value::Message(message) = value {
        return spoiled(message).into_iter().map(|(path, message)| (path, Some(Value::Message(message)))).collect();
    }
    let usual = extremes().swap_remove(0);
    let mut spoiled: Spoiled = Vec::new();
    let mut add = |taste: &Taste| spoiled.push((String::new(), Some(scalar(kind, taste))));
    match kind {
        Kind::String => {
            for text in [
                "",
                " ",
                "\0",
                PERSONAL,
                "é",
                "-1",
                "\u{202e}\u{10ffff}",
                "0198c000-0000-7000-8000-000000000000",
                "AAAA",
            ] {
                add(&Taste { text: text.to_owned(), ..usual.clone() });
            }
            add(&Taste { text: format!("{PERSONAL}{}", "x".repeat(100_000)), ..usual.clone() });
        }
        Kind::Enum(_) => {
            [-1, 0, 999, i32::MIN, i32::MAX].into_iter().for_each(|choice| add(&Taste { choice, ..usual.clone() }))
        }
        Kind::Double | Kind::Float => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0, -0.0]
            .into_iter()
            .for_each(|float| add(&Taste { float, ..usual.clone() })),
        Kind::Bool => [true, false].into_iter().for_each(|truth| add(&Taste { truth, ..usual.clone() })),
        _ => [i64::MIN, i64::MAX, -1, 0, 1, i64::from(i32::MIN), i64::from(i32::MAX), 253_402_300_800]
            .into_iter()
            .for_each(|number| add(&Taste { number, ..usual.clone() })),
    }
    spoiled
}
