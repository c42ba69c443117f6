//! Searches for a word by the letter of it that SQL has least often: a cheap first look, wherever the word stands.

use memchr::memchr2_iter;

/// A lower-case word to look for.
#[derive(Debug)]
pub struct Word {
    letters: &'static [u8],
    rarest: usize,
}

impl Word {
    /// `letters` are lower-case ASCII, and at least one.
    pub const fn new(letters: &'static [u8]) -> Word {
        let (mut rarest, mut at) = (0, 1);
        while at < letters.len() {
            if commonness(letters[at]) < commonness(letters[rarest]) {
                rarest = at;
            }
            at += 1;
        }
        Word { letters, rarest }
    }

    /// Whether its bytes are in a text, in any case.
    pub fn is_in(&self, text: &[u8]) -> bool {
        is_in(self.letters, self.rarest, text)
    }
}

/// Whether these lower-case bytes are in a text, in any case. The byte at `rarest` is searched for.
pub(super) fn is_in(lower: &[u8], rarest: usize, text: &[u8]) -> bool {
    let Some(&byte) = lower.get(rarest) else { return lower.is_empty() };
    memchr2_iter(byte, byte.to_ascii_uppercase(), text).any(|at| {
        let found = at.checked_sub(rarest).and_then(|from| text.get(from..from + lower.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(lower))
    })
}

/// How often SQL has a byte, roughly: letters of keywords and of short names are the worst to search for.
pub(super) const fn commonness(byte: u8) -> u8 {
    match byte {
        b'e' | b's' | b't' | b' ' => 9,
        b'r' | b'a' | b'i' | b'n' | b'o' => 8,
        b'l' | b'c' | b'd' | b'm' | b'u' | b'_' => 6,
        b'f' | b'h' | b'p' | b'w' | b'b' | b'g' => 4,
        b'y' | b'v' | b'k' | b'0'..=b'9' => 2,
        _ => 1,
    }
}
