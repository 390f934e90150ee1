//! What an expression may speak of: fields of a customer's score and record.
use std::cell::OnceCell;

use proto::{profiles::v1 as profiles, scoring::v1 as pb};

use crate::{
    attributes::Attributes,
    cluster::Clustering,
    in_force::{InForce, Scorer},
    score::{self, Day, Facts, Models, Score, Standing, Summary, Values},
    standing::Customer,
};

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Double,
}

impl Kind {
    /// How it is called in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Bool => "a truth value",
            Self::Int => "an int",
            Self::Double => "a double",
        }
    }

    /// Whether it is one of the two kinds of numbers.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }
}

/// A field by its name in expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Relationship,
    Stage,
    Tier,
    Code,
    Estimated,
    ShowedInterest,
    Targeted,
    Occasions,
    DaysSinceLast,
    AgeDays,
    RealisedValue,
    ExpectedValue,
    LifetimeValue,
    PotentialValue,
    ExpectedOccasions,
    PAlive,
    Cluster,
    CustomerKind,
    Source,
    Region,
    Employer,
    Position,
    LineOfBusiness,
    LegalForm,
}

/// What is known of a field without any customer.
#[derive(Debug)]
pub struct Known {
    /// Which.
    pub field: Field,
    /// As expressions call it.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The texts that it can hold, where these are few.
    pub words: Option<fn() -> Vec<&'static str>>,
}

const fn plain(field: Field, name: &'static str, kind: Kind) -> Known {
    Known { field, name, kind, words: None }
}

const fn word(field: Field, name: &'static str, words: fn() -> Vec<&'static str>) -> Known {
    Known { field, name, kind: Kind::Text, words: Some(words) }
}

/// Every field, in the order in which they are listed to people.
pub const FIELDS: [Known; 24] = [
    word(Field::Relationship, "relationship", || words(|number| relationship(number.try_into().ok()?))),
    word(Field::Stage, "stage", || words(|number| stage(number.try_into().ok()?))),
    word(Field::Tier, "tier", || words(|number| tier(number.try_into().ok()?))),
    word(Field::Code, "code", || words(|number| code(number.try_into().ok()?))),
    plain(Field::Estimated, "estimated", Kind::Bool),
    plain(Field::ShowedInterest, "showed_interest", Kind::Bool),
    plain(Field::Targeted, "targeted", Kind::Bool),
    plain(Field::Occasions, "occasions", Kind::Int),
    plain(Field::DaysSinceLast, "days_since_last", Kind::Int),
    plain(Field::AgeDays, "age_days", Kind::Int),
    plain(Field::RealisedValue, "realised_value", Kind::Double),
    plain(Field::ExpectedValue, "expected_value", Kind::Double),
    plain(Field::LifetimeValue, "lifetime_value", Kind::Double),
    plain(Field::PotentialValue, "potential_value", Kind::Double),
    plain(Field::ExpectedOccasions, "expected_occasions", Kind::Double),
    plain(Field::PAlive, "p_alive", Kind::Double),
    plain(Field::Cluster, "cluster", Kind::Text),
    word(Field::CustomerKind, "kind", || words(|number| customer_kind(number.try_into().ok()?))),
    word(Field::Source, "source", || words(|number| source(number.try_into().ok()?))),
    plain(Field::Region, "region", Kind::Text),
    plain(Field::Employer, "employer", Kind::Text),
    plain(Field::Position, "position", Kind::Text),
    plain(Field::LineOfBusiness, "line_of_business", Kind::Text),
    plain(Field::LegalForm, "legal_form", Kind::Text),
];

impl Field {
    /// The field of a name.
    pub fn of(name: &str) -> Option<&'static Known> {
        FIELDS.iter().find(|known| known.name == name)
    }

    /// Whether it is of the record in profiles, which is kept apart from the score.
    pub fn is_attribute(self) -> bool {
        matches!(
            self,
            Self::CustomerKind
                | Self::Source
                | Self::Region
                | Self::Employer
                | Self::Position
                | Self::LineOfBusiness
                | Self::LegalForm
        )
    }
}

/// The words of an enum from its first value on; its `_UNSPECIFIED` is no word but unknown.
fn words(word: impl Fn(i32) -> Option<&'static str>) -> Vec<&'static str> {
    (1..).map_while(word).collect()
}

fn known(name: &'static str, prefix: &str) -> Option<&'static str> {
    name.strip_prefix(prefix).filter(|word| *word != "UNSPECIFIED")
}

fn relationship(state: pb::Relationship) -> Option<&'static str> {
    known(state.as_str_name(), "RELATIONSHIP_")
}

fn stage(state: pb::LifeCycleStage) -> Option<&'static str> {
    known(state.as_str_name(), "LIFE_CYCLE_STAGE_")
}

fn tier(state: pb::Tier) -> Option<&'static str> {
    known(state.as_str_name(), "TIER_")
}

fn code(state: pb::CustomerCode) -> Option<&'static str> {
    known(state.as_str_name(), "CUSTOMER_CODE_")
}

fn customer_kind(kind: profiles::CustomerKind) -> Option<&'static str> {
    known(kind.as_str_name(), "CUSTOMER_KIND_")
}

fn source(source: profiles::AcquisitionSource) -> Option<&'static str> {
    known(source.as_str_name(), "ACQUISITION_SOURCE_")
}

/// A value while an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
}

/// One customer as expressions see them.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Where they stand now.
    pub standing: Standing,
    /// What profiles says.
    pub facts: Facts,
    /// What the ledger adds up to.
    pub summary: &'a Summary,
    /// What they are worth; absent for who has not bought.
    pub values: Option<Values>,
    /// The models in force.
    pub models: Option<&'a Models>,
    /// The day that it is.
    pub today: Day,
    /// Minor units of a major one.
    pub minor_per_major: f64,
    /// What is followed of their record; absent where it was not asked for or there is none.
    pub attributes: Option<&'a Attributes>,
    /// The clustering in force.
    pub clustering: Option<&'a Clustering>,
    /// The cluster, found once.
    pub cluster: OnceCell<Option<&'a str>>,
}

impl<'a> Fields<'a> {
    /// A customer as their score has them.
    pub fn of(
        scorer: &Scorer,
        in_force: &'a InForce,
        customer: &'a Customer,
        score: &Score,
        today: Day,
        attributes: Option<&'a Attributes>,
    ) -> Self {
        Self {
            standing: score.standing,
            facts: customer.facts,
            summary: &customer.summary,
            values: score.values,
            models: in_force.models.as_ref(),
            today,
            minor_per_major: scorer.books.minor_per_major,
            attributes,
            clustering: in_force.segments.clustering.as_ref(),
            cluster: OnceCell::new(),
        }
    }

    /// What a field holds; `None` where it is unknown.
    pub fn get(&self, field: Field) -> Option<Value<'_>> {
        let attributes = self.attributes;
        let text = |of: fn(&Attributes) -> &str| attributes.map(of).filter(|text| !text.is_empty()).map(Value::Text);
        match field {
            Field::Relationship => relationship(self.standing.relationship).map(Value::Text),
            Field::Stage => stage(self.standing.stage).map(Value::Text),
            Field::Tier => tier(self.standing.tier).map(Value::Text),
            Field::Code => code(self.standing.code).map(Value::Text),
            Field::Estimated => Some(Value::Bool(self.standing.estimated)),
            Field::ShowedInterest => Some(Value::Bool(self.facts.showed_interest)),
            Field::Targeted => Some(Value::Bool(self.facts.targeted)),
            Field::Occasions => Some(Value::Int(self.summary.occasions.into())),
            Field::DaysSinceLast => self.days_since(self.summary.last_day),
            Field::AgeDays => self.days_since(self.summary.first_day),
            Field::RealisedValue => {
                Some(Value::Double(self.values.map_or(0.0, |values| self.major(values.realised_minor))))
            }
            Field::ExpectedValue => self.foretold().map(|values| Value::Double(self.major(values.expected_minor))),
            Field::LifetimeValue => self.foretold().map(|values| Value::Double(self.major(values.lifetime_minor))),
            Field::PotentialValue => {
                self.facts.potential_minor.filter(|_| !self.bought()).map(|minor| Value::Double(self.major(minor)))
            }
            Field::ExpectedOccasions => {
                self.models.and(self.values).map(|values| Value::Double(values.expected_occasions_52w))
            }
            Field::PAlive => score::judged_alive(self.summary, self.models?, self.today).map(Value::Double),
            Field::Cluster => self.cluster().map(Value::Text),
            Field::CustomerKind => attributes.and_then(|known| customer_kind(known.kind)).map(Value::Text),
            Field::Source => attributes.and_then(|known| source(known.source)).map(Value::Text),
            Field::Region => text(|known| &known.region),
            Field::Employer => text(|known| &known.employer),
            Field::Position => text(|known| &known.position),
            Field::LineOfBusiness => text(|known| &known.line_of_business),
            Field::LegalForm => text(|known| &known.legal_form),
        }
    }

    fn bought(&self) -> bool {
        self.summary.occasions > 0
    }

    fn days_since(&self, day: Day) -> Option<Value<'_>> {
        self.bought().then(|| Value::Int(i64::from(self.today.saturating_sub(day).max(0))))
    }

    fn major(&self, minor: i64) -> f64 {
        minor as f64 / self.minor_per_major
    }

    /// The values, where there are models that foretell both buying and spending.
    fn foretold(&self) -> Option<Values> {
        self.values.filter(|_| self.models.is_some_and(Models::value_the_future))
    }

    fn cluster(&self) -> Option<&'a str> {
        *self.cluster.get_or_init(|| {
            let values = self.foretold().filter(|_| self.bought())?;
            self.clustering?.nearest(self.summary, &values, self.today, self.minor_per_major)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_name_of_its_own_and_its_words() {
        for known in &FIELDS {
            let found = Field::of(known.name).unwrap();
            assert_eq!((found.field, found.kind), (known.field, known.kind), "{}", known.name);
            assert_eq!(FIELDS.iter().filter(|other| other.field == known.field).count(), 1, "{}", known.name);
        }
        assert_eq!(Field::of("tier").unwrap().words.unwrap()(), ["IMPORTANT", "MAJOR", "ORDINARY", "SMALL"]);
        assert_eq!(Field::of("code").unwrap().words.unwrap()(), ["A", "B", "C"]);
        assert_eq!(Field::of("stage").unwrap().words.unwrap()().len(), 5);
        assert_eq!(Field::of("relationship").unwrap().words.unwrap()().len(), 7);
        assert_eq!(Field::of("source").unwrap().words.unwrap()().len(), 13);
    }
}
