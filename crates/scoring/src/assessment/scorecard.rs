//! The good-customer scorecard: six criteria, three disqualifiers, and how much evidence the total rests on.
use proto::scoring::v1::{self as pb, Answer, Criterion, Disqualifier, Evidence};

use super::{Payments, Subject, figure, share};
use crate::score::evidence::{evidence, percent};

/// What is known for a criterion: parts of 0 to 1 each, whose mean it is, a clause for each, and the figures.
#[derive(Default)]
struct Case {
    parts: Vec<f64>,
    clauses: Vec<String>,
    figures: Vec<(&'static str, f64)>,
}

impl Case {
    fn part(&mut self, score: f64, clause: String) {
        self.parts.push(score.clamp(0.0, 1.0));
        self.clauses.push(clause);
    }

    /// The criterion; unknown without any part, and then `missing` says what would have to be recorded.
    fn close(self, criterion: Criterion, rule: &str, missing: &str) -> pb::CriterionScore {
        let name = criterion.as_str_name().trim_start_matches("CRITERION_").to_lowercase();
        let state = format!("scorecard.{name}");
        let count = self.parts.len();
        // What is no number is no evidence.
        let score =
            (count > 0).then(|| self.parts.iter().sum::<f64>() / count as f64).filter(|score| score.is_finite());
        let evidence = match score {
            Some(score) => {
                let mut text = self.clauses.join("; ");
                text.push_str(&format!(": {score:.2} of 1."));
                evidence(&state, rule, text, &self.figures)
            }
            None => super::unknown(&state, missing),
        };
        pb::CriterionScore { criterion: criterion.into(), score, evidence: Some(evidence) }
    }
}

pub(super) fn scorecard(subject: &Subject<'_>) -> pb::Scorecard {
    let criteria = vec![
        desire_and_power(subject),
        secures_profit(subject),
        low_cost_to_serve(subject),
        low_risk(subject),
        fits_strengths(subject),
        cooperates_and_stays(subject),
    ];
    let weights = &subject.thresholds.scorecard_weights;
    let all: f64 = weights.iter().sum();
    let known = || criteria.iter().zip(weights).filter_map(|(criterion, weight)| Some((criterion.score?, weight)));
    let weight: f64 = known().map(|(_, weight)| weight).sum();
    let total = (weight > 0.0).then(|| known().map(|(score, weight)| score * weight).sum::<f64>() / weight);
    let evidence_share = if all > 0.0 { weight / all } else { 0.0 };

    let disqualifiers = vec![costs_more(subject), bad_debts(subject), off_course(subject)];
    let any = |answer: Answer| disqualifiers.iter().any(|finding| finding.answer() == answer);
    let disqualified = match (any(Answer::Yes), any(Answer::Unspecified)) {
        (true, _) => Answer::Yes,
        (false, true) => Answer::Unspecified,
        (false, false) => Answer::No,
    };
    pb::Scorecard { criteria, disqualifiers, total, evidence_share, disqualified: disqualified.into() }
}

/// (1) What is still expected of them, against the top fifth of all: expected value counts the margin, so high-margin wishes weigh most.
fn desire_and_power(subject: &Subject<'_>) -> pb::CriterionScore {
    let mut case = Case::default();
    let fifth = subject.cut_offs.and_then(|cut_offs| cut_offs.expected_fifth).map(|end| end.value_minor);
    if let (Some((_, values)), Some(fifth)) = (subject.buyer, fifth)
        && let Some(reach) = share(values.expected_minor, fifth)
    {
        case.figures.push(("expected_minor", figure(values.expected_minor)));
        case.figures.push(("expected_top_fifth_ends_at_minor", figure(fifth)));
        let (expected, fifth) = (subject.money(values.expected_minor), subject.money(fifth));
        case.part(reach, format!("A profit of {expected} is still expected, where the top fifth begins at {fifth}"));
    }
    case.close(
        Criterion::DesireAndPower,
        "expected-value-against-top-fifth",
        "Needs purchases, a fitted model and a ranking.",
    )
}

/// (2) Pays the list price, and on time, and owes nothing overdue.
fn secures_profit(subject: &Subject<'_>) -> pb::CriterionScore {
    let (thresholds, dealings) = (subject.thresholds, subject.dealings);
    let mut case = Case::default();
    if let Some(off) = discount_share(subject) {
        case.figures.push(("discount_share", off));
        case.figures.push(("discount_share_limit", thresholds.discount_share_limit));
        case.part(
            1.0 - off / thresholds.discount_share_limit,
            format!("{} was taken off the list price", percent(off)),
        );
    }
    if let Some(payments) = dealings.payments {
        if let Some(on_time) = share(payments.on_time, payments.settled) {
            case.figures.push(("on_time_share", on_time));
            case.part(on_time, format!("{} of what was due was paid in time", percent(on_time)));
        }
        if let Some(overdue) = share(payments.overdue_minor, payments.receivables_minor) {
            case.figures.push(("overdue_share", overdue));
            case.part(1.0 - overdue, format!("{} of what they owe is overdue", percent(overdue)));
        }
    }
    case.close(
        Criterion::SecuresProfit,
        "price-and-punctuality",
        "Needs discounts with the purchases (RecordPurchases) or payments (RecordPayments).",
    )
}

/// (3) Cost of serving them relative to what they bring: 200 on 100,000 is nothing, 10 on 20 is half.
fn low_cost_to_serve(subject: &Subject<'_>) -> pb::CriterionScore {
    let mut case = Case::default();
    if let (Some((summary, _)), true) = (subject.buyer, subject.dealings.costs > 0) {
        let (cost, net) = (summary.service_cost_minor, subject.net_minor());
        let limit = subject.thresholds.service_cost_share_limit;
        case.figures.push(("service_cost_minor", figure(cost)));
        case.figures.push(("net_sales_minor", figure(net)));
        case.figures.push(("service_cost_share_limit", limit));
        let part = match share(cost, net) {
            Some(share) => {
                case.figures.push(("service_cost_share", share));
                1.0 - share / limit
            }
            // Whatever it costs, nothing stands against it.
            None => f64::from(u8::from(cost == 0)),
        };
        let clause = format!("Serving them cost {} on net sales of {}", subject.money(cost), subject.money(net));
        case.part(part, clause);
    }
    case.close(
        Criterion::LowCostToServe,
        "cost-relative-to-income",
        "Needs purchases and the cost of serving the customer (RecordServiceCosts).",
    )
}

/// (4) Likely to stay, and what they owe is not at risk.
fn low_risk(subject: &Subject<'_>) -> pb::CriterionScore {
    let mut case = Case::default();
    if let Some(p_alive) = subject.p_alive() {
        case.figures.push(("p_alive", p_alive));
        case.part(p_alive, format!("The chance that they are still a customer is {}", percent(p_alive)));
    }
    if let Some(Payments { days_overdue, receivables_minor, .. }) = subject.dealings.payments {
        let limit = f64::from(subject.thresholds.bad_debt_min_days_overdue);
        case.figures.push(("days_overdue", days_overdue as f64));
        case.figures.push(("receivables_minor", figure(receivables_minor)));
        case.figures.push(("bad_debt_min_days_overdue", limit));
        let clause = format!(
            "of the {} that they owe the oldest is {days_overdue} days overdue",
            subject.money(receivables_minor)
        );
        case.part(1.0 - days_overdue as f64 / limit, clause);
    }
    case.close(
        Criterion::LowRisk,
        "staying-and-solvent",
        "Needs a fitted model and purchases, or payments (RecordPayments).",
    )
}

/// (5) Their line of business is one that the company does well in.
fn fits_strengths(subject: &Subject<'_>) -> pb::CriterionScore {
    let mut case = Case::default();
    let core = &subject.thresholds.core_lines_of_business;
    let line = line_of_business(subject);
    if let (Some(line), false) = (line, core.is_empty()) {
        let fits = core.iter().any(|core| core == line);
        let not = if fits { "" } else { "not " };
        case.part(f64::from(u8::from(fits)), format!("Their line of business ({line}) is {not}one that we do well in"));
    }
    case.close(
        Criterion::FitsStrengths,
        "core-line-of-business",
        "Needs core_lines_of_business in the configuration and the customer's line of business in their record.",
    )
}

/// (6) Keeps what they buy, stays, brings others.
fn cooperates_and_stays(subject: &Subject<'_>) -> pb::CriterionScore {
    let thresholds = subject.thresholds;
    let mut case = Case::default();
    if let Some((summary, _)) = subject.buyer {
        let span = subject.span_weeks();
        case.figures.push(("span_weeks", span));
        case.figures.push(("lasting_min_weeks", thresholds.lasting_min_weeks));
        let stays = if thresholds.lasting_min_weeks > 0.0 { span / thresholds.lasting_min_weeks } else { 1.0 };
        case.part(stays, format!("Bought over {span:.0} weeks"));
        if let Some(back) = share(summary.returns_minor, summary.sales_minor) {
            case.figures.push(("returns_share", back));
            case.figures.push(("returns_share_limit", thresholds.returns_share_limit));
            case.part(1.0 - back / thresholds.returns_share_limit, format!("gave {} of it back", percent(back)));
        }
        // That nobody is known whom they brought speaks neither for nor against them.
        if subject.dealings.introduced_buyers > 0 {
            case.figures.push(("introduced_buyers", subject.dealings.introduced_buyers as f64));
            case.part(1.0, format!("brought {} who bought", subject.dealings.introduced_buyers));
        }
    }
    case.close(Criterion::CooperatesAndStays, "keeps-stays-and-brings", "Needs purchases.")
}

/// Taken off the list price of those sales whose discount is known.
pub(super) fn discount_share(subject: &Subject<'_>) -> Option<f64> {
    let dealings = subject.dealings;
    let (summary, _) = subject.buyer.filter(|_| dealings.priced > 0)?;
    share(summary.discount_minor, dealings.priced_minor.saturating_add(summary.discount_minor))
}

/// Where profiles knows it.
pub(super) fn line_of_business<'a>(subject: &Subject<'a>) -> Option<&'a str> {
    subject.attributes.map(|attributes| attributes.line_of_business.as_str()).filter(|line| !line.is_empty())
}

fn finding(disqualifier: Disqualifier, answer: Answer, evidence: Evidence) -> pb::DisqualifierFinding {
    pb::DisqualifierFinding { disqualifier: disqualifier.into(), answer: answer.into(), evidence: Some(evidence) }
}

fn costs_more(subject: &Subject<'_>) -> pb::DisqualifierFinding {
    const STATE: &str = "disqualifier.costs_more_than_brings";
    let which = Disqualifier::CostsMoreThanBrings;
    let Some((summary, values)) = subject.buyer else {
        return finding(which, Answer::Unspecified, super::unknown(STATE, "Needs purchases."));
    };
    let realised = values.realised_minor;
    let loss = realised < 0;
    // A profit that leaves out what serving them costs proves nothing; a loss does, all the more.
    if !loss && subject.dealings.costs == 0 {
        let text = "Brought a profit, but what serving them costs is not recorded (RecordServiceCosts).";
        return finding(which, Answer::Unspecified, super::unknown(STATE, text));
    }
    let figures = [("realised_minor", figure(realised)), ("service_cost_minor", figure(summary.service_cost_minor))];
    let cost = subject.money(summary.service_cost_minor);
    let text = format!("Brought {} in all, after {cost} for serving them.", subject.money(realised));
    let rule = if loss { "loss" } else { "no-loss" };
    finding(which, super::answer(loss), evidence(STATE, rule, text, &figures))
}

fn bad_debts(subject: &Subject<'_>) -> pb::DisqualifierFinding {
    const STATE: &str = "disqualifier.bad_debts";
    let which = Disqualifier::BadDebts;
    let Some(payments) = subject.dealings.payments else {
        return finding(which, Answer::Unspecified, super::unknown(STATE, "Needs payments (RecordPayments)."));
    };
    let limit = subject.thresholds.bad_debt_min_days_overdue;
    let overdue = payments.days_overdue >= i64::from(limit);
    let rule = match payments {
        Payments { written_off: 1.., .. } => "written-off",
        Payments { in_court: 1.., .. } => "in-court",
        _ if overdue => "long-overdue",
        _ => "no-bad-debts",
    };
    let figures = [
        ("written_off", payments.written_off as f64),
        ("in_court", payments.in_court as f64),
        ("days_overdue", payments.days_overdue as f64),
        ("bad_debt_min_days_overdue", f64::from(limit)),
    ];
    let text = format!(
        "{} payments given up, {} before a court, the oldest overdue for {} days (a bad debt from {limit} on).",
        payments.written_off, payments.in_court, payments.days_overdue
    );
    finding(which, super::answer(rule != "no-bad-debts"), evidence(STATE, rule, text, &figures))
}

fn off_course(subject: &Subject<'_>) -> pb::DisqualifierFinding {
    const STATE: &str = "disqualifier.off_course";
    let which = Disqualifier::OffCourse;
    let off = &subject.thresholds.off_course_lines_of_business;
    match line_of_business(subject) {
        Some(line) if !off.is_empty() => {
            let holds = off.iter().any(|off| off == line);
            let (rule, not) = if holds { ("off-course-line", "") } else { ("other-line", "not ") };
            let text = format!("Their line of business ({line}) is {not}one that pulls us off our course.");
            finding(which, super::answer(holds), evidence(STATE, rule, text, &[]))
        }
        _ => {
            let text = "Needs off_course_lines_of_business in the configuration and the customer's line of business in their record.";
            finding(which, Answer::Unspecified, super::unknown(STATE, text))
        }
    }
}
