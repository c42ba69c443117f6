//! Reads one statement into a syntax tree, over a copy of its text in which nothing can be misread.
//!
//! The copy has the client's layout, byte for byte; string constants, comments and unusual names are blanked out by our
//! own lexer, so that where a token begins and ends is never a reader's opinion. Names are looked up by place.
//! Refuses what is too long or too deep to read.

use std::borrow::Cow;
use std::ops::Range;

use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::classify;
use super::lex::{self, DEPTH_MAX, Lexer, TEXT_BYTES_MAX, TOKENS_MAX, Token, TokenKind};
use super::template::Notes;

/// What the reader has against a query without outputs, which PostgreSQL takes, in a subquery.
const NO_TARGET: &str = "Expected a target after SELECT";

/// The most operators and joins of one statement: they nest to the left in a syntax tree.
pub const CHAIN_MAX: usize = 50_000;

/// The most operators in one run of what the tree's reader looks for among what it has seen: it looks at each such node's
/// whole subtree whenever its table of them grows, so that the time goes with the square.
const RUN_MAX: usize = 4_000;

/// The most tokens of a type's name, its modifier and bounds included.
const TYPE_TOKENS_MAX: usize = 24;

/// The most tables and subqueries of one statement: each is held against the others.
pub const TABLES_MAX: usize = 4_000;

/// The most tokens that may stand in one another: all between two commas, and those of the brackets around.
const NESTED_TOKENS_MAX: usize = 100_000;

/// How many tokens a set operation or join counts as where it nests.
const SET_TOKENS: usize = 4;

/// Stack that any reading may need, in bytes; and what each level of brackets and each token that may nest may add.
const STACK_BYTES: usize = 512 * 1024;
const STACK_BYTES_PER_LEVEL: usize = 48 * 1024;
const STACK_BYTES_PER_TOKEN: usize = 4 * 1024;

/// A text cut into tokens and statements.
#[derive(Debug)]
pub struct Text<'t> {
    /// The client's text.
    pub source: &'t str,
    /// Its tokens without comments, each with the name it stands for.
    pub tokens: Vec<(Token, Option<String>)>,
    /// The token ranges of its statements.
    pub statements: Vec<Range<usize>>,
    /// What planning asks about the client's constants.
    pub notes: Notes,
    blank: String,
}

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It ends inside a string, quoted name or comment: PostgreSQL reads nothing of it and executes nothing.
    Unterminated,
    /// It is beyond a bound; which one.
    TooLarge(&'static str),
}

impl<'t> Text<'t> {
    /// Cuts the text.
    pub fn new(source: &'t str, standard_conforming_strings: bool) -> Result<Text<'t>, Unread> {
        if source.len() > TEXT_BYTES_MAX {
            return Err(Unread::TooLarge("bytes"));
        }
        let bytes = source.as_bytes();
        let all: Vec<Token> = Lexer::new(bytes, standard_conforming_strings).collect();
        if all.iter().any(|token| token.kind == TokenKind::Unterminated) {
            return Err(Unread::Unterminated);
        }
        if all.len() > TOKENS_MAX {
            return Err(Unread::TooLarge("tokens"));
        }
        let blank = blank(bytes, &all);
        let significant: Vec<Token> = all.into_iter().filter(|token| token.kind != TokenKind::Comment).collect();
        let statements = classify::split(bytes, &significant);
        let tokens = significant
            .iter()
            .enumerate()
            .map(|(index, token)| (*token, lex::name(bytes, token, lex::escape_of(bytes, &significant, index))))
            .collect();
        Ok(Text { source, tokens, statements, notes: Notes::default(), blank })
    }

    /// The statement over these tokens.
    pub fn piece(&self, tokens: Range<usize>) -> Piece<'_> {
        let tokens = self.tokens.get(tokens).unwrap_or_default();
        let range = match (tokens.first(), tokens.last()) {
            (Some((first, _)), Some((last, _))) => first.start..last.end,
            (None, _) | (_, None) => 0..0,
        };
        Piece {
            source: self.source,
            blank: self.blank.get(range.clone()).unwrap_or_default(),
            tokens,
            range,
            notes: &self.notes,
        }
    }
}

/// One statement of a text.
#[derive(Debug, Clone)]
pub struct Piece<'t> {
    /// The whole text: every place in it is counted from its beginning.
    pub source: &'t str,
    /// The statement in the copy that readers read.
    pub blank: &'t str,
    /// Its tokens.
    pub tokens: &'t [(Token, Option<String>)],
    /// Its bytes in the whole text.
    pub range: Range<usize>,
    /// What planning asks about the client's constants.
    notes: &'t Notes,
}

impl Piece<'_> {
    /// The name that the token at this place of the whole text stands for.
    pub fn name_at(&self, place: usize) -> Option<&str> {
        let index = self.tokens.binary_search_by_key(&place, |(token, _)| token.start).ok()?;
        self.tokens[index].1.as_deref()
    }

    /// The token at this place.
    pub fn token_at(&self, place: usize) -> Option<&Token> {
        let index = self.tokens.binary_search_by_key(&place, |(token, _)| token.start).ok()?;
        Some(&self.tokens[index].0)
    }

    /// Whether the n-th token is this keyword.
    pub fn is_word(&self, index: usize, word: &str) -> bool {
        self.tokens.get(index).is_some_and(|(token, _)| token.is_word(self.source.as_bytes(), word))
    }

    /// Whether the statement is within what is read; which bound it breaks otherwise.
    pub fn bounds(&self) -> Result<Bounds, Unread> {
        const LINKS: [&str; 9] = ["and", "or", "not", "collate", "at", "is", "isnull", "notnull", "explain"];
        // What nests across commas of its own level.
        const SETS: [&str; 3] = ["union", "except", "intersect"];
        let text = self.source.as_bytes();
        let (mut deepest, mut chain, mut tables, mut sets) = (0usize, 0usize, 0usize, 0usize);
        let mut runs = Runs::default();
        for (index, (token, _)) in self.tokens.iter().enumerate() {
            runs.token();
            match token.kind {
                TokenKind::Mark(b'(') => runs.open(),
                TokenKind::Mark(b'[') => {
                    runs.link(false);
                    runs.open();
                }
                TokenKind::Mark(b')' | b']') => runs.close(),
                TokenKind::Mark(b',') => runs.next(),
                TokenKind::Operator | TokenKind::Mark(b'.') => {
                    chain += 1;
                    runs.link(self.is_spaced(index));
                }
                TokenKind::Word if token.is_word(text, "case") => runs.open(),
                TokenKind::Word if token.is_word(text, "end") => runs.close(),
                TokenKind::Word if token.is_word(text, "from") => tables += 1,
                TokenKind::Word if token.is_word(text, "join") => (chain, tables) = (chain + 1, tables + 1),
                TokenKind::Word if SETS.iter().any(|word| token.is_word(text, word)) => {
                    (chain, sets) = (chain + 1, sets + 1)
                }
                TokenKind::Word if LINKS.iter().any(|word| token.is_word(text, word)) => {
                    chain += 1;
                    let joins = token.is_word(text, "and") || token.is_word(text, "or");
                    runs.link(joins && self.is_spaced(index));
                }
                TokenKind::Word
                | TokenKind::Quoted
                | TokenKind::UnicodeQuoted
                | TokenKind::Text
                | TokenKind::EscapeText
                | TokenKind::UnicodeText
                | TokenKind::BitText
                | TokenKind::DollarText
                | TokenKind::Param
                | TokenKind::Number
                | TokenKind::Mark(_)
                | TokenKind::Comment
                | TokenKind::Unterminated => {}
            }
            deepest = deepest.max(runs.outer.len());
        }
        runs.end();
        if deepest > DEPTH_MAX {
            return Err(Unread::TooLarge("nested brackets"));
        }
        if chain > CHAIN_MAX || runs.longest > NESTED_TOKENS_MAX || runs.weight > RUN_MAX * RUN_MAX {
            return Err(Unread::TooLarge("operators"));
        }
        if tables > TABLES_MAX {
            return Err(Unread::TooLarge("tables"));
        }
        Ok(Bounds { deepest, nested: runs.longest + (sets + tables) * SET_TOKENS })
    }

    /// Whether the n-th token stands between two operands, with a blank on either side.
    fn is_spaced(&self, index: usize) -> bool {
        let token = &self.tokens[index].0;
        let (start, end) = (token.start - self.range.start, token.end - self.range.start);
        let blank = |at: Option<usize>| {
            at.and_then(|at| self.blank.as_bytes().get(at)).is_some_and(|byte| byte.is_ascii_whitespace())
        };
        let operand = index.checked_sub(1).is_some_and(|before| {
            !matches!(self.tokens[before].0.kind, TokenKind::Operator | TokenKind::Mark(b'(' | b'[' | b','))
        });
        operand && blank(start.checked_sub(1)) && blank(Some(end))
    }

    /// The statement's syntax tree; `None` where the reader does not take it for exactly one statement.
    pub fn tree(&self) -> Option<SyntaxNode> {
        let parse = SourceFile::parse(&self.with_operands());
        let root = parse.syntax_node();
        let mut statements = root.children();
        let statement = statements.next()?;
        let clean = statements.next().is_none() && parse.errors().iter().all(|e| e.message() == NO_TARGET);
        let whole = usize::from(root.text_range().len()) == self.blank.len();
        let known = root.descendants().all(|node| node.kind() != SyntaxKind::ERROR && !has_loose_operand(&node));
        (clean && whole && known).then_some(statement)
    }

    /// The text as the tree's reader gets it. Behind a cast or COLLATE it does not take BETWEEN for an operator on what stands
    /// before: it gets an operator of the same length there, which it does. To us one is as good as the other.
    fn with_operands(&self) -> Cow<'_, str> {
        let mut changed: Option<Vec<u8>> = None;
        for at in (0..self.tokens.len()).filter(|at| self.is_word(*at, "between") && self.is_behind_type(*at)) {
            let text = changed.get_or_insert_with(|| self.blank.as_bytes().to_vec());
            let mut put = |index: usize, with: u8| {
                let token = &self.tokens[index].0;
                text[token.start - self.range.start..token.end - self.range.start].fill(with);
            };
            put(at, b'@');
            if at > 0 && self.is_word(at - 1, "not") {
                put(at - 1, b' ');
            }
            if self.is_word(at + 1, "symmetric") || self.is_word(at + 1, "asymmetric") {
                put(at + 1, b' ');
            }
        }
        changed.and_then(|text| String::from_utf8(text).ok()).map_or(Cow::Borrowed(self.blank), Cow::Owned)
    }

    /// Whether nothing but a type, or a collation, may stand between the n-th token and a cast, or COLLATE, before it.
    fn is_behind_type(&self, index: usize) -> bool {
        let frames = ["rows", "range", "groups"];
        let of_frame = index > 0 && frames.iter().any(|word| self.is_word(index - 1, word));
        let parts = self.tokens[..index].iter().rev().take(TYPE_TOKENS_MAX).take_while(|(token, _)| {
            let mark = matches!(token.kind, TokenKind::Mark(b'.' | b'[' | b']' | b'(' | b')' | b','));
            mark || token.kind.is_name() || token.kind == TokenKind::Number
        });
        let before = index.checked_sub(parts.clone().count() + 1).map(|at| self.tokens[at].0);
        let cast = before.is_some_and(|token| token.bytes(self.source.as_bytes()) == b"::");
        let collate = || parts.clone().any(|(token, _)| token.is_word(self.source.as_bytes(), "collate"));
        !of_frame && (cast || collate())
    }

    /// Whether all that the reader misses is missed at the statement's end.
    pub fn ends_early(&self) -> bool {
        let parse = SourceFile::parse(&self.with_operands());
        let errors = parse.errors();
        !errors.is_empty() && errors.iter().all(|error| usize::from(error.range().start()) >= self.blank.len())
    }

    /// The bytes of a node in the whole text, white space at its ends left out.
    pub fn range_of(&self, node: &SyntaxNode) -> Range<usize> {
        let (start, end) = (usize::from(node.text_range().start()), usize::from(node.text_range().end()));
        let text = self.blank.get(start..end).unwrap_or_default();
        let lead = text.len() - text.trim_ascii_start().len();
        let trail = text.trim_ascii_start().len() - text.trim_ascii().len();
        self.range.start + start + lead..self.range.start + end - trail
    }

    /// The value of a constant: what is planned by it holds for this value only. The one way to look at a constant.
    pub fn value_of(&self, node: &SyntaxNode) -> &str {
        self.notes.value_read(self.range_of(node));
        self.text_of(node)
    }

    /// Whether a node is no longer than that, its constants included. The one way to judge a length.
    pub fn is_within(&self, node: &SyntaxNode, bytes_max: usize) -> bool {
        self.notes.is_within(self.range_of(node), bytes_max)
    }

    /// The client's text of a node, to be copied. Constants in it may be stand-ins: it says nothing about them.
    pub fn text_of(&self, node: &SyntaxNode) -> &str {
        self.source.get(self.range_of(node)).unwrap_or_default()
    }
}

/// Whether two operands stand in a node with nothing between them: the reader lost what joins them.
fn has_loose_operand(node: &SyntaxNode) -> bool {
    let mut before = false;
    node.children_with_tokens().any(|part| match part.as_node() {
        None => {
            before &= matches!(part.kind(), SyntaxKind::WHITESPACE);
            false
        }
        Some(part) => std::mem::replace(&mut before, is_operand(part.kind())) && is_operand(part.kind()),
    })
}

fn is_operand(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        SyntaxKind::BETWEEN_EXPR
            | SyntaxKind::BIN_EXPR
            | SyntaxKind::CALL_EXPR
            | SyntaxKind::CASE_EXPR
            | SyntaxKind::CAST_EXPR
            | SyntaxKind::FIELD_EXPR
            | SyntaxKind::INDEX_EXPR
            | SyntaxKind::LITERAL
            | SyntaxKind::NAME_REF
            | SyntaxKind::PAREN_EXPR
            | SyntaxKind::POSTFIX_EXPR
            | SyntaxKind::PREFIX_EXPR
            | SyntaxKind::SLICE_EXPR
    )
}

/// What may stand in one another: all that no comma sets apart, and what is around it.
#[derive(Debug, Default)]
struct Runs {
    /// Those of the brackets around, which go on behind them.
    outer: Vec<Run>,
    run: Run,
    /// The tokens of the runs around.
    around: usize,
    /// The most tokens in one another.
    longest: usize,
    /// The squares of all runs of operators.
    weight: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Run {
    tokens: usize,
    /// Operators that no blanks set apart: nodes of three parts, in one another.
    operators: usize,
}

impl Runs {
    fn token(&mut self) {
        self.run.tokens += 1;
        self.longest = self.longest.max(self.around + self.run.tokens);
    }

    fn open(&mut self) {
        self.around += self.run.tokens;
        self.outer.push(std::mem::take(&mut self.run));
    }

    fn close(&mut self) {
        self.end();
        self.run = self.outer.pop().unwrap_or_default();
        self.around -= self.run.tokens;
    }

    fn link(&mut self, spaced: bool) {
        if spaced { self.end() } else { self.run.operators += 1 }
    }

    fn next(&mut self) {
        self.end();
        self.run.tokens = 0;
    }

    fn end(&mut self) {
        let operators = std::mem::take(&mut self.run.operators);
        self.weight = self.weight.saturating_add(operators.saturating_mul(operators));
    }
}

/// How much of the stack reading a statement may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    deepest: usize,
    nested: usize,
}

impl Bounds {
    /// Runs `read` with enough stack.
    pub fn with_stack<T>(self, read: impl FnOnce() -> T) -> T {
        let bytes = STACK_BYTES + self.deepest * STACK_BYTES_PER_LEVEL + self.nested * STACK_BYTES_PER_TOKEN;
        stacker::maybe_grow(bytes, bytes + STACK_BYTES, read)
    }
}

/// PostgreSQL takes STDIN and STDOUT for both ways of a COPY, readers take the one that fits. A file stands for the other one:
/// which it is, is asked of the text itself.
fn turn_copies(copy: &mut [u8], text: &[u8], tokens: &[Token]) {
    let (mut depth, mut before, mut of_copy) = (0usize, None::<&Token>, false);
    for token in tokens.iter().filter(|token| token.kind != TokenKind::Comment) {
        if before.is_none_or(|before| before.kind == TokenKind::Mark(b';')) {
            (depth, of_copy) = (0, token.is_word(text, "copy"));
        }
        match token.kind {
            TokenKind::Mark(b'(') => depth += 1,
            TokenKind::Mark(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        let behind = |word: &str| before.is_some_and(|before| before.is_word(text, word));
        if of_copy && depth == 0 {
            if behind("to") && token.is_word(text, "stdin") {
                fill(copy, token, b'x', Some(b'\''));
            } else if behind("from") && token.is_word(text, "stdout") {
                copy[token.start..token.end].copy_from_slice(b"stdin ");
            }
        }
        before = Some(token);
    }
}

/// The copy that readers read.
fn blank(text: &[u8], tokens: &[Token]) -> String {
    let mut copy = text.to_vec();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token.kind {
            TokenKind::Comment => fill(&mut copy, token, b' ', None),
            TokenKind::Text | TokenKind::EscapeText | TokenKind::DollarText => {
                fill(&mut copy, token, b'x', Some(b'\''))
            }
            TokenKind::UnicodeText | TokenKind::UnicodeQuoted => {
                // With its UESCAPE it is one name, or one constant, also where it is moved or copied.
                let last = index + uescape(text, tokens, index);
                let whole = Token { end: tokens[last].end, ..*token };
                fill(&mut copy, &whole, b'x', Some(if token.kind.is_name() { b'"' } else { b'\'' }));
                index = last;
            }
            TokenKind::BitText => {
                fill(&mut copy, token, b'0', Some(b'\''));
                copy[token.start] = b'B';
                copy[token.start + 1] = b'\'';
            }
            TokenKind::Quoted => {
                let inner = &text[token.start + 1..token.end - 1];
                if !inner.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
                    fill(&mut copy, token, b'x', Some(b'"'));
                }
            }
            TokenKind::Word if !token.bytes(text).is_ascii() => fill(&mut copy, token, b'x', None),
            TokenKind::Word
            | TokenKind::Param
            | TokenKind::Number
            | TokenKind::Operator
            | TokenKind::Mark(_)
            | TokenKind::Unterminated => {}
        }
        index += 1;
    }
    turn_copies(&mut copy, text, tokens);
    // Every byte beyond ASCII stood in a token that was filled, or is a mark that no reader knows.
    copy.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    String::from_utf8(copy).unwrap_or_default()
}

fn fill(copy: &mut [u8], token: &Token, with: u8, ends: Option<u8>) {
    copy[token.start..token.end].fill(with);
    if let Some(end) = ends {
        copy[token.start] = end;
        copy[token.end - 1] = end;
    }
}

/// How many tokens a `UESCAPE 'x'` behind the token at `index` has, comments before and in it included.
fn uescape(text: &[u8], tokens: &[Token], index: usize) -> usize {
    let mut behind = tokens.iter().enumerate().skip(index + 1).filter(|(_, token)| token.kind != TokenKind::Comment);
    match (behind.next(), behind.next()) {
        (Some((_, word)), Some((last, value))) if word.is_word(text, "uescape") && value.kind.is_text() => last - index,
        (_, _) => 0,
    }
}
