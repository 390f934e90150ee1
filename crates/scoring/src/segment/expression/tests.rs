use std::{cell::OnceCell, sync::Arc};

use cel::{Context, Program, context::VariableResolver};
use proptest::prelude::*;
use proto::{profiles::v1 as profiles, scoring::v1 as pb};

use super::*;
use crate::{
    attributes::Attributes,
    score::{Facts, Standing, Summary, Values},
};

fn buyer() -> (Summary, Attributes) {
    let summary = Summary { occasions: 5, first_day: 100, last_day: 170, sales_minor: 50_000, ..Summary::default() };
    let attributes = Attributes {
        kind: profiles::CustomerKind::Company,
        line_of_business: "iron and steel".into(),
        region: "GB".into(),
        ..Attributes::default()
    };
    (summary, attributes)
}

fn fields<'a>(summary: &'a Summary, attributes: &'a Attributes) -> Fields<'a> {
    Fields {
        standing: Standing {
            relationship: pb::Relationship::Repeat,
            stage: pb::LifeCycleStage::Growth,
            tier: pb::Tier::Major,
            code: pb::CustomerCode::B,
            estimated: false,
        },
        facts: Facts { showed_interest: true, ..Facts::default() },
        summary,
        values: Some(Values {
            realised_minor: 50_000,
            expected_minor: 25_050,
            lifetime_minor: 75_050,
            ..Values::default()
        }),
        models: None,
        today: 200,
        minor_per_major: 100.0,
        attributes: Some(attributes),
        clustering: None,
        cluster: OnceCell::new(),
    }
}

fn parse(text: &str) -> Result<Expression, Fault> {
    Expression::parse(text).unwrap()
}

fn holds(text: &str) -> bool {
    let (summary, attributes) = buyer();
    parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).matches(&fields(&summary, &attributes))
}

#[test]
fn an_expression_says_who_is_a_member() {
    for text in [
        "true",
        "tier == \"MAJOR\"",
        "tier in ['IMPORTANT', 'MAJOR'] && stage != \"DECLINE\"",
        "occasions >= 5 && days_since_last == 30 && age_days == 100",
        "realised_value > 499 && realised_value <= 500.0",
        "realised_value / double(occasions) == 100.0",
        "int(realised_value) % 7 == 3",
        "!(estimated || targeted) && showed_interest",
        "(occasions > 3 ? code : 'C') == 'B'",
        "line_of_business.contains(\"steel\") && region.startsWith('G') && region.endsWith('B')",
        "kind == 'COMPANY' // a comment\n && occasions - 2 * 2 == 1",
        "-occasions == -5 && - 5 + occasions == 0",
        "1e2 == 100.0 && 0x10 == 16 && .5 < 1",
    ] {
        assert!(holds(text), "{text}");
        assert!(!holds(&format!("!({text})")), "{text}");
    }
}

#[test]
fn what_is_unknown_makes_nobody_a_member_unless_it_does_not_matter() {
    // No models, no employer, and divisions that have no result.
    for text in [
        "p_alive > 0.5",
        "lifetime_value > 0",
        "employer == 'x'",
        "cluster == 'a'",
        "1 / (occasions - 5) > 0",
        "0.0 / (realised_value - 500.0) < 1",
    ] {
        assert!(!holds(text) && !holds(&format!("!({text})")), "{text}");
        assert!(holds(&format!("{text} || true")) && holds(&format!("true || {text}")), "{text}");
        assert!(!holds(&format!("({text}) && false")) && holds(&format!("!(({text}) && false)")), "{text}");
        assert!(!holds(&format!("{text} ? true : true")), "{text}");
    }
    // Who has not bought has no last occasion; they have bought nothing, which is known.
    let (nothing, attributes) = (Summary::default(), Attributes::default());
    let potential = Fields { values: None, ..fields(&nothing, &attributes) };
    let is = |text: &str| parse(text).unwrap().matches(&potential);
    assert!(is("occasions == 0") && is("realised_value == 0"));
    assert!(!is("days_since_last >= 0") && !is("age_days >= 0") && !is("kind != 'PERSON'"));
}

#[test]
fn a_fault_names_its_place_and_what_is_allowed() {
    for (text, line, column, says) in [
        ("teir == 'MAJOR'", 1, 1, "there are relationship, stage, tier"),
        ("occasions > 3\n  && teir == 'A'", 2, 6, "is no field"),
        ("tier == 'MAYOR'", 1, 9, "one of IMPORTANT, MAJOR, ORDINARY, SMALL"),
        ("'MAYOR' == tier", 1, 1, "one of IMPORTANT"),
        ("tier in ['MAJOR', 'x']", 1, 19, "one of IMPORTANT"),
        ("tier > 3", 1, 8, "is an int, which cannot be compared with a text"),
        ("occasions", 1, 1, "a truth value is needed"),
        ("occasions > 3 && tier", 1, 18, "is a text; a truth value is needed"),
        ("realised_value > 3 * expected_value", 1, 22, "is a double, and the other operand is an int"),
        ("realised_value % 2.0 == 1.0", 1, 1, "takes ints alone"),
        ("occasions in [1, tier]", 1, 18, "is no literal"),
        ("occasions in tier", 1, 14, "is no list"),
        ("estimated < true", 1, 1, "none is less"),
        ("size(tier) > 3", 1, 1, "is no function"),
        ("tier.matches('x')", 1, 6, "is no function"),
        ("has(tier)", 1, 1, "is no function"),
        ("tier.length > 3", 1, 6, "is no field"),
        ("tier.tier == 'x'", 1, 1, "no parts"),
        ("[1, 2].contains('x')", 1, 2, "begins a list"),
        ("occasions > 3u", 1, 13, "unsigned"),
        ("region == b'x'", 1, 11, "prefix"),
        ("region == null", 1, 11, "null"),
        ("region == 'x", 1, 11, "does not end"),
        ("region == é", 1, 11, "in texts in quotes alone"),
        ("occasions > 99999999999999999999", 1, 13, "cannot be read"),
        ("(occasions > 3", 1, 15, "cannot be read"),
        ("occasions > > 3", 1, 13, "cannot be read"),
        ("", 1, 1, "cannot be read"),
        ("occasions > 3 ? 1 : 'x' == 'x'", 1, 21, "both must be of one kind"),
        ("double(tier) > 1.0", 1, 8, "a number is needed"),
        ("region.contains(3)", 1, 17, "a text is needed"),
        ("region.contains('a', 'b')", 1, 8, "takes one text"),
    ] {
        let fault = parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert_eq!((fault.place.line, fault.place.column), (line, column), "{text}: {fault}");
        assert!(fault.message.contains(says), "{text}: {fault}");
    }
}

#[test]
fn length_and_depth_are_bounded_and_what_is_allowed_fits_the_stack() {
    let nested = |depth: usize| format!("{}occasions > 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(holds(&nested(MAX_NESTING)));
    assert!(parse(&nested(MAX_NESTING + 1)).unwrap_err().message.contains("16 are allowed"));
    let many = |terms: usize| vec!["true"; terms].join("&&");
    // Each && is two signs.
    assert!(holds(&many(MAX_WORDS / 3)));
    assert!(parse(&many(MAX_WORDS / 3 + 2)).unwrap_err().message.contains("300 words"));
    for deep in
        ["!".repeat(250) + "true", "-".repeat(250) + "1 == 1", "true ? ".repeat(90) + "true" + &": true".repeat(90)]
    {
        // Taken or refused, and never the end of the stack.
        let _ = parse(&deep);
    }
    assert!(holds(&format!("{} == 101", vec!["1"; 101].join("+"))));
}

/// The same customer, as the interpreter of the crate sees them.
struct Interpreter {
    known: std::collections::BTreeMap<&'static str, cel::Value>,
}

impl VariableResolver for Interpreter {
    fn resolve(&self, variable: &str) -> Option<cel::Value> {
        self.known.get(variable).cloned()
    }
}

fn interpreted(text: &str, customer: &Fields<'_>) -> bool {
    let value = |value| match value {
        Value::Text(text) => cel::Value::String(Arc::new(text.to_owned())),
        Value::Bool(truth) => cel::Value::Bool(truth),
        Value::Int(number) => cel::Value::Int(number),
        Value::Double(number) => cel::Value::Float(number),
    };
    let known = FIELDS.iter().filter_map(|known| Some((known.name, value(customer.get(known.field)?)))).collect();
    let interpreter = Interpreter { known };
    let mut context = Context::default();
    context.set_variable_resolver(&interpreter);
    matches!(Program::compile(text).unwrap().execute(&context), Ok(cel::Value::Bool(true)))
}

/// Expressions of all that is allowed, by kind.
fn expression() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("occasions".to_owned()),
        Just("days_since_last".to_owned()),
        Just("age_days".to_owned()),
        (-9..10_i64).prop_map(|number| number.to_string()),
        Just("9223372036854775807".to_owned()),
    ];
    let number = number.prop_recursive(2, 8, 2, |inner| {
        (inner.clone(), prop_oneof![Just("+"), Just("-"), Just("*"), Just("/"), Just("%")], inner)
            .prop_map(|(a, operator, b)| format!("({a} {operator} {b})"))
    });
    let double = prop_oneof![
        Just("realised_value".to_owned()),
        Just("p_alive".to_owned()),
        (0..1_000_u32).prop_map(|number| format!("{}.5", number)),
        number.clone().prop_map(|number| format!("double({number})")),
    ];
    let any = prop_oneof![number, double.clone(), (double.clone(), double).prop_map(|(a, b)| format!("({a} + {b})"))];
    let text = prop_oneof![
        Just("region".to_owned()),
        Just("employer".to_owned()),
        Just("line_of_business".to_owned()),
        Just("\"iron\"".to_owned()),
        Just("'GB'".to_owned()),
    ];
    let operator = prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")];
    let method = prop_oneof![Just("startsWith"), Just("endsWith"), Just("contains")];
    let truth = prop_oneof![
        Just("estimated".to_owned()),
        Just("tier == 'MAJOR'".to_owned()),
        Just("stage in ['GROWTH', 'DECLINE']".to_owned()),
        (any.clone(), operator.clone(), any).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
        (text.clone(), operator, text.clone()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
        (text.clone(), method, text).prop_map(|(a, method, b)| format!("{a}.{method}({b})")),
    ];
    truth.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #[test]
    fn evaluation_agrees_with_the_interpreter_of_the_crate(text in expression()) {
        let (summary, attributes) = buyer();
        let customer = fields(&summary, &attributes);
        if let Ok(expression) = parse(&text) {
            prop_assert_eq!(expression.matches(&customer), interpreted(&text, &customer), "{}", text);
        } else {
            // Only for its size: all that is generated is allowed.
            prop_assert!(text.len() > 300, "{}: {:?}", text, parse(&text).err());
        }
    }

    #[test]
    fn whatever_is_written_is_taken_or_refused_at_a_place_in_it(text in "[a-z0-9 .<>=!&|?:()\\[\\]\"'+*/%\n-]{0,60}|\\PC{0,40}") {
        if let Err(fault) = parse(&text) {
            prop_assert!(fault.place.line <= text.split('\n').count().max(1) + 1, "{:?}: {}", text, fault);
        }
    }

    #[test]
    fn whatever_stands_in_a_row_is_taken_or_refused(words in proptest::collection::vec(prop_oneof![
        Just("occasions"), Just("tier"), Just("("), Just(")"), Just("["), Just("]"), Just("&&"), Just("||"), Just("!"), Just("=="),
        Just("in"), Just("'MAJOR'"), Just("3"), Just("2.5"), Just("?"), Just(":"), Just(","), Just("."), Just("contains"), Just("-"),
        Just("double"), Just("{"), Just("}"), Just("true"), Just("null"),
    ], 0..40)) {
        let _ = parse(&words.join(" "));
    }
}
