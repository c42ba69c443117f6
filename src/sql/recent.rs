//! The plans that were used last, each with a text that it was used for. A text that differs from one of those in its
//! literals alone has its plan: it need not be cut into tokens to know.
//!
//! What is between two literals is compared as bytes, and only a literal is lexed. Where all between them is the same and
//! each literal is of the same class, the tokens are the same but for the literals: the lexer keeps nothing from one
//! token to the next, and looks no further back than to where a token begins.

use std::ops::Range;
use std::sync::Arc;

use super::shape::class_of_literal;
use super::template::Template;

/// How many bytes of its beginning a text is looked up by. A text with a literal among them is not kept here.
const HEAD_BYTES: usize = 24;

/// Sets of texts, and texts of a set: those that share their beginnings, which columns' lists often do.
const SETS: usize = 64;
const WAYS: usize = 8;

/// The longest text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A text and its plan.
#[derive(Debug)]
struct Sample<R> {
    rest: R,
    text: Box<str>,
    /// Where its literals are, and of which class each is.
    literals: Box<[(Range<u32>, u8)]>,
    plan: Arc<Template>,
}

/// The last texts, in sets by their beginnings; in each set the last used one comes first. `R` is all that a plan depends
/// on besides its text.
#[derive(Debug)]
pub(super) struct Recent<R> {
    sets: Vec<Vec<Sample<R>>>,
    hasher: ahash::RandomState,
}

impl<R: PartialEq> Recent<R> {
    pub fn new() -> Recent<R> {
        Recent { sets: Vec::new(), hasher: ahash::RandomState::new() }
    }

    /// The plan of a text that differs from a kept one in its literals alone. `literals` is left with where they are.
    pub fn find(
        &mut self,
        text: &str,
        rest: &R,
        standard_conforming_strings: bool,
        literals: &mut Vec<Range<u32>>,
    ) -> Option<&Arc<Template>> {
        let set = self.set(text)?;
        let samples = self.sets.get_mut(set)?;
        let at = samples
            .iter()
            .position(|sample| sample.rest == *rest && sample.fits(text, standard_conforming_strings, literals))?;
        samples[..=at].rotate_right(1);
        samples.first().map(|sample| &sample.plan)
    }

    /// Keeps a text whose plan was found or made otherwise.
    pub fn keep(
        &mut self,
        text: &str,
        rest: R,
        standard_conforming_strings: bool,
        literals: &[Range<u32>],
        plan: &Arc<Template>,
    ) {
        let in_head = literals.first().is_some_and(|literal| (literal.start as usize) < HEAD_BYTES);
        if in_head || text.len() > TEXT_BYTES_MAX {
            return;
        }
        let Some(set) = self.set(text) else { return };
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, Vec::new);
        }
        let class = |literal: &Range<u32>| {
            let (_, class) = class_of_literal(text.as_bytes(), literal.start as usize, standard_conforming_strings)?;
            Some((literal.clone(), class))
        };
        let Some(literals) = literals.iter().map(class).collect() else { return };
        let samples = &mut self.sets[set];
        samples.truncate(WAYS - 1);
        samples.insert(0, Sample { rest, text: text.into(), literals, plan: Arc::clone(plan) });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sets = Vec::new();
    }

    fn set(&self, text: &str) -> Option<usize> {
        let head = text.as_bytes().get(..HEAD_BYTES)?;
        Some(self.hasher.hash_one(head) as usize % SETS)
    }
}

impl<R> Sample<R> {
    fn fits(&self, text: &str, standard_conforming_strings: bool, literals: &mut Vec<Range<u32>>) -> bool {
        let (own, text) = (self.text.as_bytes(), text.as_bytes());
        let (mut own_at, mut at) = (0, 0);
        literals.clear();
        for (literal, class) in &self.literals {
            let between = &own[own_at..literal.start as usize];
            if !text[at..].starts_with(between) {
                return false;
            }
            at += between.len();
            let Some((end, found)) = class_of_literal(text, at, standard_conforming_strings) else { return false };
            if found != *class {
                return false;
            }
            literals.push(at as u32..end as u32);
            (own_at, at) = (literal.end as usize, end);
        }
        text[at..] == own[own_at..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Rewrite;
    use super::super::shape::Shape;
    use super::*;

    /// What a text of the same shape as another one is: the same key, whatever its literals.
    fn key(text: &str, strings: bool) -> Option<(Vec<u8>, Vec<Range<u32>>)> {
        let mut shape = Shape::default();
        shape.read(text, strings).then_some((shape.key, shape.literals))
    }

    fn kept(texts: &[&str], strings: bool) -> Recent<u8> {
        let mut recent = Recent::new();
        let plan = Arc::new(Template::of_text(Rewrite::Unchanged));
        for text in texts {
            if let Some((_, literals)) = key(text, strings) {
                recent.keep(text, 1, strings, &literals, &plan);
            }
        }
        recent
    }

    #[test]
    fn a_text_with_other_literals_is_found_and_no_other() {
        let sample = "SELECT username FROM users WHERE id = 5 AND email = 'a' LIMIT 1";
        for (text, found) in [
            (sample, true),
            ("SELECT username FROM users WHERE id = 777 AND email = 'it''s; --' LIMIT 20", true),
            ("SELECT username FROM users WHERE id = 5 AND email = 'a' LIMIT 1 ", false),
            ("SELECT username FROM users WHERE id = 5.0 AND email = 'a' LIMIT 1", false),
            ("SELECT username FROM users WHERE id = '5' AND email = 'a' LIMIT 1", false),
            ("SELECT username FROM users WHERE id = 5 AND email = E'a' LIMIT 1", false),
            ("SELECT username FROM users WHERE id = 5 AND email = 'a'\n'b' LIMIT 1", true),
            ("SELECT username FROM users WHERE id = 5 AND email = 'a' OR 'b' LIMIT 1", false),
            ("SELECT username FROM users WHERE id = 5e1 AND email = 'a' LIMIT 1", false),
            ("SELECT username FROM users WHERE id = $1 AND email = 'a' LIMIT 1", false),
            ("SELECT username FROM users WHERE id = 5 AND email = 'a", false),
            ("SELECT username FROM users WHERE id = 5", false),
        ] {
            let mut literals = Vec::new();
            let mut recent = kept(&[sample], true);
            assert_eq!(recent.find(text, &1, true, &mut literals).is_some(), found, "{text}");
            assert!(recent.find(text, &2, true, &mut literals).is_none(), "{text}");
        }
    }

    #[test]
    fn the_last_ones_of_a_beginning_stay() {
        let texts: Vec<String> =
            (0..WAYS + 3).map(|n| format!("SELECT username FROM users ORDER BY column_{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut recent = kept(&texts, true);
        let found: Vec<bool> =
            texts.iter().map(|text| recent.find(text, &1, true, &mut Vec::new()).is_some()).collect();
        assert_eq!(found.iter().filter(|found| **found).count(), WAYS);
        assert!(found.ends_with(&[true; WAYS]));
    }

    proptest! {
        #[test]
        fn what_is_found_has_the_same_shape(
            first in proptest::collection::vec(0usize..24, 1..9),
            second in proptest::collection::vec(0usize..24, 1..9),
            swapped in 0usize..24,
            strings in any::<bool>(),
        ) {
            const PIECES: [&str; 24] = [
                "5", "1.5", "'a'", "'it''s'", "E'\\''", "e'x'", "$$q$$", "$1", "U&'a'", " UESCAPE '!'", "B'1'", "x'f'", " ", "\n", "-",
                "--c\n", "/*5*/", "a", "1a", "by 1", "(", ")", ".", "'\\'",
            ];
            let text = |pieces: &[usize]| {
                let tail: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
                format!("SELECT username FROM users WHERE {tail}")
            };
            let mut near = first.clone();
            near[0] = swapped;
            let sample = text(&first);
            let mut recent = kept(&[&sample], strings);
            for other in [text(&second), text(&near), sample.clone()] {
                let mut literals = Vec::new();
                if recent.find(&other, &1, strings, &mut literals).is_some() {
                    let (own, found) = (key(&sample, strings).unwrap(), key(&other, strings).unwrap());
                    prop_assert_eq!(&own.0, &found.0, "{:?} {:?}", sample, other);
                    prop_assert_eq!(literals, found.1);
                }
            }
        }
    }
}
