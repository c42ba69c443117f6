use super::*;

fn lexed(text: &str, scs: bool) -> Vec<String> {
    Lexer::new(text.as_bytes(), scs).map(|t| format!("{:?} {}", t.kind, &text[t.start..t.end])).collect()
}

#[test]
fn operators_end_where_a_comment_begins() {
    assert_eq!(lexed("a <>/*'*/ 1", true), ["Word a", "Operator <>", "Comment /*'*/", "Number 1"]);
    assert_eq!(lexed("a<--b\nc", true), ["Word a", "Operator <", "Comment --b", "Word c"]);
    assert_eq!(lexed("1*-2", true), ["Number 1", "Operator *", "Operator -", "Number 2"]);
    assert_eq!(lexed("a @- b", true), ["Word a", "Operator @-", "Word b"]);
}

#[test]
fn strings_end_where_postgresql_ends_them() {
    assert_eq!(lexed(r"'a\' b", true), [r"Text 'a\'", "Word b"]);
    assert_eq!(lexed(r"'a\' b'", false), [r"EscapeText 'a\' b'"]);
    assert_eq!(lexed(r"E'a\'b' c", true), [r"EscapeText E'a\'b'", "Word c"]);
    assert_eq!(lexed("'a'\n -- x\n 'b' 'c'", true), ["Text 'a'\n -- x\n 'b'", "Text 'c'"]);
    assert_eq!(lexed("'a' 'b'", true), ["Text 'a'", "Text 'b'"]);
    assert_eq!(lexed("$a$ ' $b$ $a$ x", true), ["DollarText $a$ ' $b$ $a$", "Word x"]);
    assert_eq!(lexed("a$b$c $1", true), ["Word a$b$c", "Param $1"]);
    assert_eq!(lexed("B'01' X'ff' N'n' U&'\\0061'", true).len(), 4);
    assert_eq!(lexed("/* a /* b */ c */ d", true), ["Comment /* a /* b */ c */", "Word d"]);
    assert_eq!(lexed("B'0''1' X'a'\n'b'", true), ["BitText B'0'", "Text '1'", "BitText X'a'\n'b'"]);
    assert_eq!(lexed(r"B'0''\'' y", false), ["BitText B'0'", r"EscapeText '\''", "Word y"]);
    assert_eq!(lexed("'open", true), ["Unterminated 'open"]);
    assert_eq!(lexed("/* open /* */", true), ["Unterminated /* open /* */"]);
}

#[test]
fn numbers_let_go_of_what_is_not_theirs() {
    assert_eq!(lexed("1FROM", true), ["Number 1", "Word FROM"]);
    assert_eq!(
        lexed("1..10 1.5e-3 0x1F .5 1e", true).join(" | "),
        "Number 1 | Operator .. | Number 10 | Number 1.5e-3 | Number 0x1F | Number .5 | Number 1 | Word e"
    );
}

#[test]
fn names_are_folded_decoded_and_cut() {
    let of = |text: &str| named_tokens(text.as_bytes(), true).into_iter().next().and_then(|(_, name)| name);
    assert_eq!(of("UsErs").as_deref(), Some("users"));
    assert_eq!(of("ÜBER").as_deref(), Some("Über"));
    assert_eq!(of("\"Us\"\"ers\"").as_deref(), Some("Us\"ers"));
    assert_eq!(of("U&\"\\0075sers\"").as_deref(), Some("users"));
    assert_eq!(of("U&\"!0075sers\" UESCAPE '!'").as_deref(), Some("users"));
    // The escape character may come in any form of a string constant.
    for escape in ["E'\\x21'", "E'\\041'", "E'\\u0021'", "$$!$$", "$a$!$a$", "''\n'!'", "/* ' */ -- '\n '!'"] {
        assert_eq!(of(&format!("U&\"!0075sers\" UESCAPE {escape}")).as_deref(), Some("users"), "{escape}");
    }
    assert_eq!(of("u&\"\\+000075s\\\\\"").as_deref(), Some("us\\"));
    assert_eq!(of(&"x".repeat(70)).map(|name| name.len()), Some(63));
    assert_eq!(of(&format!("\"{}ü\"", "x".repeat(62))).map(|name| name.len()), Some(62));
}
