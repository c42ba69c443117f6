//! What a session tells about its traffic: the words that counters, metrics and guardrails use.
//!
//! Pure data. Counting is `control::traffic`'s work.

/// What a statement does, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// `SELECT`, `WITH`, `TABLE`, `VALUES`.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `COPY`.
    Copy,
    /// All others.
    Other,
}

impl StatementKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [StatementKind; 6] = [
        StatementKind::Select,
        StatementKind::Insert,
        StatementKind::Update,
        StatementKind::Delete,
        StatementKind::Copy,
        StatementKind::Other,
    ];

    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            StatementKind::Select => "select",
            StatementKind::Insert => "insert",
            StatementKind::Update => "update",
            StatementKind::Delete => "delete",
            StatementKind::Copy => "copy",
            StatementKind::Other => "other",
        }
    }
}

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It names no table under migration, and passed unread.
    Passed,
    /// It names one, and means the same as it stands.
    Unchanged,
    /// It names one, and was rewritten.
    Rewritten,
    /// It was answered with an error of ours.
    Refused,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Outcome; 4] = [Outcome::Passed, Outcome::Unchanged, Outcome::Rewritten, Outcome::Refused];

    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Unchanged => "unchanged",
            Outcome::Rewritten => "rewritten",
            Outcome::Refused => "refused",
        }
    }
}
