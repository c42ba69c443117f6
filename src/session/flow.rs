//! What goes out in one direction: bytes of ours, then a range of the input that passes untouched.
//!
//! Untouched traffic is one range, written from where it was read; only what stands before an injected message is
//! copied.

use std::ops::Range;

/// One direction's output of one call.
#[derive(Debug, Default)]
pub struct Flow {
    made: Vec<u8>,
    passed: Range<usize>,
}

/// Everything that one call puts out.
#[derive(Debug, Default)]
pub struct Out {
    /// For the server.
    pub to_server: Flow,
    /// For the client.
    pub to_client: Flow,
    /// Both connections end once this is written.
    pub close: bool,
}

impl Out {
    /// Nothing.
    pub fn new() -> Out {
        Out::default()
    }

    /// Empties it for the next call, keeping what it allocated, up to a bound.
    pub fn clear(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.close = false;
    }
}

impl Flow {
    /// What we allocate for one direction and keep for the next call, in bytes.
    const KEPT_BYTES_MAX: usize = 256 * 1024;

    /// The bytes to send: ours first, then the passed range of `input`.
    pub fn parts<'a>(&'a self, input: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        (&self.made, input.get(self.passed.clone()).unwrap_or_default())
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty() && self.passed.is_empty()
    }

    fn clear(&mut self) {
        self.made.clear();
        if self.made.capacity() > Self::KEPT_BYTES_MAX {
            self.made = Vec::new();
        }
        self.passed = 0..0;
    }

    /// Passes a range of `input`, behind all that was put out before.
    pub(super) fn pass(&mut self, input: &[u8], range: Range<usize>) {
        if self.passed.is_empty() {
            self.passed = range;
        } else if self.passed.end == range.start {
            self.passed.end = range.end;
        } else {
            self.settle(input);
            self.passed = range;
        }
    }

    /// Where to append bytes of ours, behind all that was put out before.
    pub(super) fn ours(&mut self, input: &[u8]) -> &mut Vec<u8> {
        self.settle(input);
        &mut self.made
    }

    /// Copies the passed range, so that `input` may go.
    pub(super) fn settle(&mut self, input: &[u8]) {
        if !self.passed.is_empty() {
            self.made.extend_from_slice(input.get(self.passed.clone()).unwrap_or_default());
            self.passed = 0..0;
        }
    }
}
