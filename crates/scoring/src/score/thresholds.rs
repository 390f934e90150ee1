//! The figures at which states change.
//!
//! P(alive) is judged by the odds of having left: even at 1/2, three to two at 0.4, two to one at 1/3. On the CDNOW sample
//! as of 1998-06-30 (2,357 customers, fitted on the whole period) P(alive) lies between 0 and 0.98, with all 1,218 who
//! bought once at 0.31 to 0.33 after some 70 weeks of silence; a limit of 0.3 would hold every one of them to be a
//! customer still. Who bought once crosses 1/2 after 14 weeks of silence, 0.4 after 36 and 1/3 after 62: a new
//! customer is first to be won, then to be watched, then to be rescued, then to be won back.

use serde::{Deserialize, Serialize};

/// See the module. Every probability is within 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Below this P(alive) a customer is `LOST`: the odds are two to one that they have left. 0 to 1, at most
    /// `departure_below_p_alive`: they are to be rescued before they are given up.
    pub lost_below_p_alive: f64,
    /// Below this P(alive) the stage is `DEPARTURE`: the odds are three to two. 0 to 1, at most `decline_below_p_alive`.
    pub departure_below_p_alive: f64,
    /// Below this P(alive) the stage is `DECLINE`: likelier gone than not. 0 to 1, at most `loyal_min_p_alive`.
    pub decline_below_p_alive: f64,
    /// `LOYAL` from this P(alive) on: four to one that they stay. Of the CDNOW customers who were loyal by these defaults
    /// on 1997-09-30, 86 % bought in the 39 weeks after, of all 29 %. 0 to 1.
    pub loyal_min_p_alive: f64,
    /// `LOYAL` from so many purchase occasions on. 2 to 1,000.
    pub loyal_min_occasions: u32,
    /// `LOYAL` when first and last occasion are so many weeks apart: half a year, longer than one season. 0 to 1,000.
    pub loyal_min_span_weeks: f64,
    /// `LOYAL` while silent for at most so many of the customer's own mean gaps between occasions: at an even pace only
    /// one gap in twenty (e⁻³) is longer than three mean ones. 0.1 to 100.
    pub loyal_max_silence_gaps: f64,
    /// So many repeat occasions are needed to speak of a trend: Laplace's statistic is near enough to normal from three on.
    /// 2 to 1,000.
    pub trend_min_repeats: u32,
    /// From this value of Laplace's statistic on buying grows, from its negative on it declines. In standard deviations;
    /// 1.28 is the one-sided 10 % point. 0.1 to 10.
    pub trend_min_z: f64,
    /// Known success rates of selling, shown with the relationship: to `POTENTIAL` and `TARGET`. 0 to 1.
    pub success_rate_new: f64,
    /// To `FIRST_TIME`. 0 to 1.
    pub success_rate_first_time: f64,
    /// To `REPEAT` and `LOYAL`. 0 to 1.
    pub success_rate_repeat: f64,
    /// To `LOST`: twice that of a new one. 0 to 1.
    pub success_rate_lost: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            lost_below_p_alive: 0.333,
            departure_below_p_alive: 0.4,
            decline_below_p_alive: 0.5,
            loyal_min_p_alive: 0.8,
            loyal_min_occasions: 5,
            loyal_min_span_weeks: 26.0,
            loyal_max_silence_gaps: 3.0,
            trend_min_repeats: 3,
            trend_min_z: 1.28,
            success_rate_new: 0.06,
            success_rate_first_time: 0.15,
            success_rate_repeat: 0.5,
            success_rate_lost: 0.12,
        }
    }
}

impl Thresholds {
    /// Every key that is out of range, with what is allowed.
    pub fn validate(&self) -> Vec<(String, String)> {
        let rate = "must lie within 0 and 1";
        let numbers = [
            ("lost_below_p_alive", self.lost_below_p_alive, 0.0, 1.0, rate),
            ("departure_below_p_alive", self.departure_below_p_alive, 0.0, 1.0, rate),
            ("decline_below_p_alive", self.decline_below_p_alive, 0.0, 1.0, rate),
            ("loyal_min_p_alive", self.loyal_min_p_alive, 0.0, 1.0, rate),
            ("loyal_min_occasions", self.loyal_min_occasions.into(), 2.0, 1e3, "must lie within 2 and 1,000"),
            ("loyal_min_span_weeks", self.loyal_min_span_weeks, 0.0, 1e3, "must lie within 0 and 1,000 weeks"),
            (
                "loyal_max_silence_gaps",
                self.loyal_max_silence_gaps,
                0.1,
                100.0,
                "must lie within 0.1 and 100 mean gaps",
            ),
            ("trend_min_repeats", self.trend_min_repeats.into(), 2.0, 1e3, "must lie within 2 and 1,000"),
            ("trend_min_z", self.trend_min_z, 0.1, 10.0, "must lie within 0.1 and 10"),
            ("success_rate_new", self.success_rate_new, 0.0, 1.0, rate),
            ("success_rate_first_time", self.success_rate_first_time, 0.0, 1.0, rate),
            ("success_rate_repeat", self.success_rate_repeat, 0.0, 1.0, rate),
            ("success_rate_lost", self.success_rate_lost, 0.0, 1.0, rate),
        ];
        let mut faults: Vec<(String, String)> = numbers
            .into_iter()
            // What is no number is within nothing.
            .filter(|(_, value, low, high, _)| !(low..=high).contains(&value))
            .map(|(key, _, _, _, allowed)| (key.to_owned(), allowed.to_owned()))
            .collect();
        let rising = [
            ("lost_below_p_alive", self.lost_below_p_alive, "departure_below_p_alive", self.departure_below_p_alive),
            (
                "departure_below_p_alive",
                self.departure_below_p_alive,
                "decline_below_p_alive",
                self.decline_below_p_alive,
            ),
            ("decline_below_p_alive", self.decline_below_p_alive, "loyal_min_p_alive", self.loyal_min_p_alive),
        ];
        for (key, value, bound, limit) in rising {
            if value > limit {
                faults.push((key.to_owned(), format!("must be at most {bound}, {limit}")));
            }
        }
        faults
    }
}
