// SPDX-License-Identifier: Apache-2.0
//! The two credential slots of a transport. A restart must never end the pair in use before its successor is
//! nominated (RFC 8445 §9: media goes on over the previous pair).

use crate::Credentials;

/// Credentials that are valid for a transport: what was signalled last, and what the pair in use was nominated with.
#[derive(Debug, Clone)]
pub struct CredentialSlots {
    current: Credentials,
    is_current_nominated: bool,
    previous: Option<Credentials>,
}

impl CredentialSlots {
    /// One slot filled: the credentials of the first description.
    #[must_use]
    pub const fn new(current: Credentials) -> Self {
        Self { current, is_current_nominated: false, previous: None }
    }

    /// What the next description carries.
    #[must_use]
    pub const fn current(&self) -> &Credentials {
        &self.current
    }

    /// What stays valid until the current ones are nominated.
    #[must_use]
    pub const fn previous(&self) -> Option<&Credentials> {
        self.previous.as_ref()
    }

    /// Starts an ICE restart: `next` becomes current, and the pair in use keeps its slot.
    ///
    /// A restart during a restart replaces the credentials that nobody nominated. Returns what is no longer valid.
    pub fn restart(&mut self, next: Credentials) -> Option<Credentials> {
        let outgoing = std::mem::replace(&mut self.current, next);
        let was_nominated = std::mem::replace(&mut self.is_current_nominated, false);
        if was_nominated || self.previous.is_none() {
            return self.previous.replace(outgoing);
        }
        Some(outgoing)
    }

    /// Reports a nomination (USE-CANDIDATE in a verified check) under a local ufrag.
    ///
    /// When it is the current one's, the previous credentials end and are returned.
    pub fn nominate(&mut self, ufrag: &str) -> Option<Credentials> {
        if ufrag != self.current.ufrag() {
            return None;
        }
        self.is_current_nominated = true;
        self.previous.take()
    }

    /// The valid credentials with this ufrag.
    #[must_use]
    pub fn lookup(&self, ufrag: &str) -> Option<&Credentials> {
        std::iter::once(&self.current).chain(&self.previous).find(|c| c.ufrag() == ufrag)
    }
}

#[cfg(test)]
mod tests {
    use super::CredentialSlots;
    use crate::Credentials;

    fn made() -> Credentials {
        Credentials::generate().expect("randomness")
    }

    // RFC 8445 §9
    #[test]
    fn old_credentials_stay_until_the_next_are_nominated() {
        let (first, second) = (made(), made());
        let mut slots = CredentialSlots::new(first.clone());
        assert_eq!(slots.nominate(first.ufrag()), None);
        assert_eq!(slots.restart(second.clone()), None);
        assert_eq!((slots.current(), slots.previous()), (&second, Some(&first)));
        assert_eq!(slots.nominate(first.ufrag()), None, "late nomination of the old pair changes nothing");
        assert!(slots.lookup(first.ufrag()).is_some() && slots.lookup(second.ufrag()).is_some());
        assert_eq!(slots.nominate(second.ufrag()), Some(first.clone()));
        assert!(slots.lookup(first.ufrag()).is_none());
        assert_eq!(slots.nominate(second.ufrag()), None);
    }

    #[test]
    fn a_restart_during_a_restart_keeps_the_pair_in_use() {
        let (first, second, third) = (made(), made(), made());
        let mut slots = CredentialSlots::new(first.clone());
        slots.nominate(first.ufrag());
        slots.restart(second.clone());
        assert_eq!(slots.restart(third.clone()), Some(second.clone()), "never nominated");
        assert_eq!((slots.current(), slots.previous()), (&third, Some(&first)));
        assert!(slots.lookup(second.ufrag()).is_none());
        assert_eq!(slots.nominate(third.ufrag()), Some(first));
    }

    #[test]
    fn a_restart_before_any_nomination_keeps_the_first_offer_valid() {
        let (first, second) = (made(), made());
        let mut slots = CredentialSlots::new(first.clone());
        assert_eq!(slots.restart(second), None);
        assert_eq!(slots.previous(), Some(&first), "its checks may be on their way");
    }
}
