//! Messages of which a part is encoded already.
use std::{fmt, marker::PhantomData};

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{DecodeContext, WireType},
};

/// Fields of an `M` as they go over the wire, to be sent with many messages: cloning it copies nothing.
pub struct Encoded<M>(Bytes, PhantomData<fn() -> M>);

impl<M: Message> Encoded<M> {
    /// The fields of `message` that are set.
    pub fn of(message: &M) -> Self {
        Self(message.encode_to_vec().into(), PhantomData)
    }

    /// Fields that were encoded by other means.
    pub fn raw(fields: Bytes) -> Self {
        Self(fields, PhantomData)
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<M> Default for Encoded<M> {
    /// No field.
    fn default() -> Self {
        Self(Bytes::new(), PhantomData)
    }
}

impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encoded").field(&self.0.len()).finish()
    }
}

/// An `M` to be sent: some of its fields as they are, the others encoded beforehand. Whoever receives it finds an `M` with all of them, since Protocol
/// Buffers merge what is written one after the other.
#[derive(Debug, Default)]
pub struct Prepared<M> {
    /// Fields of this message alone.
    pub fields: M,
    /// Fields that it shares with others. Only a repeated field may be in both; then both stand, these last.
    pub shared: Encoded<M>,
}

impl<M> From<M> for Prepared<M> {
    fn from(fields: M) -> Self {
        Self { fields, shared: Encoded::default() }
    }
}

impl<M: Default> From<Encoded<M>> for Prepared<M> {
    fn from(shared: Encoded<M>) -> Self {
        Self { fields: M::default(), shared }
    }
}

impl<M: Message> Message for Prepared<M> {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        self.fields.encode_raw(buffer);
        buffer.put_slice(&self.shared.0);
    }

    fn encoded_len(&self) -> usize {
        self.fields.encoded_len() + self.shared.0.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.fields.merge_field(tag, wire_type, buffer, context)
    }

    fn clear(&mut self) {
        self.fields.clear();
        self.shared = Encoded::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::v1::{DecideResponse, PromptLine, Reason};

    #[test]
    fn who_receives_it_finds_every_field() {
        let shared = DecideResponse {
            queue_id: "q".into(),
            prompt: vec![PromptLine { kind: 1, text: "Welcome".into() }],
            reasons: vec![Reason::default(), Reason { rule: "r".into(), ..Reason::default() }],
            ..DecideResponse::default()
        };
        let fields = DecideResponse { decision_id: "d".into(), customer_id: "c".into(), ..DecideResponse::default() };
        let whole = DecideResponse {
            decision_id: fields.decision_id.clone(),
            customer_id: fields.customer_id.clone(),
            ..shared.clone()
        };
        let mut prepared = Prepared { fields, shared: Encoded::of(&shared) };
        let sent = prepared.encode_to_vec();
        assert_eq!(sent.len(), prepared.encoded_len());
        assert_eq!(DecideResponse::decode(sent.as_slice()).unwrap(), whole);
        assert_eq!(Prepared::<DecideResponse>::decode(sent.as_slice()).unwrap().fields, whole);
        assert_eq!(Prepared::from(whole).encode_to_vec(), sent);
        prepared.clear();
        assert_eq!(prepared.encoded_len(), 0);
    }
}
