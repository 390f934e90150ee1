//! Big is not good: five risks of a big buyer, each with its figures.
use proto::{
    profiles::v1::{AcquisitionSource, CustomerKind},
    scoring::v1::{self as pb, Answer, BigBuyerRisk, Evidence, Tier},
};

use super::{Subject, answer, figure, scorecard, share};
use crate::score::evidence::{evidence, percent};

/// All five of a key customer; none of anybody else.
pub(super) fn risks(subject: &Subject<'_>) -> Vec<pb::RiskFinding> {
    if !matches!(subject.standing.tier, Tier::Important | Tier::Major) {
        return Vec::new();
    }
    let findings = [
        (BigBuyerRisk::Credit, credit(subject)),
        (BigBuyerRisk::Profit, profit(subject)),
        (BigBuyerRisk::Management, management()),
        (BigBuyerRisk::Loss, loss(subject)),
        (BigBuyerRisk::SelfSupply, self_supply(subject)),
    ];
    let finding = |(risk, (answer, evidence)): (BigBuyerRisk, (Answer, Evidence))| pb::RiskFinding {
        risk: risk.into(),
        answer: answer.into(),
        evidence: Some(evidence),
    };
    findings.map(finding).to_vec()
}

fn unknown(state: &str, text: &str) -> (Answer, Evidence) {
    (Answer::Unspecified, super::unknown(state, text))
}

/// Owes for too long, or too much of a year's sales.
fn credit(subject: &Subject<'_>) -> (Answer, Evidence) {
    const STATE: &str = "big_buyer.credit";
    let Some(payments) = subject.dealings.payments else {
        return unknown(STATE, "Needs payments (RecordPayments).");
    };
    let thresholds = subject.thresholds;
    let year = subject.dealings.year.net_minor;
    let owed = share(payments.receivables_minor, year);
    let late = payments.days_overdue > i64::from(thresholds.credit_max_days_overdue);
    let much = owed.map_or(payments.receivables_minor > 0, |owed| owed > thresholds.credit_max_receivables_share);
    let mut figures = vec![
        ("receivables_minor", figure(payments.receivables_minor)),
        ("overdue_minor", figure(payments.overdue_minor)),
        ("days_overdue", payments.days_overdue as f64),
        ("year_net_minor", figure(year)),
        ("credit_max_days_overdue", f64::from(thresholds.credit_max_days_overdue)),
        ("credit_max_receivables_share", thresholds.credit_max_receivables_share),
    ];
    figures.extend(owed.map(|owed| ("receivables_share", owed)));
    let rule = match (late, much) {
        (true, _) => "overdue-too-long",
        (false, true) => "owes-too-much",
        (false, false) => "within-limits",
    };
    let text = format!(
        "Owes {}, the oldest {} days overdue, on net sales of {} in the last year.",
        subject.money(payments.receivables_minor),
        payments.days_overdue,
        subject.money(year)
    );
    (answer(late || much), evidence(STATE, rule, text, &figures))
}

/// What discounts and service leave of the list price, against what they leave with the tier. Each of the two counts where it is known of both: one
/// alone can show that they are squeezed, but not that they are not.
fn profit(subject: &Subject<'_>) -> (Answer, Evidence) {
    const STATE: &str = "big_buyer.profit";
    let Some((summary, _)) = subject.buyer else { return unknown(STATE, "Needs purchases.") };
    let norm = subject.cut_offs.map(|cut_offs| cut_offs.margin(subject.standing.tier)).unwrap_or_default();
    let discount = scorecard::discount_share(subject).zip(norm.discount_share());
    let served = (subject.dealings.costs > 0).then(|| share(summary.service_cost_minor, subject.net_minor())).flatten();
    let served = served.zip(norm.cost_share());
    if discount.is_none() && served.is_none() {
        return unknown(
            STATE,
            "Needs discounts with the purchases (RecordPurchases) or service costs (RecordServiceCosts), of them and of others of their tier, \
             and a ranking (RankCustomers).",
        );
    }
    let mut figures = vec![("profit_max_below_norm", subject.thresholds.profit_max_below_norm)];
    let (mut kept, mut usual, mut after) = (1.0, 1.0, Vec::new());
    if let Some((theirs, of_tier)) = discount {
        (kept, usual) = (kept * (1.0 - theirs), usual * (1.0 - of_tier));
        figures.extend([
            ("discount_minor", figure(summary.discount_minor)),
            ("discount_share", theirs),
            ("tier_discount_share", of_tier),
        ]);
        after.push(format!("discounts of {}", subject.money(summary.discount_minor)));
    }
    if let Some((theirs, of_tier)) = served {
        (kept, usual) = (kept * (1.0 - theirs), usual * (1.0 - of_tier));
        figures.extend([
            ("service_cost_minor", figure(summary.service_cost_minor)),
            ("service_cost_share", theirs),
            ("tier_service_cost_share", of_tier),
        ]);
        after.push(format!("service for {}", subject.money(summary.service_cost_minor)));
    }
    figures.extend([("left_share", kept), ("tier_left_share", usual)]);
    let mut text = format!(
        "After {} they leave {:.1} % of the list price, where their tier leaves {:.1} %",
        after.join(" and "),
        kept * 100.0,
        usual * 100.0
    );
    let squeezed = kept < usual - subject.thresholds.profit_max_below_norm;
    let missing = match (discount, served) {
        (None, _) => "discounts",
        (_, None) => "service costs",
        _ => "",
    };
    let (answer, rule) = match (squeezed, missing) {
        (true, _) => (Answer::Yes, "below-the-norm-of-the-tier"),
        (false, "") => (Answer::No, "within-the-norm-of-the-tier"),
        (false, missing) => {
            text.push_str(&format!("; their {missing}, or those of their tier, are not recorded"));
            (Answer::Unspecified, "unknown")
        }
    };
    text.push('.');
    (answer, evidence(STATE, rule, text, &figures))
}

/// Nothing that is recorded here tells of broken market rules.
fn management() -> (Answer, Evidence) {
    unknown(
        "big_buyer.management",
        "Whether they break the rules of the market is not recorded anywhere here; ask their account manager.",
    )
}

/// Buys less than in the period before, or has likely gone. That they were won from a competitor says that they can be courted.
fn loss(subject: &Subject<'_>) -> (Answer, Evidence) {
    const STATE: &str = "big_buyer.loss";
    let thresholds = subject.thresholds;
    let (recent, before) = (subject.dealings.recent, subject.dealings.before);
    let whole = subject.age_weeks() >= 2.0 * thresholds.period_weeks;
    let remaining = share(recent.net_minor, before.net_minor).filter(|_| whole);
    let p_alive = subject.p_alive();
    if remaining.is_none() && p_alive.is_none() {
        return unknown(STATE, "Needs purchases over two periods, or a fitted model.");
    }
    let falls = remaining.is_some_and(|remaining| remaining < thresholds.loss_min_remaining);
    let silent = p_alive.is_some_and(|p_alive| p_alive < subject.states.decline_below_p_alive);
    let mut figures = vec![
        ("period_weeks", thresholds.period_weeks),
        ("recent_net_minor", figure(recent.net_minor)),
        ("before_net_minor", figure(before.net_minor)),
        ("loss_min_remaining", thresholds.loss_min_remaining),
    ];
    figures.extend(remaining.map(|remaining| ("remaining", remaining)));
    figures.extend(p_alive.map(|p_alive| ("p_alive", p_alive)));
    let won = subject.attributes.is_some_and(|attributes| attributes.source == AcquisitionSource::WonFromCompetitor);
    let courted = if won { " They were won from a competitor, and can be won back." } else { "" };
    let chance =
        p_alive.map(|p| format!("; the chance that they are still a customer is {}", percent(p))).unwrap_or_default();
    let text = format!(
        "Bought for {} in the last {:.0} weeks, for {} in as many before{chance}.{courted}",
        subject.money(recent.net_minor),
        thresholds.period_weeks,
        subject.money(before.net_minor)
    );
    let rule = match (falls, silent) {
        (true, _) => "buys-less",
        (false, true) => "overdue",
        (false, false) => "buys-on",
    };
    (answer(falls || silent), evidence(STATE, rule, text, &figures))
}

/// A company of a line that could make it itself; a person cannot.
fn self_supply(subject: &Subject<'_>) -> (Answer, Evidence) {
    const STATE: &str = "big_buyer.self_supply";
    if subject.attributes.is_some_and(|attributes| attributes.kind == CustomerKind::Person) {
        return (
            Answer::No,
            evidence(STATE, "a-person", "Is a person, who does not make it themselves.".to_owned(), &[]),
        );
    }
    let lines = &subject.thresholds.self_supply_lines_of_business;
    match scorecard::line_of_business(subject) {
        Some(line) if !lines.is_empty() => {
            let holds = lines.iter().any(|other| other == line);
            let (rule, could) = if holds { ("line-that-could", "could") } else { ("line-that-could-not", "could not") };
            let text = format!("A company in their line of business ({line}) {could} make it themselves.");
            (answer(holds), evidence(STATE, rule, text, &[]))
        }
        _ => unknown(
            STATE,
            "Needs self_supply_lines_of_business in the configuration and the customer's line of business in their record.",
        ),
    }
}
