//! A plan that holds for every text of one shape: edits whose places and copied pieces are told by the literals.
//!
//! Made by planning the canonical text, in which no literal can be read: a plan that was made without the literals is
//! moved onto those of a text. What planning may know of them (how long an expression is) it asks through [`Notes`].

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::edits::Edits;
use super::shape::{Canonical, Part};
use super::{Context, Rewrite, rewrite_noted};
use crate::schema::Refusal;

/// What planning asked about the client's constants.
#[derive(Debug, Default)]
pub(super) struct Notes {
    asked: RefCell<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// These bytes were held against that length.
    lengths: Vec<(Range<usize>, usize)>,
    /// The value of the constant in these bytes was looked at.
    values: Vec<Range<usize>>,
}

impl Notes {
    /// Whether the bytes are no more than that many.
    pub fn is_within(&self, range: Range<usize>, bytes_max: usize) -> bool {
        let within = range.len() <= bytes_max;
        self.asked.borrow_mut().lengths.push((range, bytes_max));
        within
    }

    /// The value of what stands there decides.
    pub fn value_read(&self, range: Range<usize>) {
        self.asked.borrow_mut().values.push(range);
    }
}

/// A place, told by the literal before it: the first byte of the text or the byte behind that literal, and how far on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    literals_before: u32,
    further: u32,
}

#[derive(Debug)]
struct Edit {
    start: Place,
    end: Place,
    parts: Box<[Part]>,
}

#[derive(Debug)]
enum Answer {
    Unchanged,
    Rewritten { edits: Box<[Edit]>, warnings: Box<[String]>, grown_bytes: usize, stop: Option<Box<(Place, Told)>> },
    Refused(Told),
}

/// A refusal, and the place that it is about.
#[derive(Debug)]
struct Told {
    refusal: Refusal,
    at: Option<Place>,
}

/// An expression whose length decided: that it was within the bound, or not.
#[derive(Debug)]
struct Length {
    start: Place,
    end: Place,
    bytes_max: usize,
    within: bool,
}

/// The plan of a shape.
#[derive(Debug)]
pub(super) struct Template {
    answer: Answer,
    lengths: Box<[Length]>,
}

impl Template {
    /// The plan of one text, as it stands.
    pub fn of_text(rewrite: Rewrite) -> Template {
        let place = |byte: usize| Some(Place { literals_before: 0, further: byte as u32 });
        let own = |text: &str| Some(vec![Part::Own(text.into())]);
        let answer = answer(rewrite, place, own);
        Template { answer: answer.unwrap_or(Answer::Unchanged), lengths: Box::default() }
    }

    /// The plan of all texts of a shape; `None` where there is none, since what the literals are matters.
    pub fn of_shape(canonical: &Canonical, cx: &Context<'_>) -> Option<Template> {
        let (rewrite, notes) = rewrite_noted(&canonical.text, cx);
        let asked = notes.asked.into_inner();
        let place = |byte: usize| place_in(canonical, byte);
        let read = |range: &Range<usize>| {
            canonical.literals.iter().any(|l| (l.start as usize) < range.end && (l.end as usize) > range.start)
        };
        if asked.values.iter().any(read) {
            return None;
        }
        let lengths = asked.lengths.into_iter().map(|(range, bytes_max)| {
            let within = range.len() <= bytes_max;
            Some(Length { start: place(range.start)?, end: place(range.end)?, bytes_max, within })
        });
        let lengths = lengths.collect::<Option<Box<[Length]>>>()?;
        let answer = answer(rewrite, place, |text| canonical.parts(text))?;
        Some(Template { answer, lengths })
    }

    /// What it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Own(text) => text.len() + size_of::<Part>(),
            Part::Literal(_) => size_of::<Part>(),
        };
        let answer = match &self.answer {
            Answer::Unchanged => 0,
            Answer::Rewritten { edits, .. } => {
                edits.iter().map(|e| size_of::<Edit>() + e.parts.iter().map(part).sum::<usize>()).sum()
            }
            Answer::Refused(told) => told.refusal.message.len() + size_of::<Refusal>() + 256,
        };
        size_of::<Template>() + answer + self.lengths.len() * size_of::<Length>()
    }
}

fn place_in(canonical: &Canonical, byte: usize) -> Option<Place> {
    let before = canonical.literals.partition_point(|literal| literal.end as usize <= byte);
    let inside = canonical.literals.get(before).is_some_and(|literal| (literal.start as usize) < byte);
    let from = before.checked_sub(1).map_or(0, |last| canonical.literals[last].end as usize);
    (!inside).then_some(Place { literals_before: before as u32, further: (byte - from) as u32 })
}

fn answer(
    rewrite: Rewrite,
    place: impl Fn(usize) -> Option<Place>,
    parts: impl Fn(&str) -> Option<Vec<Part>>,
) -> Option<Answer> {
    Some(match rewrite {
        Rewrite::Unchanged => Answer::Unchanged,
        Rewrite::Refused(refusal) => Answer::Refused(told(refusal, &place)?),
        Rewrite::Rewritten(edits) => {
            if edits.warnings().iter().any(|text| Canonical::is_in(text)) {
                return None;
            }
            let stop = match edits.stopped() {
                Some((end, refusal)) => Some(Box::new((place(end)?, told(refusal.clone(), &place)?))),
                None => None,
            };
            let warnings = edits.warnings().into();
            let grown_bytes = edits.iter().map(|(_, text)| text.len()).sum();
            let edits = edits.iter().map(|(range, text)| {
                Some(Edit { start: place(range.start)?, end: place(range.end)?, parts: parts(text)?.into() })
            });
            Answer::Rewritten { edits: edits.collect::<Option<Box<[Edit]>>>()?, warnings, grown_bytes, stop }
        }
    })
}

fn told(refusal: Refusal, place: impl Fn(usize) -> Option<Place>) -> Option<Told> {
    let texts = [Some(&refusal.message), refusal.detail.as_ref(), refusal.hint.as_ref()];
    if texts.into_iter().flatten().any(|text| Canonical::is_in(text)) {
        return None;
    }
    let at = match refusal.offset {
        Some(offset) => Some(place(offset)?),
        None => None,
    };
    Some(Told { refusal, at })
}

/// What becomes of a text, without the edits themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Forward the client's own bytes, untouched.
    Unchanged,
    /// Send the edited text.
    Rewritten,
    /// Answer the client ourselves; nothing reaches the server.
    Refused(Refusal),
}

/// What becomes of one text: the plan of its shape, moved onto its literals.
#[derive(Debug, Clone)]
pub struct Planned {
    template: Arc<Template>,
    /// Where the literals are in this text, as far as the plan was made without them.
    literals: Box<[Range<u32>]>,
}

impl Planned {
    /// The plan of a text by itself.
    pub fn alone(rewrite: Rewrite) -> Planned {
        Planned { template: Arc::new(Template::of_text(rewrite)), literals: Box::default() }
    }

    pub(super) fn fixed(template: &Arc<Template>) -> Planned {
        Planned { template: Arc::clone(template), literals: Box::default() }
    }

    /// A shape's plan for a text with these literals; `None` where a length would be judged otherwise.
    pub(super) fn moved(template: &Arc<Template>, literals: &[Range<u32>]) -> Option<Planned> {
        let planned = Planned { template: Arc::clone(template), literals: literals.into() };
        let same = |length: &Length| {
            let bytes = planned.byte(length.end) - planned.byte(length.start);
            (bytes <= length.bytes_max) == length.within
        };
        template.lengths.iter().all(same).then_some(planned)
    }

    fn byte(&self, place: Place) -> usize {
        let before = (place.literals_before as usize).checked_sub(1).and_then(|last| self.literals.get(last));
        before.map_or(0, |literal| literal.end as usize) + place.further as usize
    }

    fn literal<'s>(&self, source: &'s str, number: u32) -> &'s str {
        let range = self.literals.get(number as usize).cloned().unwrap_or_default();
        source.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    fn refusal(&self, told: &Told) -> Refusal {
        Refusal { offset: told.at.map(|place| self.byte(place)), ..told.refusal.clone() }
    }

    /// What becomes of the text.
    pub fn verdict(&self) -> Verdict {
        match &self.template.answer {
            Answer::Unchanged => Verdict::Unchanged,
            Answer::Rewritten { .. } => Verdict::Rewritten,
            Answer::Refused(told) => Verdict::Refused(self.refusal(told)),
        }
    }

    /// Whether the client is answered without the server.
    pub fn is_refusal(&self) -> bool {
        matches!(self.template.answer, Answer::Refused(_))
    }

    /// Appends the text as it is to be sent to `out`. `source` is the text that was planned.
    pub fn apply(&self, source: &str, out: &mut String) {
        let (edits, grown): (&[Edit], usize) = match &self.template.answer {
            Answer::Unchanged | Answer::Refused(_) => (&[], 0),
            Answer::Rewritten { edits, grown_bytes, .. } => (edits, *grown_bytes),
        };
        out.reserve(source.len() + grown + 64);
        let mut from = 0;
        for edit in edits {
            out.push_str(source.get(from..self.byte(edit.start)).unwrap_or_default());
            for part in &edit.parts {
                out.push_str(match part {
                    Part::Own(text) => text,
                    Part::Literal(number) => self.literal(source, *number),
                });
            }
            from = self.byte(edit.end);
        }
        out.push_str(source.get(from..).unwrap_or_default());
    }

    /// The notes for the client.
    pub fn warnings(&self) -> &[String] {
        match &self.template.answer {
            Answer::Unchanged | Answer::Refused(_) => &[],
            Answer::Rewritten { warnings, .. } => warnings,
        }
    }

    /// The byte of `source` that a byte of the sent text came from.
    pub fn source_offset(&self, source: &str, sent: usize) -> usize {
        match self.rewrite(source) {
            Rewrite::Rewritten(edits) => edits.source_offset(sent),
            Rewrite::Unchanged | Rewrite::Refused(_) => sent,
        }
    }

    /// What stands for PostgreSQL's error at this byte of the sent text, where that is the end of a stopped text.
    pub fn stopped_at(&self, source: &str, sent: usize) -> Option<Refusal> {
        let (end, refusal) = self.stop()?;
        (self.source_offset(source, sent) >= end).then_some(refusal)
    }

    fn stop(&self) -> Option<(usize, Refusal)> {
        match &self.template.answer {
            Answer::Unchanged | Answer::Refused(_) => None,
            Answer::Rewritten { stop, .. } => stop.as_ref().map(|stop| (self.byte(stop.0), self.refusal(&stop.1))),
        }
    }

    /// The same as a rewrite of `source` alone would be.
    pub fn rewrite(&self, source: &str) -> Rewrite {
        let edits = match &self.template.answer {
            Answer::Unchanged | Answer::Refused(_) => &[][..],
            Answer::Rewritten { edits, .. } => edits,
        };
        let placed = edits.iter().map(|edit| {
            let text: String = edit
                .parts
                .iter()
                .map(|part| match part {
                    Part::Own(text) => text,
                    Part::Literal(number) => self.literal(source, *number),
                })
                .collect();
            (self.byte(edit.start)..self.byte(edit.end), text)
        });
        match self.verdict() {
            Verdict::Unchanged => Rewrite::Unchanged,
            Verdict::Refused(refusal) => Rewrite::Refused(refusal),
            Verdict::Rewritten => Rewrite::Rewritten(Edits::in_order(placed, self.warnings()).with_stop(self.stop())),
        }
    }
}
