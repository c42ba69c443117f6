//! Which server process answers a session, and whether statements on tables under migration may be sent to it.
//!
//! What we ask a session's server (names, settings, what is prepared) holds for that server process alone. The process
//! tells its number with each answer; it must be the one that the login named, and stay the same. Never resynchronises:
//! once found unfit, a session stays so.

use crate::schema::Refusal;

/// What is known of the process behind a session.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// The process that the login named, for cancel requests.
    named: Option<u32>,
    /// The process that answered.
    answered: Option<u32>,
    unfit: Option<Unfit>,
}

/// Why a server process will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// The login was not its own: a pooler is in between that nobody told of.
    Pooler,
    /// Another one has answered before: a pooler gives servers away between transactions.
    Shared,
    /// It replays another server, and may be behind the rules.
    Standby,
}

impl Serving {
    /// The login's BackendKeyData.
    pub fn login(&mut self, key: &[u8]) {
        self.named = key.first_chunk().copied().map(u32::from_be_bytes);
    }

    /// A process has answered. Whether what is thought of it has changed.
    pub fn answer(&mut self, process: u32, is_standby: bool, is_pooled: bool) -> bool {
        let before = self.unfit;
        if is_standby {
            self.unfit.get_or_insert(Unfit::Standby);
        }
        if self.answered.is_some_and(|answered| answered != process) {
            self.unfit.get_or_insert(Unfit::Shared);
        }
        if !is_pooled && self.named != Some(process) {
            self.unfit.get_or_insert(Unfit::Pooler);
        }
        self.answered = Some(process);
        self.unfit != before
    }

    /// What a statement on a table under migration is answered with, where it may not be sent.
    pub fn refusal(&self) -> Option<Refusal> {
        let refusal = match self.unfit? {
            Unfit::Pooler => Refusal::unsupported("cannot run a statement on a table under migration through a pooler")
                .detail("A pooler between the proxy and PostgreSQL logged in for the session: the login names another server process than the one that answers.")
                .hint("Name the pooler in the proxy's setting \"pooler\" if it pools by session, or put it in front of the proxy."),
            Unfit::Shared => {
                Refusal::unsupported("cannot run a statement on a table under migration through a pooler that does not pool by session")
                    .detail("Two questions of one session were answered by different server processes. What a name means in one need not hold in the other.")
                    .hint("Set pool_mode = session at the pooler, or put it in front of the proxy.")
            }
            Unfit::Standby => Refusal::unsupported("cannot run a statement on a table under migration on a standby")
                .detail("The standby may be behind the migration: a column that is read from may not be filled there yet.")
                .hint("Connect to the primary, or read on the standby when the migration has ended."),
        };
        Some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(named: Option<u32>, answers: &[(u32, bool)], is_pooled: bool) -> Option<Unfit> {
        let mut serving = Serving { named, ..Serving::default() };
        for (process, is_standby) in answers {
            serving.answer(*process, *is_standby, is_pooled);
        }
        serving.unfit
    }

    #[test]
    fn the_process_is_the_one_of_the_login_and_stays_so() {
        assert_eq!(after(Some(7), &[(7, false), (7, false)], false), None);
        assert_eq!(after(Some(7), &[(8, false)], false), Some(Unfit::Pooler));
        assert_eq!(after(None, &[(8, false)], false), Some(Unfit::Pooler));
        assert_eq!(after(Some(7), &[(8, false), (8, false)], true), None);
        assert_eq!(after(Some(7), &[(8, false), (9, false), (8, false)], true), Some(Unfit::Shared));
        assert_eq!(after(Some(7), &[(7, true), (7, false)], false), Some(Unfit::Standby));
        let mut serving = Serving::default();
        serving.login(&[0, 0, 1, 2, 9, 9, 9, 9]);
        assert!(!serving.answer(258, false, false) && serving.refusal().is_none());
        assert!(serving.answer(259, false, false) && serving.refusal().is_some());
    }
}
