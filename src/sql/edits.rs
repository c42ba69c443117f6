//! Text edits on a client's SQL, and the way back from a place in the edited text to the client's own.
//!
//! Pure. What is not edited keeps its bytes.

use std::ops::Range;

use crate::schema::Refusal;

/// Stands behind a text that must not run: PostgreSQL's grammar has no place for it, whatever comes before.
const STOP: &str = "\n\\";

/// Replacements of byte ranges of one text, in order of place. Two edits never overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    edits: Vec<Edit>,
    warnings: Vec<String>,
    stop: Option<Stop>,
}

/// What is answered where PostgreSQL finds no mistake before the end of a text that must not run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stop {
    place: usize,
    refusal: Refusal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    text: String,
}

/// Two edits wanted the same bytes: a defect of ours, which must end in a refusal and never in a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap;

impl Edits {
    /// No edits.
    pub fn new() -> Edits {
        Edits::default()
    }

    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Edits that are in order already.
    pub(super) fn in_order(edits: impl Iterator<Item = (Range<usize>, String)>, warnings: &[String]) -> Edits {
        Edits {
            edits: edits.map(|(range, text)| Edit { range, text }).collect(),
            warnings: warnings.to_vec(),
            stop: None,
        }
    }

    /// What is replaced, and by what, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Range<usize>, &str)> {
        self.edits.iter().map(|edit| (&edit.range, edit.text.as_str()))
    }

    /// Replaces the bytes of `range` by `text`. An empty range inserts; several insertions at one place stand in the
    /// order in which they were made, before a replacement that begins there.
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<String>) -> Result<(), Overlap> {
        let text = text.into();
        let at = self.edits.partition_point(|edit| {
            edit.range.start < range.start || (edit.range.start == range.start && edit.range.is_empty())
        });
        let clear_before = at.checked_sub(1).is_none_or(|i| self.edits[i].range.end <= range.start);
        let clear_after = self.edits.get(at).is_none_or(|next| range.end <= next.range.start);
        if !clear_before || !clear_after {
            return Err(Overlap);
        }
        self.edits.insert(at, Edit { range, text });
        Ok(())
    }

    /// Inserts `text` before the byte at `place`.
    pub fn insert(&mut self, place: usize, text: impl Into<String>) -> Result<(), Overlap> {
        self.replace(place..place, text)
    }

    /// The edited text.
    pub fn apply(&self, source: &str) -> String {
        let mut out = String::with_capacity(source.len() + self.edits.iter().map(|e| e.text.len()).sum::<usize>());
        let mut from = 0;
        for edit in &self.edits {
            out.push_str(&source[from..edit.range.start]);
            out.push_str(&edit.text);
            from = edit.range.end;
        }
        out.push_str(&source[from..]);
        out
    }

    /// The edited text of these bytes of the source, by the edits that lie wholly within them.
    pub fn apply_within(&self, source: &str, range: Range<usize>) -> String {
        let mut out = String::new();
        let mut from = range.start;
        let first = self.edits.partition_point(|edit| edit.range.start < range.start);
        let inside = self.edits[first..].iter().take_while(|edit| edit.range.start <= range.end);
        for edit in inside.filter(|edit| edit.range.end <= range.end) {
            out.push_str(source.get(from..edit.range.start).unwrap_or_default());
            out.push_str(&edit.text);
            from = edit.range.end;
        }
        out.push_str(source.get(from..range.end).unwrap_or_default());
        out
    }

    /// Whether an edit was made in these bytes.
    pub fn touch(&self, range: Range<usize>) -> bool {
        self.edits.iter().any(|edit| edit.range.start < range.end && edit.range.end > range.start)
    }

    /// The byte of the client's text that a byte of the edited text came from; for a byte that an edit put there, where
    /// that edit begins.
    pub fn source_offset(&self, edited: usize) -> usize {
        let mut grown: isize = 0;
        for edit in &self.edits {
            let starts = edit.range.start.saturating_add_signed(grown);
            if edited < starts {
                break;
            }
            if edited < starts + edit.text.len() {
                return edit.range.start;
            }
            grown += edit.text.len() as isize - edit.range.len() as isize;
        }
        edited.saturating_add_signed(-grown)
    }

    /// Makes the text one that PostgreSQL reads and never runs: for what we cannot read. Its own syntax error goes to the
    /// client; where it finds none before the end, this refusal does.
    pub fn stop(&mut self, source: &str, refusal: Refusal) -> Result<(), Overlap> {
        if self.stop.is_none() {
            self.insert(source.len(), STOP)?;
            self.stop = Some(Stop { place: source.len(), refusal });
        }
        Ok(())
    }

    /// What stands for PostgreSQL's error at this byte of the edited text, where that is the end of a stopped text.
    pub fn stopped_at(&self, edited: usize) -> Option<&Refusal> {
        self.stop.as_ref().filter(|stop| self.source_offset(edited) >= stop.place).map(|stop| &stop.refusal)
    }

    /// Where a stopped text ends, and what is answered there.
    pub(super) fn stopped(&self) -> Option<(usize, &Refusal)> {
        self.stop.as_ref().map(|stop| (stop.place, &stop.refusal))
    }

    /// The same edits, of a text that was stopped there.
    pub(super) fn with_stop(mut self, stop: Option<(usize, Refusal)>) -> Edits {
        self.stop = stop.map(|(place, refusal)| Stop { place, refusal });
        self
    }

    /// A note for the client that goes out as a WARNING beside the statement.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// The notes for the client.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_apply_in_order_of_place_and_map_back() {
        let source = "SELECT a, b FROM t";
        let mut edits = Edits::new();
        edits.replace(17..18, "(SELECT 1) AS t").unwrap();
        edits.replace(7..8, "alpha").unwrap();
        edits.insert(11, ", c").unwrap();
        let edited = edits.apply(source);
        assert_eq!(edited, "SELECT alpha, b, c FROM (SELECT 1) AS t");
        assert_eq!(edits.source_offset(edited.find("b, c").unwrap()), source.find("b FROM").unwrap());
        assert_eq!(edits.source_offset(edited.find("SELECT 1").unwrap()), 17);
        assert_eq!(edits.source_offset(edited.len()), source.len());
    }

    #[test]
    fn a_stopped_text_has_the_servers_error_or_ours() {
        let source = "SELECT a FROM t WHERE";
        let mut edits = Edits::new();
        edits.stop(source, Refusal::unsupported("not read")).unwrap();
        edits.stop(source, Refusal::unsupported("not read either")).unwrap();
        let edited = edits.apply(source);
        assert_eq!(edited, "SELECT a FROM t WHERE\n\\");
        assert_eq!(edits.stopped_at(source.find("FROM").unwrap()), None);
        assert_eq!(edits.stopped_at(edited.len() - 1).map(|r| r.message.as_str()), Some("not read"));
    }

    #[test]
    fn overlapping_edits_are_refused() {
        let mut edits = Edits::new();
        edits.replace(3..6, "x").unwrap();
        assert_eq!(edits.replace(5..7, "y"), Err(Overlap));
        assert_eq!(edits.replace(0..4, "y"), Err(Overlap));
        assert_eq!(edits.insert(4, "y"), Err(Overlap));
        assert_eq!(edits.insert(3, "y"), Ok(()));
        assert_eq!(edits.insert(6, "y"), Ok(()));
    }
}
