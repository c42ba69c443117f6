//! The statements that readers are held against: the project's own, and mutations of them that mean the same.

use std::fs;
use std::path::{Path, PathBuf};

use crossfade::sql;
use crossfade_pgquery::{self as truth, Class};

/// The oracle's cases and the rewriter's corpus, one text each.
pub fn own() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut texts = Vec::new();
    for file in files(&tests.join("oracle/cases"), "sql") {
        let text = fs::read_to_string(&file).unwrap();
        for case in text.split("\n\n") {
            let lines = case.lines().filter(|line| !line.starts_with("--! ") && !line.starts_with("--# "));
            let case: Vec<&str> = lines.collect();
            texts.extend(case.join("\n").split(";;\n").map(str::to_owned));
        }
    }
    let corpus = fs::read_to_string(tests.join("rewrite/corpus.rs")).unwrap();
    texts.extend(corpus.lines().filter_map(rust_string));
    let bounds = texts.len();
    texts.extend(STATEMENTS.split("\n\n").map(|text| text.trim().to_owned()));
    assert!(bounds > 500, "the project's collections are found");
    texts.retain(|text| !text.trim().is_empty());
    texts
}

/// A line of the rewriter's corpus that is one string of Rust.
fn rust_string(line: &str) -> Option<String> {
    let inner = line.trim().strip_prefix('"')?.strip_suffix("\",")?;
    Some(inner.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\"))
}

/// The statements of all `.sql` files under a folder: PostgreSQL's regression suite, say. Only a way to cut files into
/// texts: what a text is, is for PostgreSQL's parser to say.
pub fn folder(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for file in files(folder, "sql") {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        let text = without_psql(&text);
        let statements = sql::classify(text.as_bytes(), true);
        texts.extend(statements.iter().map(|statement| text[statement.range.clone()].to_owned()));
    }
    texts
}

/// Leaves out psql's own commands and the data behind COPY.
fn without_psql(text: &str) -> String {
    let mut kept = String::new();
    let mut data = false;
    for line in text.lines() {
        match (data, line) {
            (true, "\\.") => data = false,
            (true, _) => {}
            (false, line) if line.starts_with('\\') => kept.push_str(";\n"),
            (false, line) => {
                // `SELECT ... \gset` and its kin end a statement too.
                let line = line.find(" \\g").map_or(line.to_owned(), |at| format!("{};", &line[..at]));
                let folded = line.to_ascii_lowercase();
                data = folded.starts_with("copy") && folded.contains("from stdin") && folded.trim_end().ends_with(';');
                kept.push_str(&line);
                kept.push('\n');
            }
        }
    }
    kept
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A repeatable source of choices.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// What stands between two tokens and means nothing, however it looks.
const GAPS: &[&str] = &[
    " ",
    "\n",
    "/**/",
    "/* ' */",
    "/* \" */",
    "/*/**/*/",
    "/* /* ' */ \" */",
    "/***//****/",
    "/*$$*/",
    "/*$a$*/ ",
    "-- '\n",
    "--\"\r",
    "\t-- /*\n",
    " --$$\n ",
    "/*;*/",
    "/*\\*/",
    "/* -- */",
    "\u{c}",
    "\r\n",
];

/// What a string constant may become: anything goes, as long as it is one.
const STRINGS: &[&str] = &[
    "'users'",
    "'it''s'",
    "'\\'",
    "'--'",
    "'/*'",
    "'$$'",
    "';'",
    "''",
    "E'\\''",
    "e'\\\\'",
    "E'\\x27 /*'",
    "E'it''s \\' -- '",
    "$$users$$",
    "$$ ' $$",
    "$a$ $$ ' -- $a$",
    "$_9$$9$ $_9$",
    "$\u{e9}$ ' $\u{e9}$",
    "N'n'",
    "U&'\\0027'",
    "U&'!0027' UESCAPE '!'",
    "'a'\n'b'",
    "'a' -- '\n 'b'",
    "E'a'\n'\\''",
    "E'\\\n'",
    "'\u{e9}'",
];

/// A text with other gaps, casing, quotes and strings, which PostgreSQL cuts in the same way, if it takes it at all.
pub fn mutated(text: &str, dice: &mut Dice) -> Option<String> {
    let tokens = truth::tokens(text)?;
    let (gaps, cases, quotes, strings) = (dice.below(3), dice.below(3), dice.below(3), dice.below(3));
    let mut out = String::new();
    let mut end = 0;
    for (class, start, next) in tokens {
        let gap = &text[end..start];
        if gaps > 0 && (start > end || dice.below(4) == 0) && end > 0 {
            out.push_str(GAPS[dice.below(GAPS.len())]);
        } else {
            out.push_str(gap);
        }
        let token = &text[start..next];
        match class {
            Class::Word if cases == 1 => out.push_str(&token.to_ascii_uppercase()),
            Class::Word if quotes == 1 && is_name(token) && dice.below(2) == 0 => {
                out.push_str(&format!("\"{}\"", token.to_ascii_lowercase()));
            }
            Class::Word if quotes == 2 && is_name(token) && dice.below(2) == 0 => out.push_str(&coded(token, dice)),
            Class::String if strings > 0 && dice.below(2) == 0 => out.push_str(STRINGS[dice.below(STRINGS.len())]),
            Class::Comment => {
                out.push_str(token);
                out.push('\n');
            }
            Class::Word | Class::String | Class::Quoted | Class::Other => out.push_str(token),
        }
        end = next;
    }
    out.push_str(&text[end..]);
    Some(out)
}

/// The names that are dressed up: those of the tables that the collections are about.
fn is_name(token: &str) -> bool {
    ["users", "people", "posts", "log", "username", "handle", "u", "p", "public"]
        .iter()
        .any(|name| token.eq_ignore_ascii_case(name))
}

/// The name as `U&"..."`, some of it in code, with an escape character told in some way.
fn coded(token: &str, dice: &mut Dice) -> String {
    let forms = [
        ("\\", ""),
        ("!", " UESCAPE '!'"),
        ("!", "/* ' */uescape'!'"),
        ("!", " UESCAPE $$!$$"),
        ("!", " UESCAPE E'\\x21'"),
        ("!", " UESCAPE ''\n'!'"),
        ("@", "\n--'\nUEscape '@'"),
    ];
    let (escape, clause) = forms[dice.below(forms.len())];
    let mut name = String::new();
    for character in token.to_ascii_lowercase().chars() {
        name.push_str(&match dice.below(3) {
            0 => format!("{escape}{:04x}", character as u32),
            1 => format!("{escape}+{:06X}", character as u32),
            _ => character.to_string(),
        });
    }
    let prefix = if dice.below(2) == 0 { "U&" } else { "u&" };
    format!("{prefix}\"{name}\"{clause}")
}

/// Statements of all kinds, and corners of the lexical rules. A blank line ends a text.
pub const STATEMENTS: &str = include_str!("statements.sql");
