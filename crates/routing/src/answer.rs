//! What an answer of `Decide` says of a case: decided, put into words and encoded once, then sent to everybody whose case it is. It rests on the case,
//! the setup and the moment alone, and is kept no longer than these hold.
use chassis::{Result, clock::to_proto, parse::duration_to_proto};
use papaya::HashMap;
use proto::{Encoded, routing::v1 as pb};

use crate::decide::{Case, Decision, Reason};

/// Cases whose answers are kept, of about a kilobyte each: the first that come up. There are some dozens of standings, times the channels to come in by and
/// the purposes, so some thousands in all. Any beyond are decided each time.
const MOST: usize = 8_192;

/// The answers of one setup at one moment.
#[derive(Debug, Default)]
pub struct Answers(HashMap<Case, Encoded<pb::DecideResponse>, foldhash::fast::RandomState>);

impl Answers {
    /// The answer to a case but for whom it is about: the ids and the standing. The first time a case comes up, `decide` is asked.
    ///
    /// # Errors
    /// Those of `decide`; nothing is kept of them.
    pub fn to<'s>(
        &self,
        case: &Case,
        decide: impl FnOnce() -> Result<Decision<'s>>,
    ) -> Result<Encoded<pb::DecideResponse>> {
        let kept = self.0.pin();
        if let Some(answer) = kept.get(case) {
            return Ok(answer.clone());
        }
        let answer = Encoded::of(&say(case, decide()?));
        if kept.len() < MOST {
            kept.insert(*case, answer.clone());
        }
        Ok(answer)
    }
}

/// What is said to everybody whose case it is.
fn say(case: &Case, decision: Decision<'_>) -> pb::DecideResponse {
    let reason = |reason: Reason<'_>| pb::Reason {
        decides: reason.decides.to_owned(),
        rule: reason.rule.to_owned(),
        text: reason.text.into_owned(),
    };
    pb::DecideResponse {
        prospect: !case.caller.known,
        channel_id: decision.channel.id.clone(),
        queue_id: decision.queue.id.clone(),
        priority: decision.priority,
        target_answer_time: Some(duration_to_proto(decision.answer)),
        target_handling_time: Some(duration_to_proto(decision.handling)),
        open: decision.opening.open,
        opens_time: decision.opening.opens.map(to_proto),
        selling_paused: decision.selling_paused,
        prompt: decision
            .prompt
            .into_iter()
            .map(|line| pb::PromptLine { kind: line.kind.into(), text: line.text.to_owned() })
            .collect(),
        reasons: decision.reasons.into_iter().map(reason).collect(),
        ..pb::DecideResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use chassis::{Error, testing::noon};
    use jiff::tz::TimeZone;
    use prost::Message;
    use proto::Prepared;

    use super::*;
    use crate::{
        Config,
        decide::{Caller, decide},
        seed,
        setup::Setup,
    };

    fn phone_of_a_prospect(setup: &Setup) -> Case {
        Case { caller: Caller::default(), arrival: setup.find("phone"), purpose: pb::ContactPurpose::Order }
    }

    fn read(shared: Encoded<pb::DecideResponse>) -> pb::DecideResponse {
        let sent = Prepared { fields: pb::DecideResponse::default(), shared }.encode_to_vec();
        pb::DecideResponse::decode(sent.as_slice()).unwrap()
    }

    #[test]
    fn a_case_is_decided_once_and_another_case_is_another_answer() {
        let setup = Setup::new(seed::channels("USD"), seed::queues(), TimeZone::UTC);
        let (moment, Config { weights, lift, .. }) = (setup.moment(noon()), Config::default());
        let (answers, decided) = (Answers::default(), Cell::new(0));
        let answer = |case: &Case| {
            let decide = || {
                decided.set(decided.get() + 1);
                decide(&setup, &moment, &weights, lift, case)
            };
            read(answers.to(case, decide).unwrap())
        };
        let order = phone_of_a_prospect(&setup);
        let complaint = Case { purpose: pb::ContactPurpose::Complaint, ..order };
        let known = Case { caller: Caller { known: true, ..Caller::default() }, ..order };
        let first = [order, complaint, known].map(|case| answer(&case));
        assert_eq!(decided.get(), 3);
        assert!(first[0].prospect && first[1].selling_paused && !first[2].prospect);
        assert_eq!([order, complaint, known].map(|case| answer(&case)), first);
        assert_eq!(decided.get(), 3, "nothing is decided twice");
        let decision = decide(&setup, &moment, &weights, lift, &order).unwrap();
        assert_eq!(first[0], say(&order, decision));
    }

    #[test]
    fn an_error_is_not_kept_and_there_is_an_end_to_what_is() {
        let setup = Setup::new(seed::channels("USD"), seed::queues(), TimeZone::UTC);
        let (moment, Config { weights, lift, .. }) = (setup.moment(noon()), Config::default());
        let answers = Answers::default();
        let order = phone_of_a_prospect(&setup);
        assert!(answers.to(&order, || Err(Error::Deadline)).is_err());
        let decision = decide(&setup, &moment, &weights, lift, &order).unwrap();
        for arrival in 0..MOST + 10 {
            let case = Case { arrival: Some(arrival), ..order };
            assert_eq!(read(answers.to(&case, || Ok(decision.clone())).unwrap()).queue_id, "phone-general");
        }
        assert_eq!(answers.0.pin().len(), MOST);
    }
}
