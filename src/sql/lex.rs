//! Cuts SQL text into tokens exactly as PostgreSQL's scanner does.
//!
//! Pure, and works on bytes: a client's text need not be UTF-8. Never parses; never fails: what is not terminated
//! becomes a token that says so (PostgreSQL will refuse the text as well).

use memchr::memchr;

use crate::schema::IDENT_BYTES_MAX;

/// The longest text that is read for rewriting, in bytes. Longer ones that mention a migrating table are refused.
pub const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most tokens of one statement that is read for rewriting. More are refused where they mention a migrating table.
pub const TOKENS_MAX: usize = 2_000_000;

/// The deepest nesting of brackets and CASE that is read for rewriting.
pub const DEPTH_MAX: usize = 500;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A bare word: identifier or keyword.
    Word,
    /// `"..."`.
    Quoted,
    /// `U&"..."`, without a `UESCAPE` that follows.
    UnicodeQuoted,
    /// `'...'`, `N'...'`, with all its continuations.
    Text,
    /// `E'...'`, or `'...'` where `standard_conforming_strings` is off.
    EscapeText,
    /// `U&'...'`.
    UnicodeText,
    /// `B'...'` or `X'...'`.
    BitText,
    /// `$tag$...$tag$`.
    DollarText,
    /// `$1`.
    Param,
    /// A number.
    Number,
    /// An operator of operator characters, `::`, `:=`, `..` or `=>`.
    Operator,
    /// One of `( ) [ ] , . ; :` or a byte that PostgreSQL does not know.
    Mark(u8),
    /// `-- ...` or `/* ... */`.
    Comment,
    /// A string, quoted name or comment that does not end.
    Unterminated,
}

impl TokenKind {
    /// Whether the token is a string constant of any form.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            TokenKind::Text
                | TokenKind::EscapeText
                | TokenKind::UnicodeText
                | TokenKind::BitText
                | TokenKind::DollarText
        )
    }

    /// Whether the token may name something.
    pub fn is_name(self) -> bool {
        matches!(self, TokenKind::Word | TokenKind::Quoted | TokenKind::UnicodeQuoted)
    }
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
}

impl Token {
    /// The token's bytes.
    pub fn bytes<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether it is this keyword (given in lower case).
    pub fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == TokenKind::Word && self.bytes(text).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether it is this one-byte mark.
    pub fn is_mark(&self, mark: u8) -> bool {
        self.kind == TokenKind::Mark(mark)
    }
}

/// The tokens of a text, comments included, white space left out.
#[derive(Debug, Clone)]
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    escapes: bool,
}

impl<'t> Lexer<'t> {
    /// Reads `text` from its beginning.
    pub fn new(text: &'t [u8], standard_conforming_strings: bool) -> Lexer<'t> {
        Lexer { text, at: 0, escapes: !standard_conforming_strings }
    }

    /// Reads `text` from a place where a token begins.
    pub(super) fn at(text: &'t [u8], at: usize, standard_conforming_strings: bool) -> Lexer<'t> {
        Lexer { text, at, escapes: !standard_conforming_strings }
    }

    /// The same without comments.
    pub fn significant(self) -> impl Iterator<Item = Token> + 't {
        self.filter(|token| token.kind != TokenKind::Comment)
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn scan(&mut self) -> TokenKind {
        let (first, second) = (self.byte(self.at), self.byte(self.at + 1));
        match first {
            b'\'' => self.text_constant(1, self.escapes),
            b'"' => self.quoted(1, TokenKind::Quoted),
            b'e' | b'E' if second == b'\'' => self.text_constant(2, true),
            b'n' | b'N' if second == b'\'' => self.text_constant(2, self.escapes),
            b'b' | b'B' | b'x' | b'X' if second == b'\'' => self.bit_constant(),
            b'u' | b'U' if second == b'&' && self.byte(self.at + 2) == b'"' => self.quoted(3, TokenKind::UnicodeQuoted),
            b'u' | b'U' if second == b'&' && self.byte(self.at + 2) == b'\'' => match self.text_constant(3, false) {
                TokenKind::Unterminated => TokenKind::Unterminated,
                _ => TokenKind::UnicodeText,
            },
            b'$' => self.dollar(),
            b'-' if second == b'-' => self.line_comment(),
            b'/' if second == b'*' => self.block_comment(),
            b'0'..=b'9' => self.number(),
            b'.' if second.is_ascii_digit() => self.number(),
            b'.' if second == b'.' => self.take(2, TokenKind::Operator),
            b':' if second == b':' || second == b'=' => self.take(2, TokenKind::Operator),
            _ if is_word_start(first) => {
                self.at = end_of_word(self.text, self.at);
                TokenKind::Word
            }
            _ if is_operator(first) => self.operator(),
            _ => self.take(1, TokenKind::Mark(first)),
        }
    }

    fn take(&mut self, bytes: usize, kind: TokenKind) -> TokenKind {
        self.at += bytes;
        kind
    }

    /// A constant in single quotes whose contents begin `prefix` bytes on, continued over newlines.
    fn text_constant(&mut self, prefix: usize, escapes: bool) -> TokenKind {
        self.at += prefix;
        loop {
            match self.byte(self.at) {
                0 if self.at >= self.text.len() => return TokenKind::Unterminated,
                b'\\' if escapes => self.at = (self.at + 2).min(self.text.len()),
                b'\'' if self.byte(self.at + 1) == b'\'' => self.at += 2,
                b'\'' => {
                    self.at += 1;
                    match continuation(self.text, self.at) {
                        Some(next) => self.at = next + 1,
                        None => return if escapes { TokenKind::EscapeText } else { TokenKind::Text },
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// A bit string: here two quotes are not one, but an end and a beginning.
    fn bit_constant(&mut self) -> TokenKind {
        self.at += 2;
        while let Some(found) = memchr(b'\'', self.text.get(self.at..).unwrap_or_default()) {
            self.at += found + 1;
            match continuation(self.text, self.at) {
                Some(next) => self.at = next + 1,
                None => return TokenKind::BitText,
            }
        }
        self.at = self.text.len();
        TokenKind::Unterminated
    }

    fn quoted(&mut self, prefix: usize, kind: TokenKind) -> TokenKind {
        self.at += prefix;
        loop {
            match memchr(b'"', &self.text[self.at.min(self.text.len())..]) {
                None => {
                    self.at = self.text.len();
                    return TokenKind::Unterminated;
                }
                Some(found) if self.byte(self.at + found + 1) == b'"' => self.at += found + 2,
                Some(found) => return self.take(found + 1, kind),
            }
        }
    }

    fn dollar(&mut self) -> TokenKind {
        if self.byte(self.at + 1).is_ascii_digit() {
            self.at += 1;
            while self.byte(self.at).is_ascii_digit() {
                self.at += 1;
            }
            return TokenKind::Param;
        }
        let mut close = self.at + 1;
        if is_word_start(self.byte(close)) {
            while is_word_part(self.byte(close)) && self.byte(close) != b'$' {
                close += 1;
            }
        }
        if self.byte(close) != b'$' {
            return self.take(1, TokenKind::Mark(b'$'));
        }
        let delimiter = &self.text[self.at..=close];
        self.at = close + 1;
        match memchr::memmem::find(&self.text[self.at..], delimiter) {
            Some(found) => self.take(found + delimiter.len(), TokenKind::DollarText),
            None => {
                self.at = self.text.len();
                TokenKind::Unterminated
            }
        }
    }

    fn line_comment(&mut self) -> TokenKind {
        self.at = memchr::memchr2(b'\n', b'\r', &self.text[self.at..]).map_or(self.text.len(), |found| self.at + found);
        TokenKind::Comment
    }

    fn block_comment(&mut self) -> TokenKind {
        let mut depth = 0usize;
        while self.at < self.text.len() {
            match (self.byte(self.at), self.byte(self.at + 1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return TokenKind::Comment;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.at = self.text.len();
        TokenKind::Unterminated
    }

    fn number(&mut self) -> TokenKind {
        let (first, second, third) = (self.byte(self.at), self.byte(self.at + 1), self.byte(self.at + 2));
        let radix = match second {
            b'x' | b'X' if third.is_ascii_hexdigit() => 16,
            b'o' | b'O' if (b'0'..=b'7').contains(&third) => 8,
            b'b' | b'B' if (b'0'..=b'1').contains(&third) => 2,
            _ => 10,
        };
        if first == b'0' && radix != 10 {
            self.at += 2;
            self.digits(|byte| (byte as char).is_digit(radix));
            return TokenKind::Number;
        }
        self.digits(|byte| byte.is_ascii_digit());
        if self.byte(self.at) == b'.' && self.byte(self.at + 1) != b'.' {
            self.at += 1;
            self.digits(|byte| byte.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.byte(self.at + 1), b'+' | b'-'));
        if matches!(self.byte(self.at), b'e' | b'E') && self.byte(self.at + 1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            self.digits(|byte| byte.is_ascii_digit());
        }
        TokenKind::Number
    }

    fn digits(&mut self, is_digit: impl Fn(u8) -> bool) {
        while is_digit(self.byte(self.at)) || (self.byte(self.at) == b'_' && is_digit(self.byte(self.at + 1))) {
            self.at += 1;
        }
    }

    /// An operator ends where a comment begins; one that ends in a sign keeps it only beside a character that no
    /// standard operator has.
    fn operator(&mut self) -> TokenKind {
        let start = self.at;
        let mut end = start;
        while is_operator(self.byte(end)) {
            let pair = (self.byte(end), self.byte(end + 1));
            if end > start && matches!(pair, (b'-', b'-') | (b'/', b'*')) {
                break;
            }
            end += 1;
        }
        let unusual = self.text[start..end].iter().any(|byte| b"~!@#^&|`?%".contains(byte));
        while end - start > 1 && !unusual && matches!(self.byte(end - 1), b'+' | b'-') {
            end -= 1;
        }
        self.at = end;
        TokenKind::Operator
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        while is_space(self.byte(self.at)) {
            self.at += 1;
        }
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let kind = self.scan();
        self.at = self.at.min(self.text.len());
        Some(Token { kind, start, end: self.at })
    }
}

/// Where the quote of a continued constant stands: behind white space with a newline in it.
fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => newline = true,
            byte if is_space(*byte) => {}
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at += memchr::memchr2(b'\n', b'\r', &text[at..])?;
                continue;
            }
            b'\'' if newline => return Some(at),
            _ => return None,
        }
        at += 1;
    }
}

fn end_of_word(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| !is_word_part(*byte)).map_or(text.len(), |length| at + length)
}

const SPACE: u8 = 1;
const WORD_START: u8 = 2;
const WORD_PART: u8 = 4;
const OPERATOR: u8 = 8;

/// What each byte may be part of. Looked up and not computed: every byte of a text is asked, in one pass after another.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => WORD_START | WORD_PART,
            b'0'..=b'9' | b'$' => WORD_PART,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' => OPERATOR,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

#[inline]
fn is_space(byte: u8) -> bool {
    is(byte, SPACE)
}

#[inline]
fn is_word_start(byte: u8) -> bool {
    is(byte, WORD_START)
}

#[inline]
fn is_word_part(byte: u8) -> bool {
    is(byte, WORD_PART)
}

#[inline]
fn is_operator(byte: u8) -> bool {
    is(byte, OPERATOR)
}

/// The name that a token stands for: folded, unquoted, decoded, cut as PostgreSQL cuts it. `None` for what is no name.
///
/// `escape` is the character that a `UESCAPE` clause behind a `U&"..."` gives, or `\`.
pub fn name(text: &[u8], token: &Token, escape: char) -> Option<String> {
    let bytes = token.bytes(text);
    let mut name = match token.kind {
        TokenKind::Word => String::from_utf8_lossy(&bytes.to_ascii_lowercase()).into_owned(),
        TokenKind::Quoted => unquote(&bytes[1..bytes.len() - 1], b'"'),
        TokenKind::UnicodeQuoted => decode_unicode(&unquote(&bytes[3..bytes.len() - 1], b'"'), escape)?,
        TokenKind::Text
        | TokenKind::EscapeText
        | TokenKind::UnicodeText
        | TokenKind::BitText
        | TokenKind::DollarText
        | TokenKind::Param
        | TokenKind::Number
        | TokenKind::Operator
        | TokenKind::Mark(_)
        | TokenKind::Comment
        | TokenKind::Unterminated => return None,
    };
    cut(&mut name);
    Some(name)
}

/// Cuts a name to the length that PostgreSQL keeps.
pub(super) fn cut(name: &mut String) {
    if name.len() > IDENT_BYTES_MAX {
        let end = (0..=IDENT_BYTES_MAX).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
    }
}

/// The value of a string constant: quotes and escapes undone, its parts joined. `None` for what is none.
///
/// Of a `U&'...'` the escapes are left as they are: nothing that is read here may be one.
pub fn string_value(text: &[u8], token: &Token) -> Option<String> {
    let bytes = token.bytes(text);
    match token.kind {
        TokenKind::Text | TokenKind::UnicodeText | TokenKind::BitText => constant_value(bytes, false),
        TokenKind::EscapeText => constant_value(bytes, true),
        TokenKind::DollarText => {
            let delimiter = memchr(b'$', bytes.get(1..)?)? + 2;
            let inner = bytes.get(delimiter..bytes.len().checked_sub(delimiter)?)?;
            Some(String::from_utf8_lossy(inner).into_owned())
        }
        TokenKind::Word
        | TokenKind::Quoted
        | TokenKind::UnicodeQuoted
        | TokenKind::Param
        | TokenKind::Number
        | TokenKind::Operator
        | TokenKind::Mark(_)
        | TokenKind::Comment
        | TokenKind::Unterminated => None,
    }
}

fn constant_value(bytes: &[u8], escapes: bool) -> Option<String> {
    let mut at = memchr(b'\'', bytes)? + 1;
    let mut value = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'\'', Some(b'\'')) => {
                value.push(b'\'');
                at += 2;
            }
            (b'\'', _) => match continuation(bytes, at + 1) {
                Some(next) => at = next + 1,
                None => break,
            },
            (b'\\', Some(_)) if escapes => at += escaped(&bytes[at + 1..], &mut value),
            (byte, _) => {
                value.push(byte);
                at += 1;
            }
        }
    }
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// Appends what the escape behind a backslash stands for; how many bytes it has, backslash included.
fn escaped(behind: &[u8], value: &mut Vec<u8>) -> usize {
    let digits = |from: usize, most: usize, radix: u32| {
        let digits = behind.get(from..).unwrap_or_default().iter().take(most);
        digits.take_while(|byte| (**byte as char).is_digit(radix)).count()
    };
    let code = |from: usize, count: usize, radix: u32| {
        let digits = behind.get(from..from + count).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()).unwrap_or(0)
    };
    match behind.first() {
        Some(b'0'..=b'7') => {
            let count = digits(0, 3, 8);
            value.push(code(0, count, 8) as u8);
            1 + count
        }
        Some(b'x') if digits(1, 2, 16) > 0 => {
            let count = digits(1, 2, 16);
            value.push(code(1, count, 16) as u8);
            2 + count
        }
        Some(letter @ (b'u' | b'U')) => {
            let count = if *letter == b'u' { 4 } else { 8 };
            let decoded = char::from_u32(code(1, count, 16)).unwrap_or(char::REPLACEMENT_CHARACTER);
            value.extend(decoded.encode_utf8(&mut [0; 4]).bytes());
            2 + digits(1, count, 16)
        }
        Some(letter) => {
            value.push(match letter {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            });
            2
        }
        None => 1,
    }
}

fn unquote(inner: &[u8], quote: u8) -> String {
    let inner = String::from_utf8_lossy(inner);
    let (one, two) = if quote == b'"' { ("\"", "\"\"") } else { ("'", "''") };
    if inner.contains(two) { inner.replace(two, one) } else { inner.into_owned() }
}

/// Undoes `\0075` and `\+000075`, surrogate pairs included. `None` where PostgreSQL would refuse the text.
fn decode_unicode(inner: &str, escape: char) -> Option<String> {
    let mut out = String::with_capacity(inner.len());
    let mut high: Option<u32> = None;
    let mut rest = inner;
    while let Some(first) = rest.chars().next() {
        if first != escape || rest[first.len_utf8()..].starts_with(escape) {
            high.is_none().then_some(())?;
            out.push(first);
            rest = &rest[first.len_utf8() * if first == escape { 2 } else { 1 }..];
            continue;
        }
        let coded = &rest[first.len_utf8()..];
        let (digits, taken) = match coded.strip_prefix('+') {
            Some(long) => (long.get(..6)?, 7),
            None => (coded.get(..4)?, 4),
        };
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        rest = &coded[taken..];
        let code = u32::from_str_radix(digits, 16).ok()?;
        match (high.take(), code) {
            (None, 0xD800..=0xDBFF) => high = Some(code),
            (Some(lead), 0xDC00..=0xDFFF) => {
                out.push(char::from_u32(0x10000 + ((lead - 0xD800) << 10) + (code - 0xDC00))?);
            }
            (None, _) => out.push(char::from_u32(code).filter(|decoded| *decoded != '\0')?),
            (Some(_), _) => return None,
        }
    }
    high.is_none().then_some(out)
}

/// The tokens of a text with the names they stand for: `U&"..."` joined with its `UESCAPE`, comments left out.
pub fn named_tokens(text: &[u8], standard_conforming_strings: bool) -> Vec<(Token, Option<String>)> {
    let tokens: Vec<Token> = Lexer::new(text, standard_conforming_strings).significant().collect();
    let mut named = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate() {
        named.push((*token, name(text, token, escape_of(text, &tokens, index))));
    }
    named
}

/// The escape character of the `U&` token at `index`: what `UESCAPE` behind it says, or `\`.
pub fn escape_of(text: &[u8], tokens: &[Token], index: usize) -> char {
    if tokens[index].kind != TokenKind::UnicodeQuoted {
        return '\\';
    }
    match (tokens.get(index + 1), tokens.get(index + 2)) {
        (Some(word), Some(value)) if word.is_word(text, "uescape") => {
            string_value(text, value).and_then(|value| value.chars().next()).unwrap_or('\\')
        }
        _ => '\\',
    }
}

#[cfg(test)]
#[path = "lex_tests.rs"]
mod tests;
