//! The answers that the server owes, in order: one entry for each message that was sent to it.
//!
//! Knows the protocol's rules of who answers with what, and what an error skips. What an answer means to the session is
//! in the entry's `note`, which only touched or injected messages have.

use std::collections::VecDeque;

/// A message that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The connection's beginning, which ends in ReadyForQuery too.
    Startup,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Close,
    Execute,
    Sync,
    Query,
    FunctionCall,
    /// No message that is answered: the client's CopyDone or CopyFail, sent before the server asked for data.
    CopyEnd,
}

impl Asked {
    /// Whether its answer ends in ReadyForQuery, errors included.
    fn ends_in_ready(self) -> bool {
        match self {
            Asked::Startup | Asked::Sync | Asked::Query | Asked::FunctionCall => true,
            Asked::Parse
            | Asked::Bind
            | Asked::DescribeStatement
            | Asked::DescribePortal
            | Asked::Close
            | Asked::Execute
            | Asked::CopyEnd => false,
        }
    }
}

/// One entry.
#[derive(Debug)]
pub(super) struct Expected<N> {
    pub asked: Asked,
    pub note: Option<Box<N>>,
}

/// The server answered something else than what was asked. The session must end: what follows would be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mispredicted;

/// What an error does to the queue.
#[derive(Debug)]
pub(super) enum Failed<N> {
    /// Nobody asked: it is about the connection.
    Connection,
    /// The front message failed, and ReadyForQuery comes next.
    Cycle,
    /// The front message of a batch failed; it and these, which the server skips, are gone, in the order they were sent.
    Batch {
        front: Expected<N>,
        skipped: Vec<Expected<N>>,
        /// No Sync is on its way yet: the server skips what the client sends until one comes.
        until_sync: bool,
    },
}

/// The entries in the order of their sending.
#[derive(Debug)]
pub(super) struct Queue<N> {
    entries: VecDeque<Expected<N>>,
    /// The server reads copy data, and ignores Sync until the client ends it.
    copying_in: bool,
    /// Syncs that went out while the server read copy data, and might yet be answered if the copy fails.
    syncs_ignored: u32,
    /// Those of a copy that failed.
    syncs_spare: u32,
    /// The front message has been answered in part: a ReadyForQuery now is its own, and no spare Sync's.
    begun: bool,
}

impl<N> Queue<N> {
    /// Entries for which room is kept while nothing is asked.
    const IDLE_ENTRIES_MAX: usize = 32;

    pub fn new() -> Queue<N> {
        Queue { entries: VecDeque::new(), copying_in: false, syncs_ignored: 0, syncs_spare: 0, begun: false }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether messages wait for an answer that no Sync ends: where one of them fails, the server skips all that follows.
    pub fn is_unsynced(&self) -> bool {
        let mut behind_sync = self.entries.iter().rev().take_while(|entry| entry.asked != Asked::Sync);
        behind_sync.any(|entry| !entry.asked.ends_in_ready() && entry.asked != Asked::CopyEnd)
    }

    pub fn is_starting(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.asked == Asked::Startup)
    }

    #[inline]
    pub fn push(&mut self, asked: Asked, note: Option<Box<N>>) {
        if asked == Asked::Sync && self.copying_in {
            self.syncs_ignored += 1;
            return;
        }
        self.entries.push_back(Expected { asked, note });
    }

    /// The note of the message that was sent last.
    pub fn last_note(&mut self) -> Option<&mut Option<Box<N>>> {
        self.entries.back_mut().map(|entry| &mut entry.note)
    }

    /// The client ended its copy data.
    pub fn copy_ended(&mut self) {
        if self.copying_in {
            self.copying_in = false;
        } else {
            self.entries.push_back(Expected { asked: Asked::CopyEnd, note: None });
        }
    }

    /// Whether a message with such a note is still to be answered.
    pub fn is_left(&self, wanted: impl Fn(Asked, &N) -> bool) -> bool {
        self.entries.iter().any(|entry| entry.note.as_deref().is_some_and(|note| wanted(entry.asked, note)))
    }

    pub fn front(&mut self) -> Option<&mut Expected<N>> {
        self.drop_stale_ends();
        self.entries.front_mut()
    }

    /// Ends of copies that never began: the server failed before, and ignored them.
    #[inline]
    fn drop_stale_ends(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.asked == Asked::CopyEnd) {
            self.entries.pop_front();
        }
    }

    /// The front entry is answered: it must be one of these.
    #[inline]
    pub fn answered(&mut self, by: &[Asked]) -> Result<Expected<N>, Mispredicted> {
        self.drop_stale_ends();
        match self.entries.front() {
            Some(entry) if by.contains(&entry.asked) => self.entries.pop_front().ok_or(Mispredicted),
            Some(_) | None => Err(Mispredicted),
        }
    }

    /// A row description or its absence: ends a Describe; within a simple query it is a part.
    pub fn described(&mut self) -> Result<Option<Expected<N>>, Mispredicted> {
        match self.front().map(|entry| entry.asked) {
            Some(Asked::Query) => Ok(self.begin()),
            _ => self.answered(&[Asked::DescribeStatement, Asked::DescribePortal]).map(Some),
        }
    }

    /// A command is complete: ends an Execute; within a simple query it is a part.
    #[inline]
    pub fn completed(&mut self) -> Result<Option<Expected<N>>, Mispredicted> {
        self.copying_in = false;
        self.syncs_ignored = 0;
        match self.front().map(|entry| entry.asked) {
            Some(Asked::Query) => Ok(self.begin()),
            _ => self.answered(&[Asked::Execute]).map(Some),
        }
    }

    /// A part of an answer that ends in ReadyForQuery has come; no entry is done with.
    #[inline]
    pub fn begin(&mut self) -> Option<Expected<N>> {
        self.begun = true;
        None
    }

    /// The server asks for copy data: from here to the data's end it ignores Sync.
    pub fn copy_in(&mut self) -> Result<(), Mispredicted> {
        match self.front().map(|entry| entry.asked) {
            Some(Asked::Query | Asked::Execute) => {}
            _ => return Err(Mispredicted),
        }
        while self.entries.get(1).is_some_and(|entry| entry.asked == Asked::Sync) {
            self.entries.remove(1);
            self.syncs_ignored += 1;
        }
        match self.entries.get(1).map(|entry| entry.asked) {
            Some(Asked::CopyEnd) => drop(self.entries.remove(1)),
            Some(_) => {}
            None => self.copying_in = true,
        }
        Ok(())
    }

    /// ReadyForQuery: the entry that it ends, `None` for a Sync that was taken for ignored.
    #[inline]
    pub fn ready(&mut self) -> Result<Option<Expected<N>>, Mispredicted> {
        self.drop_stale_ends();
        match self.entries.front() {
            // A Query is answered by something else first.
            Some(entry)
                if entry.asked.ends_in_ready()
                    && (self.begun || entry.asked == Asked::Sync || self.syncs_spare == 0) =>
            {
                self.begun = false;
                let entry = self.entries.pop_front();
                if self.entries.is_empty() && self.entries.capacity() > Self::IDLE_ENTRIES_MAX {
                    self.entries = VecDeque::new();
                }
                self.drop_stale_ends();
                Ok(entry)
            }
            Some(_) | None if self.syncs_spare > 0 => {
                self.syncs_spare -= 1;
                Ok(None)
            }
            Some(_) | None => Err(Mispredicted),
        }
    }

    /// An error.
    pub fn failed(&mut self) -> Failed<N> {
        // The server may have failed before it read them.
        self.copying_in = false;
        self.syncs_spare += std::mem::take(&mut self.syncs_ignored);
        self.drop_stale_ends();
        let Some(front) = self.entries.pop_front_if(|entry| !entry.asked.ends_in_ready()) else {
            self.begun = !self.entries.is_empty();
            return if self.begun { Failed::Cycle } else { Failed::Connection };
        };
        let sync = self.entries.iter().position(|entry| entry.asked == Asked::Sync);
        let skipped = self.entries.drain(..sync.unwrap_or(self.entries.len())).collect();
        Failed::Batch { front, skipped, until_sync: sync.is_none() }
    }
}
