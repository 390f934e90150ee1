//! What is to be thought of a customer beyond the four states, in lines.
use proto::scoring::v1::{self as scoring, Answer};

use crate::view;

/// Everything that is known; of the questions only those that are answered with yes.
pub(super) fn show(assessment: &scoring::Assessment) {
    for evidence in &assessment.evidence {
        let state = evidence.state.replace('_', " ");
        if evidence.rule != "unknown" {
            view::line(format!("  {state}: {} ({})", evidence.text, evidence.rule));
        }
    }
    if let Some(evidence) = assessment.next_purchase.as_ref().and_then(|next| next.evidence.as_ref()) {
        view::line(format!("  next purchase: {}", evidence.text));
    }
    if let Some(card) = &assessment.scorecard {
        if let Some(total) = card.total {
            let evidence = view::percent(card.evidence_share);
            view::line(format!("  good-customer scorecard: {total:.2} of 1, resting on {evidence} of the criteria"));
        }
        for criterion in card.criteria.iter().filter(|criterion| criterion.score.is_some()) {
            said("    ", criterion.evidence.as_ref());
        }
        for finding in card.disqualifiers.iter().filter(|finding| finding.answer() == Answer::Yes) {
            said("  disqualified: ", finding.evidence.as_ref());
        }
    }
    for finding in assessment.big_buyer_risks.iter().filter(|finding| finding.answer() == Answer::Yes) {
        said("  risk of a big buyer: ", finding.evidence.as_ref());
    }
}

fn said(before: &str, evidence: Option<&scoring::Evidence>) {
    if let Some(evidence) = evidence {
        view::line(format!("{before}{} ({})", evidence.text, evidence.rule));
    }
}
