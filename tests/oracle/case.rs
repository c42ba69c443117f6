//! Cases as text: what is sent, and what about it is special. The format is told in `cases/README.md`.
//!
//! Refuses a directive that it does not know, so that a typing mistake cannot weaken a case.

use crossfade::migration::{Phase, Shape};

/// One case: texts sent one after the other in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Case {
    /// The construct, for the summary.
    pub group: String,
    pub steps: Vec<String>,
    pub parameters: Vec<Option<String>>,
    /// What COPY FROM STDIN is fed.
    pub copied_in: Option<Vec<u8>>,
    /// Why a refusal would be acceptable.
    pub refusable: Option<String>,
    /// The same in phase expanded only, where no trigger stands by.
    pub refusable_expanded: bool,
    /// Settings in which something else than the rewriter is known to differ, and why.
    pub except: Vec<(String, String)>,
    /// What shape `auto` means where neither shape alone has the names.
    pub auto: Auto,
    /// Only these phases; empty for all.
    pub phases: Vec<Phase>,
    /// Only these shapes; empty for all.
    pub shapes: Vec<Shape>,
    /// Rows are a multiset although an ORDER BY stands somewhere in it.
    pub unordered: bool,
    /// Rows are not compared: a plan, a size.
    pub tag_only: bool,
    /// The message of an error is not compared, its SQLSTATE is. Says why.
    pub state_only: Option<String>,
    /// Of an error's SQLSTATE only the class is compared: one of several mistakes is reported.
    pub class_only: bool,
    /// Sent by the simple protocol only.
    pub simple_only: bool,
    /// The detail of an undefined column's error is not compared: from version 16 on it tells of columns elsewhere in the
    /// statement, of which an inline view has others than the table.
    pub lax_detail: bool,
}

/// How an `auto` session is judged where the statement fails in the old shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auto {
    /// As the new shape.
    #[default]
    AsNew,
    /// As this text does in the old shape.
    Like(String),
    /// As in the old shape, also if that is an error.
    AsOld,
    /// Not judged: an error may have become an answer.
    Free,
}

/// The cases of one file. A blank line ends a case; `;;` at the end of a line ends a text within it.
pub fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut group = file.to_owned();
    let mut cases = Vec::new();
    for block in text.split("\n\n") {
        let mut case = Case::default();
        let mut sql = String::new();
        for line in block.lines() {
            if let Some(comment) = line.strip_prefix("--! ") {
                directive(&mut case, &mut group, comment);
            } else if sql.is_empty() && (line.trim().is_empty() || line.starts_with("--# ")) {
                continue;
            } else {
                sql.push_str(line);
                sql.push('\n');
            }
        }
        case.steps = sql.split(";;\n").map(|step| step.trim_end().to_owned()).filter(|step| !step.is_empty()).collect();
        if case.steps.is_empty() {
            continue;
        }
        case.group.clone_from(&group);
        cases.push(case);
    }
    cases
}

fn directive(case: &mut Case, group: &mut String, text: &str) {
    let (name, value) = text.split_once(':').map_or((text.trim(), ""), |(name, value)| (name.trim(), value.trim()));
    let words = || value.split_whitespace();
    match name {
        "group" => value.clone_into(group),
        "params" => {
            case.parameters =
                value.split('|').map(str::trim).map(|value| (value != "NULL").then(|| value.to_owned())).collect();
        }
        "copy" => case.copied_in = Some(unescaped(value)),
        "refusable" => case.refusable = Some(value.to_owned()),
        "refusable in expanded" => case.refusable_expanded = true,
        "except" => {
            let (setting, why) = value.split_once(':').expect("a setting, a colon, why");
            case.except.push((setting.trim().to_owned(), why.trim().to_owned()));
        }
        "auto" if value == "old" => case.auto = Auto::AsOld,
        "auto" => case.auto = Auto::Like(value.to_owned()),
        "phases" if value == "before ramping" => {
            case.phases = vec![Phase::Shielded, Phase::Expanded, Phase::DualWriting, Phase::Verified];
        }
        "phases" => case.phases = words().map(|word| word.parse().expect("a phase")).collect(),
        "shapes" => case.shapes = words().map(|word| word.parse().expect("a shape")).collect(),
        "unordered" => case.unordered = true,
        "tag-only" => case.tag_only = true,
        "state-only" => case.state_only = Some(value.to_owned()),
        "simple" => case.simple_only = true,
        other => panic!("no directive is named {other:?}"),
    }
}

/// `\n`, `\t`, `\\`, `\xHH`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push(b'\n'),
                Some('t') => out.push(b'\t'),
                Some('\\') => out.push(b'\\'),
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
                }
                Some(other) => {
                    out.push(b'\\');
                    out.push(other as u8);
                }
                None => out.push(b'\\'),
            },
            (c, false) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

impl Case {
    /// The oldest major that has the syntax.
    pub fn since(&self) -> u32 {
        let has = |wanted: &str| self.steps.iter().any(|step| step.contains(wanted));
        if has("MERGE INTO") {
            15
        } else if has("bio[") {
            14
        } else {
            13
        }
    }

    /// Whether rows stand in an order that the client asked for.
    pub fn ordered(&self) -> bool {
        !self.unordered && self.steps.iter().any(|step| step.to_ascii_lowercase().contains("order by"))
    }

    /// Whether tables or sequences may have changed.
    pub fn writes(&self) -> bool {
        const WORDS: [&str; 10] =
            ["insert", "update", "delete", "merge", "copy", "truncate", "nextval", "shout", "execute", "into"];
        self.steps.iter().any(|step| {
            let step = step.to_ascii_lowercase();
            WORDS.iter().any(|word| step.contains(word))
        })
    }
}
