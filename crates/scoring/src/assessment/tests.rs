use proptest::prelude::*;
use proto::{
    common::v1::Money,
    profiles::v1::{AcquisitionSource, CustomerKind},
    scoring::v1::{
        Answer, BigBuyerRisk, CustomerCode, Disqualifier, LifeCycleStage, LoyaltyQuadrant, LoyaltyRung, Relationship,
        Tier,
    },
};

use super::*;
use crate::{
    pyramid::{Margin, Ranked, rank},
    score::cdnow,
};

/// An arbitrary first day.
const START: Day = 10_000;

/// All that a customer is judged by, owned; purchases of 10.00 each.
struct Whole {
    summary: Option<Summary>,
    tier: Tier,
    facts: Facts,
    dealings: Dealings,
    attributes: Option<Attributes>,
    typical_minor: Option<i64>,
    models: Option<Models>,
    cut_offs: Option<CutOffs>,
    books: Books,
    thresholds: Thresholds,
    today: Day,
}

impl Whole {
    /// Bought on these days after the first; judged so many days after it.
    fn bought(days: &[Day], today: Day) -> Self {
        let summary = (!days.is_empty()).then(|| Summary {
            occasions: days.len() as u32,
            first_day: START + days[0],
            last_day: START + days[days.len() - 1],
            day_sum: days.iter().map(|day| i64::from(START + day)).sum(),
            sales_minor: 1_000 * days.len() as i64,
            first_sales_minor: 1_000,
            ..Summary::default()
        });
        Self {
            summary,
            tier: Tier::Unspecified,
            facts: Facts::default(),
            dealings: Dealings::default(),
            attributes: None,
            typical_minor: None,
            models: None,
            cut_offs: None,
            books: Books { minor_per_major: 100.0, margin_rate: 1.0 },
            thresholds: crate::Config::default().assessment,
            today: START + today,
        }
    }

    fn summary(&mut self) -> &mut Summary {
        self.summary.as_mut().unwrap()
    }

    fn assess(&self) -> pb::Assessment {
        let values =
            self.summary.as_ref().map(|summary| score::values(summary, &self.books, self.models.as_ref(), self.today));
        let standing = Standing {
            relationship: Relationship::Repeat,
            stage: LifeCycleStage::Maturity,
            tier: self.tier,
            code: CustomerCode::C,
            estimated: false,
        };
        let subject = Subject {
            customer: Uuid::from_u128(1),
            buyer: self.summary.as_ref().zip(values.as_ref()),
            standing: &standing,
            facts: self.facts,
            dealings: &self.dealings,
            attributes: self.attributes.as_ref(),
            typical_minor: self.typical_minor,
            models: self.models.as_ref(),
            cut_offs: self.cut_offs.as_ref(),
            books: &self.books,
            thresholds: &self.thresholds,
            states: &score::Thresholds::default(),
            today: self.today,
        };
        assess(&subject, |minor_units| Money { currency_code: "USD".into(), minor_units })
    }

    /// The rule of a finding.
    fn rule(&self, state: &str) -> String {
        let all = self.assess().evidence;
        all.into_iter().find(|evidence| evidence.state == state).map(|evidence| evidence.rule).unwrap_or_default()
    }

    fn criterion(&self, number: usize) -> Option<f64> {
        self.assess().scorecard.unwrap().criteria[number - 1].score
    }

    fn disqualifier(&self, which: Disqualifier) -> Answer {
        let all = self.assess().scorecard.unwrap().disqualifiers;
        all.into_iter().find(|finding| finding.disqualifier() == which).unwrap().answer()
    }

    fn risk(&self, which: BigBuyerRisk) -> (Answer, String) {
        let finding = self.assess().big_buyer_risks.into_iter().find(|finding| finding.risk() == which).unwrap();
        (finding.answer(), finding.evidence.unwrap().rule)
    }
}

/// A ranking of a hundred customers who realised 1.00 to 100.00.
fn cut_offs() -> CutOffs {
    let ranked = |n: i64| Ranked {
        customer: Uuid::from_u128(1_000 + n as u128),
        realised_minor: n * 100,
        expected_minor: n * 100,
        revenue_minor: n * 125,
    };
    rank(&mut (1..=100).map(ranked).collect::<Vec<_>>()).cut_offs
}

#[test]
fn the_quadrant_is_profit_by_length() {
    let cases = [
        (10, [0, 400], LoyaltyQuadrant::TrueFriend, "Invest"),
        (10, [0, 30], LoyaltyQuadrant::Butterfly, "Sell"),
        (-10, [0, 400], LoyaltyQuadrant::Barnacle, "Find out"),
        (-10, [0, 30], LoyaltyQuadrant::Stranger, "No investment"),
    ];
    for (profit, days, quadrant, treatment) in cases {
        let mut whole = Whole::bought(&days, 500);
        whole.summary().service_cost_minor = 2_000 - profit;
        let found = whole.assess();
        assert_eq!(found.quadrant(), quadrant);
        assert!(found.treatment.starts_with(treatment), "{}", found.treatment);
    }
}

#[test]
fn once_ranked_profitable_means_the_upper_half() {
    let mut whole = Whole::bought(&[0, 400], 500);
    whole.cut_offs = Some(cut_offs());
    // The upper half begins at 51.00.
    for (realised, quadrant) in [(5_099, LoyaltyQuadrant::Barnacle), (5_101, LoyaltyQuadrant::TrueFriend)] {
        whole.summary().sales_minor = realised;
        assert_eq!(whole.assess().quadrant(), quadrant, "{realised}");
    }
}

#[test]
fn lasting_begins_at_a_year() {
    for (last, quadrant) in [(363, LoyaltyQuadrant::Butterfly), (364, LoyaltyQuadrant::TrueFriend)] {
        assert_eq!(Whole::bought(&[0, last], 400).assess().quadrant(), quadrant);
    }
}

#[test]
fn who_has_not_bought_is_in_no_quadrant_and_low_on_the_ladder() {
    let mut whole = Whole::bought(&[], 0);
    let found = whole.assess();
    assert_eq!((found.quadrant(), found.treatment.as_str()), (LoyaltyQuadrant::Unspecified, ""));
    assert_eq!(found.rung(), LoyaltyRung::Suspect);
    assert_eq!((found.churn_risk, found.next_purchase, found.expected_spend_52w), (None, None, None));
    whole.facts.targeted = true;
    assert_eq!(whole.assess().rung(), LoyaltyRung::Prospect);
}

#[test]
fn an_advocate_has_bought_and_brought_somebody_who_bought() {
    assert_eq!(Whole::bought(&[0], 9).assess().rung(), LoyaltyRung::FirstTime);
    let mut whole = Whole::bought(&[0, 5], 9);
    assert_eq!(whole.assess().rung(), LoyaltyRung::Repeat);
    whole.dealings.introduced = 2;
    assert_eq!(whole.assess().rung(), LoyaltyRung::Repeat);
    whole.dealings.introduced_buyers = 1;
    assert_eq!(whole.assess().rung(), LoyaltyRung::Advocate);
    assert_eq!(whole.rule("loyalty_ladder"), "brings-others");
    whole.summary = None;
    assert_eq!(whole.assess().rung(), LoyaltyRung::Suspect);
}

#[test]
fn a_scorecard_without_evidence_says_unknown_and_has_no_total() {
    let card = Whole::bought(&[], 0).assess().scorecard.unwrap();
    assert_eq!(card.criteria.len(), 6);
    assert!(card.criteria.iter().all(|criterion| criterion.score.is_none()));
    assert!(card.criteria.iter().all(|criterion| criterion.evidence.as_ref().unwrap().rule == "unknown"));
    assert_eq!((card.total, card.evidence_share, card.disqualified()), (None, 0.0, Answer::Unspecified));
}

#[test]
fn cost_to_serve_is_relative_to_income() {
    let mut whole = Whole::bought(&[0], 9);
    assert_eq!(whole.criterion(3), None);
    whole.dealings.costs = 1;
    // 200 on 100,000 is nothing, 10 on 20 is half, which leaves nothing of the mark.
    for (sales, cost, score) in
        [(10_000_000, 20_000, 0.996), (2_000, 1_000, 0.0), (2_000, 500, 0.5), (2_000, 9_000, 0.0)]
    {
        (whole.summary().sales_minor, whole.summary().service_cost_minor) = (sales, cost);
        assert!((whole.criterion(3).unwrap() - score).abs() < 1e-12, "{cost} on {sales}");
    }
    // A cost of nothing is evidence, too.
    whole.summary().service_cost_minor = 0;
    assert_eq!(whole.criterion(3), Some(1.0));
}

#[test]
fn discounts_and_punctuality_are_what_secures_profit() {
    let mut whole = Whole::bought(&[0, 5], 9);
    whole.summary().discount_minor = 300;
    assert_eq!(whole.criterion(2), None, "a discount counts where it is stated");
    (whole.dealings.priced, whole.dealings.priced_minor) = (2, 1_700);
    // 15 % off where 30 % is the limit.
    assert!((whole.criterion(2).unwrap() - 0.5).abs() < 1e-12);
    let payments = Payments {
        count: 4,
        receivables_minor: 100,
        overdue_minor: 100,
        settled: 4,
        on_time: 3,
        ..Payments::default()
    };
    whole.dealings.payments = Some(payments);
    assert!((whole.criterion(2).unwrap() - (0.5 + 0.75 + 0.0) / 3.0).abs() < 1e-12);
}

#[test]
fn the_total_is_the_mean_of_what_is_known_and_says_how_much_that_is() {
    let mut whole = Whole::bought(&[0, 364], 400);
    // Only the sixth criterion is known: they stayed a year and gave nothing back.
    let card = whole.assess().scorecard.unwrap();
    assert_eq!((card.total, card.evidence_share), (Some(1.0), 1.0 / 6.0));
    whole.dealings.costs = 1;
    whole.summary().service_cost_minor = 500;
    whole.thresholds.scorecard_weights = [1.0, 1.0, 3.0, 0.0, 0.0, 1.0];
    // 500 on 2,000 is half of the limit.
    let card = whole.assess().scorecard.unwrap();
    assert!((card.total.unwrap() - (3.0 * 0.5 + 1.0) / 4.0).abs() < 1e-12);
    assert!((card.evidence_share - 4.0 / 6.0).abs() < 1e-12);
}

#[test]
fn lines_of_business_answer_only_where_they_are_configured_and_known() {
    let mut whole = Whole::bought(&[0], 9);
    whole.attributes = Some(Attributes { line_of_business: "retail".into(), ..Attributes::default() });
    assert_eq!((whole.criterion(5), whole.disqualifier(Disqualifier::OffCourse)), (None, Answer::Unspecified));
    whole.thresholds.core_lines_of_business = vec!["retail".into()];
    whole.thresholds.off_course_lines_of_business = vec!["mining".into()];
    assert_eq!((whole.criterion(5), whole.disqualifier(Disqualifier::OffCourse)), (Some(1.0), Answer::No));
    whole.attributes = Some(Attributes { line_of_business: "mining".into(), ..Attributes::default() });
    assert_eq!((whole.criterion(5), whole.disqualifier(Disqualifier::OffCourse)), (Some(0.0), Answer::Yes));
    whole.attributes = Some(Attributes::default());
    assert_eq!((whole.criterion(5), whole.disqualifier(Disqualifier::OffCourse)), (None, Answer::Unspecified));
}

#[test]
fn who_costs_more_than_they_bring_is_disqualified_and_a_profit_before_costs_proves_nothing() {
    let which = Disqualifier::CostsMoreThanBrings;
    let mut whole = Whole::bought(&[0], 9);
    assert_eq!(whole.disqualifier(which), Answer::Unspecified);
    whole.dealings.costs = 1;
    whole.summary().service_cost_minor = 1_000;
    assert_eq!(whole.disqualifier(which), Answer::No);
    whole.summary().service_cost_minor = 1_001;
    assert_eq!(whole.disqualifier(which), Answer::Yes);
    assert_eq!(whole.assess().scorecard.unwrap().disqualified(), Answer::Yes);
}

#[test]
fn bad_debts_are_given_up_in_court_or_long_overdue() {
    let mut whole = Whole::bought(&[0], 9);
    assert_eq!(whole.disqualifier(Disqualifier::BadDebts), Answer::Unspecified);
    let cases = [
        (Payments::default(), Answer::No),
        (Payments { days_overdue: 89, ..Payments::default() }, Answer::No),
        (Payments { days_overdue: 90, ..Payments::default() }, Answer::Yes),
        (Payments { written_off: 1, ..Payments::default() }, Answer::Yes),
        (Payments { in_court: 1, ..Payments::default() }, Answer::Yes),
    ];
    for (payments, expected) in cases {
        whole.dealings.payments = Some(payments);
        assert_eq!(whole.disqualifier(Disqualifier::BadDebts), expected, "{payments:?}");
    }
}

#[test]
fn only_big_buyers_have_the_risks_of_big_buyers() {
    for (tier, risks) in [(Tier::Important, 5), (Tier::Major, 5), (Tier::Ordinary, 0), (Tier::Unspecified, 0)] {
        let whole = Whole { tier, ..Whole::bought(&[0], 9) };
        assert_eq!(whole.assess().big_buyer_risks.len(), risks);
    }
}

#[test]
fn without_evidence_every_risk_is_unknown() {
    let whole = Whole { tier: Tier::Important, ..Whole::bought(&[0], 9) };
    for finding in whole.assess().big_buyer_risks {
        assert_eq!(finding.answer(), Answer::Unspecified, "{finding:?}");
    }
}

#[test]
fn credit_is_a_risk_when_they_owe_for_long_or_much() {
    let mut whole = Whole { tier: Tier::Major, ..Whole::bought(&[0], 9) };
    whole.dealings.year.net_minor = 10_000;
    let mut with = |days_overdue, receivables_minor| {
        whole.dealings.payments = Some(Payments { days_overdue, receivables_minor, ..Payments::default() });
        whole.risk(BigBuyerRisk::Credit)
    };
    assert_eq!(with(30, 2_500), (Answer::No, "within-limits".into()));
    assert_eq!(with(31, 1), (Answer::Yes, "overdue-too-long".into()));
    assert_eq!(with(0, 2_501), (Answer::Yes, "owes-too-much".into()));
}

/// A big buyer of 1,000.00, whose tier is given a tenth off and spends a fifth of the rest on service.
fn big_buyer() -> Whole {
    let margin = Margin { priced_minor: 9_000, discount_minor: 1_000, net_minor: 5_000, cost_minor: 1_000 };
    let cut_offs = CutOffs { margins: [Margin::default(), margin, Margin::default(), Margin::default()], ..cut_offs() };
    let mut whole = Whole { tier: Tier::Major, cut_offs: Some(cut_offs), ..Whole::bought(&[0, 9], 9) };
    whole.summary().sales_minor = 100_000;
    whole.dealings.priced_minor = 100_000;
    whole
}

#[test]
fn profit_is_a_risk_where_discounts_and_service_leave_less_than_with_the_tier() {
    let mut whole = big_buyer();
    (whole.dealings.priced, whole.dealings.costs) = (2, 1);
    // The tier leaves 72 % of the list price, and 5 % less than that is within the norm.
    let cases = [
        (0, 0, Answer::No),
        (0, 32_999, Answer::No),
        (0, 33_001, Answer::Yes),
        // A quarter off leaves 75 %, of which service takes its share.
        (33_333, 10_000, Answer::No),
        (33_333, 11_000, Answer::Yes),
        (60_000, 0, Answer::Yes),
    ];
    for (discount, cost, expected) in cases {
        (whole.summary().discount_minor, whole.summary().service_cost_minor) = (discount, cost);
        assert_eq!(whole.risk(BigBuyerRisk::Profit).0, expected, "{discount} {cost}");
    }
}

#[test]
fn what_was_not_recorded_is_no_margin_of_a_big_buyer_nor_of_their_tier() {
    let mut whole = big_buyer();
    let mut with = |priced, costs, discount, cost| {
        (whole.dealings.priced, whole.dealings.costs) = (priced, costs);
        (whole.summary().discount_minor, whole.summary().service_cost_minor) = (discount, cost);
        whole.risk(BigBuyerRisk::Profit)
    };
    assert_eq!(with(0, 0, 0, 0), (Answer::Unspecified, "unknown".into()));
    // One half alone can show a squeeze, held against that half of the tier; that there is none it cannot show.
    assert_eq!(with(2, 0, 60_000, 0), (Answer::Yes, "below-the-norm-of-the-tier".into()));
    assert_eq!(with(2, 0, 10_000, 0), (Answer::Unspecified, "unknown".into()));
    assert_eq!(with(0, 1, 0, 25_001), (Answer::Yes, "below-the-norm-of-the-tier".into()));
    assert_eq!(with(0, 1, 0, 24_999), (Answer::Unspecified, "unknown".into()));
    // What is known of them and not of their tier counts for nothing.
    let margin = Margin { priced_minor: 9_000, discount_minor: 1_000, ..Margin::default() };
    whole.cut_offs = Some(CutOffs { margins: [margin; 4], ..cut_offs() });
    (whole.summary().discount_minor, whole.summary().service_cost_minor) = (0, 90_000);
    assert_eq!(whole.risk(BigBuyerRisk::Profit).0, Answer::Unspecified);
    whole.cut_offs = Some(cut_offs());
    assert_eq!(whole.risk(BigBuyerRisk::Profit).0, Answer::Unspecified);
}

#[test]
fn loss_is_a_risk_when_they_buy_less_than_before() {
    let mut whole = Whole { tier: Tier::Major, ..Whole::bought(&[0, 363], 364) };
    whole.dealings.before.net_minor = 1_000;
    for (recent, expected) in [(700, Answer::No), (699, Answer::Yes)] {
        whole.dealings.recent.net_minor = recent;
        assert_eq!(whole.risk(BigBuyerRisk::Loss).0, expected);
    }
    // A shorter relationship shows no second period.
    whole.today -= 1;
    assert_eq!(whole.risk(BigBuyerRisk::Loss).0, Answer::Unspecified);
    let attributes = Attributes { source: AcquisitionSource::WonFromCompetitor, ..Attributes::default() };
    (whole.attributes, whole.today) = (Some(attributes), whole.today + 1);
    let text = whole.assess().big_buyer_risks[3].evidence.clone().unwrap().text;
    assert!(text.contains("won from a competitor"), "{text}");
}

#[test]
fn a_person_does_not_supply_themselves_and_a_company_may() {
    let mut whole = Whole { tier: Tier::Major, ..Whole::bought(&[0], 9) };
    let mut with = |kind, line: &str| {
        whole.thresholds.self_supply_lines_of_business = vec!["printing".into()];
        whole.attributes = Some(Attributes { kind, line_of_business: line.into(), ..Attributes::default() });
        whole.risk(BigBuyerRisk::SelfSupply).0
    };
    assert_eq!(with(CustomerKind::Person, ""), Answer::No);
    assert_eq!(with(CustomerKind::Company, ""), Answer::Unspecified);
    assert_eq!(with(CustomerKind::Company, "printing"), Answer::Yes);
    assert_eq!(with(CustomerKind::Company, "retail"), Answer::No);
}

#[test]
fn an_ant_grows_over_a_period_and_not_by_one_purchase() {
    let mut whole = Whole { tier: Tier::Small, ..Whole::bought(&[0, 360], 364) };
    let period = |occasions, net_minor| Period { occasions, net_minor };
    whole.dealings.before = period(1, 1_000);
    let cases = [(2, 1_500, Answer::Yes), (2, 1_499, Answer::No), (1, 90_000, Answer::No)];
    for (occasions, net_minor, expected) in cases {
        whole.dealings.recent = period(occasions, net_minor);
        assert_eq!(whole.assess().ant_to_elephant(), expected, "{occasions} {net_minor}");
    }
    whole.dealings.recent = period(2, 1_500);
    whole.tier = Tier::Major;
    assert_eq!(
        (whole.assess().ant_to_elephant(), whole.rule("ant_to_elephant").as_str()),
        (Answer::No, "key-customer")
    );
    (whole.tier, whole.today) = (Tier::Small, START + 363);
    assert_eq!(whole.assess().ant_to_elephant(), Answer::Unspecified, "two periods are needed");
}

#[test]
fn an_ant_may_be_known_by_attributes_like_those_of_key_customers() {
    let mut whole = Whole { tier: Tier::Small, cut_offs: Some(cut_offs()), ..Whole::bought(&[0, 360], 364) };
    whole.dealings.before = Period { occasions: 1, net_minor: 1_000 };
    whole.dealings.recent = Period { occasions: 2, net_minor: 900 };
    let begin = cut_offs().ends(crate::pyramid::Basis::Lifetime).unwrap().major.value_minor;
    let mut with = |typical_minor, today| {
        (whole.typical_minor, whole.today) = (typical_minor, START + today);
        (whole.assess().ant_to_elephant(), whole.rule("ant_to_elephant"))
    };
    let alike = (Answer::Yes, "small-and-like-key-customers".to_owned());
    assert_eq!(with(Some(begin), 364), alike);
    assert_eq!(with(Some(begin - 1), 364), (Answer::No, "does-not-grow".into()));
    assert_eq!(with(None, 364), (Answer::No, "does-not-grow".into()));
    // Attributes tell before growth can, and then only of an elephant: nobody is demoted by a moment.
    assert_eq!(with(Some(begin), 30), alike);
    for typical in [Some(begin - 1), None] {
        assert_eq!(with(typical, 30), (Answer::Unspecified, "unknown".into()));
    }
    whole.tier = Tier::Major;
    whole.typical_minor = Some(begin);
    assert_eq!(whole.rule("ant_to_elephant"), "key-customer");
    // Without a ranking nobody knows where key customers begin.
    (whole.tier, whole.cut_offs, whole.today) = (Tier::Small, None, START + 364);
    assert_eq!(whole.rule("ant_to_elephant"), "does-not-grow");
}

#[test]
fn churn_risk_is_what_p_alive_leaves_and_grows_with_silence() {
    let mut whole = Whole { models: Some(cdnow::models()), ..Whole::bought(&[0, 30, 60], 61) };
    let early = whole.assess().churn_risk.unwrap();
    assert_eq!(whole.rule("churn_risk"), "low");
    whole.today = START + 600;
    let late = whole.assess().churn_risk.unwrap();
    assert!(0.0 < early && early < late && late < 1.0, "{early} {late}");
    assert_eq!(whole.rule("churn_risk"), "high");
}

#[test]
fn the_next_purchase_lies_between_the_quantiles_of_its_waiting_time() {
    // By hand: a shape of 1 over 10 weeks waits 10·(1/(1-q) - 1) weeks.
    assert!((outlook::waiting_weeks(1.0, 10.0, 0.5) - 10.0).abs() < 1e-12);
    assert!((outlook::waiting_weeks(2.0, 10.0, 0.75) - 10.0).abs() < 1e-12);
    let whole = Whole { models: Some(cdnow::models()), ..Whole::bought(&[0, 7, 14, 21, 28], 29) };
    let next = whole.assess().next_purchase.unwrap();
    let figures = next.evidence.unwrap().figures;
    let days: Vec<f64> = ["early_days", "median_days", "late_days"]
        .map(|name| figures.iter().find(|figure| figure.name == name).unwrap().value)
        .to_vec();
    assert!(0.0 < days[0] && days[0] < days[1] && days[1] < days[2], "{days:?}");
    let expected = crate::calendar::to_proto(START + 29 + days[1].ceil() as Day);
    assert_eq!(next.expected, Some(expected));
}

#[test]
fn the_waiting_time_agrees_with_the_expected_occasions_of_the_model() {
    // Of a customer alive, the rate is gamma distributed: within a short time as many occasions are expected as the chance of one.
    let whole = Whole { models: Some(cdnow::models()), ..Whole::bought(&[0, 30, 60], 61) };
    let (summary, models) = (whole.summary.as_ref().unwrap(), whole.models.as_ref().unwrap());
    let (shape, scale) = score::buying_rate(summary, models, whole.today).unwrap();
    let history = value::Summary::from_days(2, 60, 61).unwrap();
    let week = 0.01;
    let occasions = models.buying().expected_occasions(&history, week) / models.buying().p_alive(&history);
    let chance = 1.0 - (scale / (scale + week)).powf(shape);
    assert!((occasions / chance - 1.0).abs() < 1e-3, "{occasions} {chance}");
}

#[test]
fn what_lies_more_than_ten_years_ahead_has_no_day() {
    let mut whole = Whole { models: Some(cdnow::models()), ..Whole::bought(&[0], 600) };
    whole.thresholds.next_purchase_late = 0.999;
    let next = whole.assess().next_purchase.unwrap();
    assert_eq!(next.until, None);
    assert!(next.evidence.unwrap().text.contains("more than ten years"));
}

#[test]
fn a_year_s_spend_is_occasions_times_spend() {
    let whole = Whole { models: Some(cdnow::models()), ..Whole::bought(&[0, 30, 60], 61) };
    let values = score::values(whole.summary.as_ref().unwrap(), &whole.books, whole.models.as_ref(), whole.today);
    let expected = (values.expected_occasions_52w * values.expected_spend_minor as f64).round() as i64;
    assert_eq!(whole.assess().expected_spend_52w.unwrap().minor_units, expected);
    assert!(expected > 0);
}

fn minor() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..1_000_000_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX), 1 => Just(0)]
}

fn dealings() -> impl Strategy<Value = Dealings> {
    (prop::array::uniform12(minor()), any::<bool>()).prop_map(|(n, paid)| Dealings {
        recent: Period { occasions: n[0], net_minor: n[1] },
        before: Period { occasions: n[2], net_minor: n[3] },
        year: Period { occasions: n[4], net_minor: n[5] },
        priced: n[6],
        priced_minor: n[7],
        costs: n[8],
        payments: paid.then_some(Payments {
            count: n[0],
            receivables_minor: n[9],
            overdue_minor: n[10],
            days_overdue: n[11],
            settled: n[1],
            on_time: n[2],
            written_off: n[3],
            in_court: n[4],
        }),
        introduced: n[5],
        introduced_buyers: n[6],
    })
}

proptest! {
    #[test]
    fn whatever_the_figures_nothing_panics_and_every_mark_lies_within_0_and_1(
        days in prop::collection::vec(0..2_000_i32, 0..6),
        today in -10..3_000_i32,
        sums in prop::array::uniform4(minor()),
        dealings in dealings(),
        tier in 0..5_i32,
        typical_minor in prop::option::of(minor()),
        with_models in any::<bool>(),
        ranked in any::<bool>(),
    ) {
        let mut days = days;
        days.sort_unstable();
        days.dedup();
        let mut whole = Whole::bought(&days, today);
        if let Some(summary) = &mut whole.summary {
            let [sales_minor, returns_minor, discount_minor, service_cost_minor] = sums;
            *summary = Summary { sales_minor, returns_minor, discount_minor, service_cost_minor, ..summary.clone() };
        }
        whole.dealings = dealings;
        whole.tier = Tier::try_from(tier).unwrap();
        whole.models = with_models.then(cdnow::models);
        whole.typical_minor = typical_minor;
        let [priced_minor, discount_minor, net_minor, cost_minor] = sums;
        let margin = Margin { priced_minor, discount_minor, net_minor, cost_minor };
        whole.cut_offs = ranked.then(|| CutOffs { margins: [margin; 4], ..cut_offs() });
        let found = whole.assess();
        let card = found.scorecard.as_ref().unwrap();
        let marks = card.criteria.iter().filter_map(|criterion| criterion.score);
        let marks = marks.chain(card.total).chain([card.evidence_share]).chain(found.churn_risk);
        for mark in marks {
            prop_assert!((0.0..=1.0).contains(&mark), "{mark}");
        }
        let findings = found.evidence.iter();
        let findings = findings.chain(card.criteria.iter().filter_map(|criterion| criterion.evidence.as_ref()));
        let findings = findings.chain(card.disqualifiers.iter().filter_map(|finding| finding.evidence.as_ref()));
        let findings = findings.chain(found.big_buyer_risks.iter().filter_map(|finding| finding.evidence.as_ref()));
        for evidence in findings.chain(found.next_purchase.iter().filter_map(|next| next.evidence.as_ref())) {
            prop_assert!(!evidence.text.is_empty() && !evidence.text.contains("NaN"), "{evidence:?}");
            prop_assert!(evidence.figures.iter().all(|figure| figure.value.is_finite()), "{evidence:?}");
        }
    }
}
