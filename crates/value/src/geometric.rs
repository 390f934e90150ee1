//! What BG/NBD and MBG/NBD have in common: gamma-distributed buying rates, a beta-distributed chance to leave after an
//! occasion. They differ in one thing only, whether the first occasion can be the last ([`Dropout`]).
//!
//! With B = b + (chances to leave that were survived) and R = r + x, both likelihoods read
//!
//! ```text
//! L = Γ(R)/Γ(r) · α^r/(α+T)^R · Γ(B)Γ(a+b)/(Γ(b)Γ(a+B)) · (1 + w)
//! w = a/(B−1) · ((α+T)/(α+t_x))^R          odds of having left: P(alive) = 1/(1+w)
//! ```

mod fit;

use crate::{
    error::{Error, within},
    occasions::Alive,
    special::ln_rising,
    summary::{Summary, horizon},
};

/// The four parameters of BG/NBD and MBG/NBD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Shape of the gamma distribution of buying rates.
    pub r: f64,
    /// Its rate, in weeks: the mean customer buys r/α times a week while alive.
    pub alpha: f64,
    /// First parameter of the beta distribution of the chance to leave after an occasion, whose mean is a/(a+b).
    pub a: f64,
    /// Its second parameter.
    pub b: f64,
}

impl Parameters {
    /// Far outside what any data can support, and far inside what the formulas can bear.
    const LOW: f64 = 1e-9;
    const HIGH: f64 = 1e12;

    pub(crate) fn validated(self) -> Result<Self, Error> {
        for (field, value) in [("r", self.r), ("alpha", self.alpha), ("a", self.a), ("b", self.b)] {
            within(field, value, Self::LOW, Self::HIGH, "must lie within 1e-9 and 1e12")?;
        }
        Ok(self)
    }
}

/// When a customer may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropout {
    /// After a repeat occasion only (BG/NBD).
    AfterRepeats,
    /// After every occasion, the first included (MBG/NBD).
    AfterEvery,
}

impl Dropout {
    /// Chances to leave over `x` repeat occasions.
    fn chances(self, x: u32) -> u32 {
        match self {
            Self::AfterRepeats => x,
            Self::AfterEvery => x.saturating_add(1),
        }
    }

    /// ln w, the log-odds of having left; nobody has left who had no chance to.
    fn log_odds_of_leaving(self, p: &Parameters, s: &Summary) -> f64 {
        let odds = self.log_odds_after(p, s.x());
        if odds == f64::NEG_INFINITY {
            return odds;
        }
        let silence = ((s.t() - s.t_x()) / (p.alpha + s.t_x())).ln_1p();
        odds + (p.r + f64::from(s.x())) * silence
    }

    /// The same right after `x` repeat occasions.
    fn log_odds_after(self, p: &Parameters, x: u32) -> f64 {
        let chances = self.chances(x);
        if chances == 0 { f64::NEG_INFINITY } else { (p.a / (p.b + f64::from(chances - 1))).ln() }
    }

    pub(crate) fn p_alive(self, p: &Parameters, s: &Summary) -> f64 {
        // An overflow of the odds is a customer certainly gone.
        1.0 / (1.0 + self.log_odds_of_leaving(p, s).exp())
    }

    /// Expected occasions within each of `weeks` from now on.
    pub(crate) fn expected_occasions<const L: usize>(self, p: &Parameters, s: &Summary, weeks: [f64; L]) -> [f64; L] {
        let p_alive = self.p_alive(p, s);
        self.occasions_if_alive(p, s.x(), s.t(), weeks.map(horizon)).map(|occasions| p_alive * occasions)
    }

    /// The same of a customer who is known not to have left, after `x` repeat occasions in `t` weeks.
    pub(crate) fn occasions_if_alive<const L: usize>(
        self,
        p: &Parameters,
        x: u32,
        t: f64,
        weeks: [f64; L],
    ) -> [f64; L] {
        let alive = Alive { shape: p.r + f64::from(x), a: p.a, b: p.b + f64::from(self.chances(x)) };
        let scale = p.alpha + t;
        alive.expected(weeks.map(|w| w / scale))
    }

    /// Expected repeat occasions of a new customer within `weeks` of the first occasion.
    pub(crate) fn expected_from_first(self, p: &Parameters, weeks: f64) -> f64 {
        let (stays, b) = match self {
            Self::AfterRepeats => (1.0, p.b),
            Self::AfterEvery => (p.b / (p.a + p.b), p.b + 1.0),
        };
        let [occasions] = Alive { shape: p.r, a: p.a, b }.expected([horizon(weeks) / p.alpha]);
        stays * occasions
    }

    /// ln L of one customer.
    pub(crate) fn log_likelihood(self, p: &Parameters, s: &Summary) -> f64 {
        let (first, _) = counts_part(p, (0, 0), (0, self.chances(0)));
        let (repeats, _) = counts_part(p, (0, s.x()), (self.chances(0), self.chances(s.x())));
        let passed = (s.t() / p.alpha).ln_1p();
        // ln(1 + w) without overflow
        let log_odds = self.log_odds_of_leaving(p, s);
        let either = log_odds.max(0.0) + (-log_odds.abs()).exp().ln_1p();
        first + repeats - p.r * passed - f64::from(s.x()) * (p.alpha + s.t()).ln() + either
    }
}

/// What repeat occasions `x.0..x.1` and survived chances to leave `chances.0..chances.1` add to the part of ln L that
/// does not depend on the times; with its gradient by the logarithms of r, α, a, b.
fn counts_part(p: &Parameters, x: (u32, u32), chances: (u32, u32)) -> (f64, [f64; 4]) {
    let (rate, by_r) = ln_rising(p.r, x.0, x.1);
    let (stayed, by_b) = ln_rising(p.b, chances.0, chances.1);
    let (all, by_ab) = ln_rising(p.a + p.b, chances.0, chances.1);
    (rate + stayed - all, [p.r * by_r, 0.0, -p.a * by_ab, p.b * (by_b - by_ab)])
}
