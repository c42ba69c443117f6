//! Decides whether a text can touch a migrating table at all: a byte search, and the lexer only on a hit.
//!
//! Pure. Looks for names only; what a name means (CTE, alias, other schema) is decided by the rewriter.

use std::collections::HashSet;
use std::ops::Range;

use memchr::memchr_iter;

use super::lex::{self, Lexer, TokenKind};
use super::word::{self, commonness};
use crate::migration::Rules;
use crate::migration::masks::{CATALOG_NEEDLES, is_catalog_name};

/// How a text mentions the tables under migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// Not at all: the text passes as it is.
    No,
    /// As an identifier, or in the code of a `DO` or `CREATE`: the text must be read.
    Identifier,
    /// Not itself, but the system catalogs that tell of them: the text is read, and passes as it is where it cannot be.
    Catalog,
    /// Only inside string constants that are no code (a `regclass`): the text passes.
    OnlyInString,
}

/// What to look for, prepared once per epoch.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    needles: Vec<Needle>,
    names: HashSet<Box<str>>,
    catalog: Vec<Needle>,
}

/// Bytes that every way to write a name has in it, `U&""` apart.
#[derive(Debug, Clone)]
struct Needle {
    lower: Box<[u8]>,
    /// The byte to search for: the one that SQL has least often.
    rare: usize,
    /// How far on the needle can end at the earliest, by the byte that stands where it might have ended; 0 where it may end
    /// here. `None` where the rare byte is a better guide.
    skips: Option<Box<[u8; 256]>>,
    /// The longest part of it that is the same in every encoding.
    ascii: Range<usize>,
}

impl Screen {
    /// A screen for the tables of these rules.
    pub fn new(rules: &Rules) -> Screen {
        let catalog = if rules.is_empty() { Vec::new() } else { CATALOG_NEEDLES.map(Needle::new).into() };
        let functions = rules.row_functions().map(|function| &function.name.name);
        Screen { catalog, ..Screen::of(rules.names().iter().chain(functions).map(|name| name.as_str())) }
    }

    fn of<'n>(names: impl Iterator<Item = &'n str>) -> Screen {
        let names: HashSet<Box<str>> = names.map(Box::from).collect();
        let needles = names.iter().map(|name| Needle::new(name)).collect();
        Screen { needles, names, catalog: Vec::new() }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How the text mentions a table under migration.
    pub fn mentions(&self, text: &[u8], standard_conforming_strings: bool) -> Mention {
        let catalog = self.catalog.iter().any(|needle| needle.is_in(text));
        if self.names.is_empty() || !(catalog || self.has_table(text) || has_unicode_name(text)) {
            return Mention::No;
        }
        self.lex(text, standard_conforming_strings, catalog, false)
    }

    /// Whether the bytes of a table's name are in the text, wherever.
    pub fn has_table(&self, text: &[u8]) -> bool {
        self.needles.iter().any(|needle| needle.is_in(text))
    }

    /// The same for a session whose `search_path` has `information_schema` in it, or may have: its relations are found by
    /// frequent words (`columns`), so that every text is read for them.
    pub fn mentions_unqualified(&self, text: &[u8], standard_conforming_strings: bool) -> Mention {
        if self.names.is_empty() {
            return Mention::No;
        }
        self.lex(text, standard_conforming_strings, !self.catalog.is_empty(), true)
    }

    /// Whether a text of any encoding could mention a table under migration, as far as bytes tell: where a string or a
    /// comment ends is not looked at, and of a name only its ASCII part.
    pub fn may_mention(&self, text: &[u8]) -> bool {
        let ascii = |needle: &Needle| {
            let part = &needle.lower[needle.ascii.clone()];
            part.is_empty() || text.windows(part.len()).any(|found| found.eq_ignore_ascii_case(part))
        };
        !self.names.is_empty() && (self.needles.iter().any(ascii) || has_unicode_name(text))
    }

    /// `catalog`: names of the system catalogs count; `unqualified`: those of `information_schema` too.
    fn lex(&self, text: &[u8], standard_conforming_strings: bool, catalog: bool, unqualified: bool) -> Mention {
        let (mut in_string, mut in_catalog) = (false, false);
        let (mut begins, mut in_code) = (true, false);
        let mut tokens = Lexer::new(text, standard_conforming_strings).significant().peekable();
        while let Some(token) = tokens.next() {
            if begins {
                in_code = token.is_word(text, "do") || token.is_word(text, "create");
            }
            begins = token.is_mark(b';');
            let name = match token.kind {
                TokenKind::Word | TokenKind::Quoted => {
                    let worth = catalog || self.has_table(token.bytes(text));
                    if worth { lex::name(text, &token, '\\') } else { None }
                }
                TokenKind::UnicodeQuoted => {
                    let escape = match tokens.peek() {
                        Some(next) if next.is_word(text, "uescape") => {
                            tokens.next();
                            tokens.next().and_then(|value| lex::string_value(text, &value)?.chars().next())
                        }
                        _ => None,
                    };
                    // A name that cannot be decoded is an error in PostgreSQL.
                    lex::name(text, &token, escape.unwrap_or('\\'))
                }
                TokenKind::Text
                | TokenKind::EscapeText
                | TokenKind::UnicodeText
                | TokenKind::BitText
                | TokenKind::DollarText
                | TokenKind::Unterminated => {
                    let found = self.has_table(token.bytes(text));
                    if found && in_code {
                        return Mention::Identifier;
                    }
                    in_string = in_string || found;
                    None
                }
                TokenKind::Param
                | TokenKind::Number
                | TokenKind::Operator
                | TokenKind::Mark(_)
                | TokenKind::Comment => None,
            };
            let Some(name) = name else { continue };
            if self.names.contains(name.as_str()) {
                return Mention::Identifier;
            }
            in_catalog = in_catalog || (!self.catalog.is_empty() && is_catalog_name(&name, unqualified));
        }
        match (in_catalog, in_string) {
            (true, _) => Mention::Catalog,
            (false, true) => Mention::OnlyInString,
            (false, false) => Mention::No,
        }
    }
}

impl Needle {
    /// A double quote in a name is written twice, so the longest part without one is looked for.
    fn new(name: &str) -> Needle {
        let part = name.split('"').max_by_key(|part| part.len()).unwrap_or("").to_ascii_lowercase();
        let lower: Box<[u8]> = part.into_bytes().into();
        let rare = (0..lower.len()).min_by_key(|at| commonness(lower[*at])).unwrap_or(0);
        let common = lower.get(rare).is_some_and(|byte| commonness(*byte) > SELDOM);
        let skips = (common && lower.len() > 3).then(|| skips(&lower));
        Needle { ascii: ascii_part(&lower), lower, rare, skips }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        match &self.skips {
            Some(skips) => self.is_skipped_to(skips, text),
            None => word::is_in(&self.lower, self.rare, text),
        }
    }

    fn is_skipped_to(&self, skips: &[u8; 256], text: &[u8]) -> bool {
        let mut last = self.lower.len() - 1;
        while let Some(byte) = text.get(last) {
            let further = usize::from(skips[usize::from(*byte)]);
            if further == 0 && text[last + 1 - self.lower.len()..=last].eq_ignore_ascii_case(&self.lower) {
                return true;
            }
            // The last byte of the needle that is no match: any place behind may be one.
            last += further.max(1);
        }
        false
    }
}

/// Horspool's table ("Practical fast searching in strings", 1980), for both cases of a letter.
fn skips(lower: &[u8]) -> Box<[u8; 256]> {
    let far = |bytes: usize| u8::try_from(bytes).unwrap_or(u8::MAX);
    let mut skips = Box::new([far(lower.len()); 256]);
    for (at, byte) in lower.iter().enumerate() {
        let further = far(lower.len() - 1 - at);
        skips[usize::from(*byte)] = further;
        skips[usize::from(byte.to_ascii_uppercase())] = further;
    }
    skips
}

fn ascii_part(bytes: &[u8]) -> Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for at in 0..=bytes.len() {
        if bytes.get(at).is_none_or(|byte| !byte.is_ascii()) {
            if at - start > longest.len() {
                longest = start..at;
            }
            start = at + 1;
        }
    }
    longest
}

/// Whether a `U&"` is in the text: behind it any name can hide.
fn has_unicode_name(text: &[u8]) -> bool {
    memchr_iter(b'&', text).any(|at| at > 0 && matches!(text[at - 1..], [b'u' | b'U', _, b'"', ..]))
}

/// Bytes that are no more common than this are found at once.
const SELDOM: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_name_is_found_wherever_it_stands(name in "[a-ctesu_é]{1,8}", text in "[A-Ca-cTtEeSsUu_é ]{0,60}", at in 0usize..60) {
            let needle = Needle::new(&name);
            let naive = |text: &str| {
                let (text, name) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
                text.contains(&name)
            };
            proptest::prop_assert_eq!(needle.is_in(text.as_bytes()), naive(&text));
            let mut with = text;
            let place = (0..=at.min(with.len())).rev().find(|at| with.is_char_boundary(*at)).unwrap_or(0);
            with.insert_str(place, &name.to_ascii_uppercase());
            proptest::prop_assert!(needle.is_in(with.as_bytes()));
        }
    }

    fn screened(text: &str) -> Mention {
        Screen::of(["users", "Odd \"Name\""].into_iter()).mentions(text.as_bytes(), true)
    }

    #[test]
    fn no_way_to_write_a_name_passes_the_screen() {
        for text in [
            "select * from users",
            "SELECT * FROM USERS",
            "select * from \"users\"",
            "select * from public . users",
            "select * from U&\"\\0075sers\"",
            "select * from u&\"!0075sers\" uescape '!'",
            "select * from u&\"!0075sers\" uescape e'\\x21'",
            "select * from u&\"!0075sers\" uescape $$!$$",
            "select * from u&\"!0075sers\" uescape ''\n'!'",
            "select 1 from/**/users--",
            "select * from \"Odd \"\"Name\"\"\"",
            "select 1FROM users",
            "do $$ begin delete from users; end $$",
            "select 1; create function f() returns int language sql as 'select 1 from users'",
        ] {
            assert_eq!(screened(text), Mention::Identifier, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_name_does_not_stop_a_text() {
        for text in
            ["select 1", "select * from users2", "select /* users */ 1", "select 1 -- users", "select \"Users\""]
        {
            assert_eq!(screened(text), Mention::No, "{text}");
        }
        for text in ["select 'users'", "do $$ begin end $$; select 'users'", "select 'it''s users'"] {
            assert_eq!(screened(text), Mention::OnlyInString, "{text}");
        }
    }

    #[test]
    fn the_system_catalogs_are_found_however_they_are_written() {
        let names = Screen::of(["users"].into_iter());
        let screen = Screen { catalog: CATALOG_NEEDLES.map(Needle::new).into(), ..names };
        for (text, mention, unqualified) in [
            ("select attname from pg_attribute", Mention::Catalog, Mention::Catalog),
            ("SELECT PG_CATALOG.PG_GET_EXPR(a, b)", Mention::Catalog, Mention::Catalog),
            ("select * from \"information_schema\".columns", Mention::Catalog, Mention::Catalog),
            ("select * from U&\"pg\\005fclass\"", Mention::Catalog, Mention::Catalog),
            ("select 1 from users, pg_class", Mention::Identifier, Mention::Identifier),
            ("select columns from t", Mention::No, Mention::Catalog),
            ("select 'pg_class'::regclass", Mention::No, Mention::No),
            ("select pg_sleep(1), pg_classes", Mention::No, Mention::No),
            ("select 'users' from pg_class", Mention::Catalog, Mention::Catalog),
        ] {
            assert_eq!(screen.mentions(text.as_bytes(), true), mention, "{text}");
            assert_eq!(screen.mentions_unqualified(text.as_bytes(), true), unqualified, "{text}");
        }
        assert_eq!(Screen::default().mentions(b"select 1 from pg_class", true), Mention::No);
    }

    #[test]
    fn text_that_is_not_utf8_is_screened_too() {
        let screen = Screen::of(["users"].into_iter());
        assert_eq!(screen.mentions(b"select '\xff\xfe' from users", true), Mention::Identifier);
        assert_eq!(screen.mentions(b"select '\xff\xfe'", true), Mention::No);
        // Behind E'\x83\x5c' (one character in SJIS) a reader of bytes is still in the string.
        let hidden = b"select e'\x83\x5c', '/*', * from Users -- */";
        assert_eq!(screen.mentions(hidden, true), Mention::No);
        assert!(screen.may_mention(hidden) && !screen.may_mention(b"select e'\x83\x5c'"));
        let latin = Screen::of(["na\u{ef}ve"].into_iter());
        assert!(latin.may_mention(b"select * from Na\xefve") && !latin.may_mention(b"select * from n"));
    }
}
