//! The figures at which findings change; each with its meaning and range in `defaults.toml`.
use serde::{Deserialize, Serialize};

/// The section `[scoring.assessment]`.
#[allow(missing_docs, reason = "what each key means and allows stands in `defaults.toml`")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub lasting_min_weeks: f64,
    pub advocate_min_referrals: u32,
    pub period_weeks: f64,
    pub ant_min_growth: f64,
    pub ant_min_occasions: u32,
    pub ant_min_likeness: f64,
    pub next_purchase_early: f64,
    pub next_purchase_late: f64,
    pub scorecard_weights: [f64; 6],
    pub discount_share_limit: f64,
    pub service_cost_share_limit: f64,
    pub returns_share_limit: f64,
    pub bad_debt_min_days_overdue: u32,
    pub potential_min_buyers: u32,
    pub credit_max_days_overdue: u32,
    pub credit_max_receivables_share: f64,
    pub profit_max_below_norm: f64,
    pub loss_min_remaining: f64,
    pub core_lines_of_business: Vec<String>,
    pub off_course_lines_of_business: Vec<String>,
    pub self_supply_lines_of_business: Vec<String>,
}

/// Lines of business that a list names: more is a mistake.
const MAX_LINES: usize = 1_000;

impl Thresholds {
    /// Every key that is out of range, with what is allowed.
    pub fn validate(&self) -> Vec<(String, String)> {
        let numbers = [
            ("lasting_min_weeks", self.lasting_min_weeks, 0.0, 1e3),
            ("advocate_min_referrals", self.advocate_min_referrals.into(), 1.0, 1e3),
            ("period_weeks", self.period_weeks, 1.0, 520.0),
            ("ant_min_growth", self.ant_min_growth, 1.0, 1e3),
            ("ant_min_occasions", self.ant_min_occasions.into(), 1.0, 1e3),
            ("ant_min_likeness", self.ant_min_likeness, 0.01, 1e3),
            ("next_purchase_early", self.next_purchase_early, 0.0, 0.5),
            ("next_purchase_late", self.next_purchase_late, 0.5, 0.999),
            ("discount_share_limit", self.discount_share_limit, 0.001, 1.0),
            ("service_cost_share_limit", self.service_cost_share_limit, 0.001, 1e3),
            ("returns_share_limit", self.returns_share_limit, 0.001, 1.0),
            ("bad_debt_min_days_overdue", self.bad_debt_min_days_overdue.into(), 1.0, 3_650.0),
            ("potential_min_buyers", self.potential_min_buyers.into(), 50.0, 1e5),
            ("credit_max_days_overdue", self.credit_max_days_overdue.into(), 0.0, 3_650.0),
            ("credit_max_receivables_share", self.credit_max_receivables_share, 0.0, 1e3),
            ("profit_max_below_norm", self.profit_max_below_norm, 0.0, 1.0),
            ("loss_min_remaining", self.loss_min_remaining, 0.0, 1.0),
        ];
        let out = numbers.into_iter().filter(|(_, value, low, high)| !(low..=high).contains(&value));
        let mut faults: Vec<_> =
            out.map(|(key, _, low, high)| (key.to_owned(), format!("must lie within {low} and {high}"))).collect();
        let weights = &self.scorecard_weights;
        if !weights.iter().all(|weight| (0.0..=1e3).contains(weight)) || weights.iter().sum::<f64>() <= 0.0 {
            let allowed = "must be six numbers within 0 and 1000, not all of them 0";
            faults.push(("scorecard_weights".to_owned(), allowed.to_owned()));
        }
        let lists = [
            ("core_lines_of_business", &self.core_lines_of_business),
            ("off_course_lines_of_business", &self.off_course_lines_of_business),
            ("self_supply_lines_of_business", &self.self_supply_lines_of_business),
        ];
        for (key, list) in lists {
            // Followed lines of business are kept so, and anything else would match nobody.
            let plain = |line: &String| !line.is_empty() && *line == line.trim().to_lowercase();
            if list.len() > MAX_LINES || !list.iter().all(plain) {
                let allowed =
                    format!("must be at most {MAX_LINES} texts in lower case, none empty or with white space around");
                faults.push((key.to_owned(), allowed));
            }
        }
        faults
    }
}
