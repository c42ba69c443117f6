//! The shape of a text: its bytes with the literals taken out. Texts of one shape have one plan (`template`).
//!
//! Takes out numbers and string constants of plain queries and writes. Leaves in what is no value but part of the
//! statement: numbers behind GROUP BY and ORDER BY, which may be positions, and what UESCAPE says. Reads no other kind
//! of statement, and never more than one.

use std::fmt::Write;
use std::ops::Range;

use super::lex::{Lexer, Token, TokenKind};

/// The most literals that are taken out of one text.
pub(super) const LITERALS_MAX: usize = 9_999;

/// How a stand-in for a literal begins; its number follows. Digits, so that it can stand in a literal of any kind.
const MARK: &str = "814763502941";

/// The digits of a stand-in's number.
const NUMBER_DIGITS: usize = 4;

/// Stands in a key before the class of a literal. No text that is sent by the protocol has this byte.
const TAKEN_OUT: u8 = 0;

/// A text without its literals.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The text, with a mark of its class in the place of each literal.
    pub key: Vec<u8>,
    /// Where the literals stand in the text, in order.
    pub literals: Vec<Range<u32>>,
}

impl Shape {
    /// Takes the literals out of a text; whether it is of a kind that has a shape.
    pub fn read(&mut self, text: &str, standard_conforming_strings: bool) -> bool {
        self.key.clear();
        self.literals.clear();
        let text = text.as_bytes();
        let mut reader = Reader { text, depth: 0, positions: None, distinct: false, escape: false };
        let mut written = 0;
        let (mut begun, mut ended) = (false, false);
        for token in Lexer::new(text, standard_conforming_strings) {
            if token.kind == TokenKind::Comment {
                continue;
            }
            if ended || token.kind == TokenKind::Unterminated {
                return false;
            }
            if !begun && !token.is_mark(b'(') {
                begun = true;
                if !has_shape(token.bytes(text)) {
                    return false;
                }
            }
            ended = token.is_mark(b';');
            let Some(class) = reader.class(&token) else { continue };
            self.key.extend_from_slice(&text[written..token.start]);
            self.key.extend_from_slice(&[TAKEN_OUT, class]);
            self.literals.push(token.start as u32..token.end as u32);
            written = token.end;
        }
        self.key.extend_from_slice(&text[written..]);
        begun && self.literals.len() <= LITERALS_MAX && memchr::memchr(TAKEN_OUT, text).is_none()
    }

    /// The text with stand-ins for its literals; `None` where they could be taken for something else in it.
    pub fn canonical(&self, text: &str) -> Option<Canonical> {
        if text.contains(MARK) {
            return None;
        }
        let mut canonical = Canonical { text: String::with_capacity(text.len() * 2), literals: Vec::new() };
        let mut written = 0;
        for (number, literal) in self.literals.iter().enumerate() {
            let (start, end) = (literal.start as usize, literal.end as usize);
            canonical.text.push_str(text.get(written..start)?);
            let from = canonical.text.len();
            push_stand_in(&mut canonical.text, text.get(start..end)?, number);
            canonical.literals.push(from as u32..canonical.text.len() as u32);
            written = end;
        }
        canonical.text.push_str(text.get(written..)?);
        Some(canonical)
    }
}

/// A text whose literals are stand-ins: whatever is planned for it cannot depend on what they were.
#[derive(Debug)]
pub(super) struct Canonical {
    pub text: String,
    /// Where the stand-ins are.
    pub literals: Vec<Range<u32>>,
}

/// A part of a text that was made for a canonical one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// This text.
    Own(Box<str>),
    /// A copy of the literal of that number.
    Literal(u32),
}

impl Canonical {
    /// Cuts a text that was made for this one at its stand-ins; `None` where a stand-in is not whole.
    pub fn parts(&self, made: &str) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        let mut rest = made;
        while let Some(at) = rest.find(MARK) {
            let digits = rest.get(at + MARK.len()..at + MARK.len() + NUMBER_DIGITS)?;
            let number: usize = digits.parse().ok()?;
            let literal = self.literals.get(number)?;
            let whole = self.text.get(literal.start as usize..literal.end as usize)?;
            let start = at.checked_sub(whole.find(MARK)?)?;
            let behind = rest.get(start..)?.strip_prefix(whole)?;
            if start > 0 {
                parts.push(Part::Own(rest[..start].into()));
            }
            parts.push(Part::Literal(u32::try_from(number).ok()?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Own(rest.into()));
        }
        Some(parts)
    }

    /// Whether a text has a stand-in in it, or a part of one.
    pub fn is_in(text: &str) -> bool {
        text.contains(MARK)
    }
}

fn push_stand_in(out: &mut String, literal: &str, number: usize) {
    let quote = literal.find(['\'', '$']);
    let (open, close) = match quote {
        Some(at) if literal.as_bytes()[at] == b'\'' => (&literal[..=at], "'"),
        Some(_) => ("$$", "$$"),
        None if literal.contains('.') => ("", ".5"),
        None => ("", ""),
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "{open}{MARK}{number:0NUMBER_DIGITS$}{close}");
}

/// Whether a statement that begins with this word has a shape: its literals are values.
fn has_shape(word: &[u8]) -> bool {
    [&b"select"[..], b"insert", b"update", b"delete", b"with", b"values", b"merge"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

/// The literal that begins at a place where a token begins: where it ends, and its class. `None` for what no plan is made
/// without.
pub(super) fn class_of_literal(text: &[u8], at: usize, standard_conforming_strings: bool) -> Option<(usize, u8)> {
    let token = Lexer::at(text, at, standard_conforming_strings).next().filter(|token| token.start == at)?;
    let class = match token.kind {
        TokenKind::Number => number(text, &token)?,
        kind if kind.is_text() => *text.get(at)?,
        _ => return None,
    };
    memchr::memchr(TAKEN_OUT, token.bytes(text)).is_none().then_some((token.end, class))
}

/// The class of digits, or digits with a point between them, that nothing is glued to: other forms stay.
fn number(text: &[u8], token: &Token) -> Option<u8> {
    let glued = text.get(token.end).is_some_and(|next| {
        next.is_ascii_alphanumeric() || matches!(next, b'_' | b'.' | b'$' | b'\'' | b'"') || *next >= 0x80
    });
    let digits = token.bytes(text);
    let mut points = 0;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {}
            b'.' => points += 1,
            _ => return None,
        }
    }
    let ends = digits.first() == Some(&b'.') || digits.last() == Some(&b'.');
    match points {
        0 if !glued => Some(b'0'),
        1 if !glued && !ends => Some(b'.'),
        _ => None,
    }
}

/// What the tokens so far say about the next one.
struct Reader<'t> {
    text: &'t [u8],
    depth: usize,
    /// The depth of the list whose numbers may be positions.
    positions: Option<usize>,
    distinct: bool,
    escape: bool,
}

impl Reader<'_> {
    /// The class of a literal that is taken out; `None` for what stays.
    fn class(&mut self, token: &Token) -> Option<u8> {
        let escape = std::mem::take(&mut self.escape);
        match token.kind {
            TokenKind::Word => self.word(token),
            TokenKind::Mark(b'(' | b'[') => self.depth += 1,
            TokenKind::Mark(b')' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                if self.positions.is_some_and(|depth| self.depth < depth) {
                    self.positions = None;
                }
            }
            TokenKind::Number if self.positions.is_none() => return number(self.text, token),
            TokenKind::Text
            | TokenKind::EscapeText
            | TokenKind::UnicodeText
            | TokenKind::BitText
            | TokenKind::DollarText
                if !escape =>
            {
                return self.text.get(token.start).copied();
            }
            TokenKind::Text
            | TokenKind::EscapeText
            | TokenKind::UnicodeText
            | TokenKind::BitText
            | TokenKind::DollarText
            | TokenKind::Number
            | TokenKind::Quoted
            | TokenKind::UnicodeQuoted
            | TokenKind::Param
            | TokenKind::Operator
            | TokenKind::Mark(_)
            | TokenKind::Comment
            | TokenKind::Unterminated => {}
        }
        None
    }

    fn word(&mut self, token: &Token) {
        let distinct = std::mem::take(&mut self.distinct);
        match token.end - token.start {
            2 if token.is_word(self.text, "by") => self.positions = Some(self.depth),
            2 if distinct && token.is_word(self.text, "on") => self.positions = Some(self.depth),
            7 if token.is_word(self.text, "uescape") => self.escape = true,
            8 if token.is_word(self.text, "distinct") => self.distinct = true,
            _ if self.positions == Some(self.depth) && self.ends_positions(token) => self.positions = None,
            _ => {}
        }
    }

    /// Whether the word begins what follows a GROUP BY or ORDER BY.
    fn ends_positions(&self, token: &Token) -> bool {
        const WORDS: [&str; 17] = [
            "limit",
            "offset",
            "fetch",
            "for",
            "having",
            "where",
            "window",
            "union",
            "intersect",
            "except",
            "returning",
            "set",
            "values",
            "select",
            "from",
            "rows",
            "range",
        ];
        WORDS.iter().any(|word| token.is_word(self.text, word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Option<String> {
        let mut shape = Shape::default();
        let read = shape.read(text, true);
        read.then(|| String::from_utf8(shape.key).unwrap().replace('\0', "~"))
    }

    #[test]
    fn values_are_taken_out_and_nothing_else() {
        for (text, wanted) in [
            ("SELECT a FROM t WHERE id = 17 AND b = 'x''y'", "SELECT a FROM t WHERE id = ~0 AND b = ~'"),
            ("select -1.50, E'\\'', $$x$$, $t$y$t$", "select -~., ~E, ~$, ~$"),
            ("select N'a', B'1', x'f', U&'z'", "select ~N, ~B, ~x, ~U"),
            ("SELECT U&'!0061' UESCAPE '!', 1", "SELECT ~U UESCAPE '!', ~0"),
            ("SELECT 'a'\n 'b', 'c' FROM t", "SELECT ~', ~' FROM t"),
            ("SELECT 1e5, .5, 5., 0x1F, 1_000, 2", "SELECT 1e5, .5, 5., 0x1F, 1_000, ~0"),
            ("SELECT 1AS a", "SELECT 1AS a"),
            (
                "SELECT a, 7 FROM t GROUP BY 1 ORDER BY 2, b LIMIT 5",
                "SELECT a, ~0 FROM t GROUP BY 1 ORDER BY 2, b LIMIT ~0",
            ),
            ("SELECT DISTINCT ON (1) a FROM t WHERE b = 3", "SELECT DISTINCT ON (1) a FROM t WHERE b = ~0"),
            ("SELECT (SELECT 1 ORDER BY 1) + 2", "SELECT (SELECT ~0 ORDER BY 1) + ~0"),
            (
                "SELECT a FROM t ORDER BY f(a, 3 FROM 1), 2 LIMIT 9",
                "SELECT a FROM t ORDER BY f(a, 3 FROM 1), 2 LIMIT ~0",
            ),
            ("INSERT INTO t VALUES (1, NULL), (2, $1);", "INSERT INTO t VALUES (~0, NULL), (~0, $1);"),
            ("SELECT /* 1 */ 2 -- '3'", "SELECT /* 1 */ ~0 -- '3'"),
            ("(SELECT 1)", "(SELECT ~0)"),
        ] {
            assert_eq!(shape(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_single_query_or_write_has_no_shape() {
        for text in [
            "SELECT 1; SELECT 2",
            "COPY t FROM STDIN (DELIMITER ',')",
            "SET a = 1",
            "CREATE TABLE t AS SELECT 1",
            "SELECT 'a",
            "SELECT 1\0",
            "",
            ";",
        ] {
            assert_eq!(shape(text), None, "{text}");
        }
    }

    #[test]
    fn stand_ins_are_found_again_and_parts_of_them_are_not() {
        let text = "SELECT 5, 'abc', E'd', $q$e$q$, 1.5";
        let mut shape = Shape::default();
        assert!(shape.read(text, true));
        let canonical = shape.canonical(text).unwrap();
        let literal = |index: usize| {
            &canonical.text[canonical.literals[index].start as usize..canonical.literals[index].end as usize]
        };
        let made = format!("up({}) + {}{}", literal(1), literal(4), literal(0));
        let parts = canonical.parts(&made).unwrap();
        let wanted =
            [Part::Own("up(".into()), Part::Literal(1), Part::Own(") + ".into()), Part::Literal(4), Part::Literal(0)];
        assert_eq!(parts, wanted);
        let inner = literal(1).trim_matches('\'');
        assert_eq!(canonical.parts(&format!("f({inner})")), None);
        assert!(shape.canonical(&format!("SELECT {inner}")).is_none());
    }
}
