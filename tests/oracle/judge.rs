//! All cases in all phases, shapes and routes against the oracles, and the report of what differs.
//!
//! Decides which oracle a session is held to. How one run is compared is in `run`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossfade::migration::{Phase, Shape};
use crossfade::schema::SqlState;

use crate::case::{Auto, Case};
use crate::fixture::{State, World};
use crate::run::{Attempt, Bench, Outcome, Place, Protocol, Setting, Side, differences, new_shape_exists, settings};

/// What an oracle said of each case: as it stands, and as `auto` means it.
#[derive(Default)]
struct Truth {
    plain: Vec<Arc<Outcome>>,
    auto: Vec<Option<Arc<Outcome>>>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub case: usize,
    pub setting: &'static str,
    pub shape: Shape,
    pub sent: Vec<String>,
    pub found: Vec<String>,
}

/// One allowed refusal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refused {
    group: String,
    message: String,
    text: String,
    place: String,
}

#[derive(Default)]
pub struct Report {
    pub differences: Vec<Difference>,
    refused: Vec<Refused>,
    excepted: Vec<String>,
    runs: usize,
    unchanged: usize,
    refusals: usize,
}

/// Sequences are not rolled back: one run at a time, and in it one thread for each database.
static TURN: Mutex<()> = Mutex::new(());

/// The right to use the databases until it is dropped.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Judges each case everywhere.
pub fn judge(world: &World, cases: &[Case]) -> Report {
    let _turn = turn();
    let settings = settings(world);
    let (old, new) = std::thread::scope(|scope| {
        let new = scope.spawn(|| truth(world, cases, Side::New));
        (truth(world, cases, Side::Old), new.join().expect("the new shape's oracle runs"))
    });
    let (old, new, settings) = (&old, &new, &settings);
    std::thread::scope(|scope| {
        let running = State::ALL.map(|state| scope.spawn(move || judge_state(world, cases, state, settings, old, new)));
        let each = running.map(|running| running.join().expect("a state's cases run"));
        let mut report = Report::default();
        for part in each {
            report.differences.extend(part.differences);
            report.refused.extend(part.refused);
            report.excepted.extend(part.excepted);
            report.runs += part.runs;
            report.unchanged += part.unchanged;
            report.refusals += part.refusals;
        }
        report.differences.sort_by_key(|difference| difference.case);
        report
    })
}

fn truth(world: &World, cases: &[Case], side: Side) -> Truth {
    let mut bench = Bench::new(world, Place::Oracle(side));
    let mut truth = Truth::default();
    for (at, case) in cases.iter().enumerate() {
        let protocol = Protocol::of(at, case);
        truth.plain.push(bench.original(case, protocol));
        truth.auto.push(match &case.auto {
            Auto::Like(text) => {
                let meant = Case { steps: vec![text.clone()], ..case.clone() };
                Some(bench.original(&meant, protocol))
            }
            Auto::AsNew | Auto::AsOld | Auto::Free => None,
        });
    }
    truth
}

fn judge_state(world: &World, cases: &[Case], state: State, settings: &[Setting], old: &Truth, new: &Truth) -> Report {
    let mut report = Report::default();
    let mut bench = Bench::new(world, Place::State(state));
    for setting in settings.iter().filter(|setting| setting.state == state) {
        for (at, case) in cases.iter().enumerate() {
            if !case.phases.is_empty() && !case.phases.contains(&setting.phase) {
                continue;
            }
            if let Some((label, why)) = case.except.iter().find(|(label, _)| label == setting.label) {
                report.excepted.push(format!("{label} | {why} | {}", case.steps.join(" ;; ")));
                continue;
            }
            for shape in Shape::ALL.into_iter().filter(|shape| case.shapes.is_empty() || case.shapes.contains(shape)) {
                let protocol = Protocol::of(at, case);
                let held = held_to(case, setting, shape, at, old, new);
                let attempt = bench.rewritten(case, protocol, setting, shape);
                report.add(at, case, setting, shape, &attempt, &held);
            }
        }
    }
    report
}

/// The outcomes that a session may see; the first is the one to report against. None: anything may come.
fn held_to(
    case: &Case,
    setting: &Setting,
    shape: Shape,
    at: usize,
    old: &Truth,
    new: &Truth,
) -> Vec<(Side, Arc<Outcome>)> {
    let failed = |outcome: &Outcome| outcome.replies.last().is_none_or(|reply| reply.error.is_some());
    let in_old = (Side::Old, old.plain[at].clone());
    let in_new = (Side::New, new.plain[at].clone());
    if !new_shape_exists(setting.phase) {
        return vec![in_old];
    }
    match shape {
        Shape::Old => vec![in_old],
        Shape::New => vec![in_new],
        Shape::Auto if !failed(&in_old.1) || is_ambiguous(&in_old.1) => vec![in_old],
        Shape::Auto => match &case.auto {
            Auto::AsOld => vec![in_old],
            Auto::Free => Vec::new(),
            Auto::Like(_) => vec![(Side::Old, old.auto[at].clone().unwrap_or_default())],
            Auto::AsNew if failed(&in_new.1) => vec![in_old, in_new],
            Auto::AsNew => vec![in_new],
        },
    }
}

/// A name with two meanings resolves in the old shape: too often. It is not looked up in the new one.
fn is_ambiguous(outcome: &Outcome) -> bool {
    let error = outcome.replies.last().and_then(|reply| reply.error.as_ref());
    error.is_some_and(|error| error.code == SqlState::AMBIGUOUS_COLUMN.0)
}

/// An `auto` session whose text fails in both shapes may be told in the names of either.
fn fails_alike(attempt: &Attempt, held: &[(Side, Arc<Outcome>)]) -> bool {
    let code = |outcome: &Outcome| {
        outcome.replies.last().and_then(|reply| reply.error.as_ref()).map(|error| error.code.clone())
    };
    let got = match &attempt.refused {
        Some(refusal) => Some(refusal.state.0.to_owned()),
        None => code(&attempt.outcome),
    };
    got.is_some() && held.iter().any(|(_, outcome)| code(outcome) == got)
}

impl Report {
    fn add(
        &mut self,
        at: usize,
        case: &Case,
        setting: &Setting,
        shape: Shape,
        attempt: &Attempt,
        held: &[(Side, Arc<Outcome>)],
    ) {
        self.runs += 1;
        if attempt.refused.is_none() && attempt.edits.is_none() {
            self.unchanged += 1;
        }
        if let Some(refusal) = attempt.refused.as_ref().filter(|refusal| refusal.state == SqlState::UNSUPPORTED) {
            self.refusals += 1;
            if case.refusable.is_some() || (case.refusable_expanded && setting.phase == Phase::Expanded) {
                self.refused.push(Refused {
                    group: case.group.clone(),
                    message: refusal.message.clone(),
                    text: case.steps.join(" ;; "),
                    place: format!("{}/{}", setting.label, shape.name()),
                });
                return;
            }
        }
        if held.is_empty() {
            return;
        }
        let each: Vec<Vec<String>> =
            held.iter().map(|(side, outcome)| differences(case, (setting, shape), (*side, outcome), attempt)).collect();
        if each.iter().any(Vec::is_empty) || (held.len() > 1 && fails_alike(attempt, held)) {
            return;
        }
        let found = each.into_iter().next().unwrap_or_default();
        let sent = attempt.sent.clone();
        self.differences.push(Difference { case: at, setting: setting.label, shape, sent, found });
    }

    /// How many ran, and what became of them.
    pub fn totals(&self, cases: usize) -> String {
        format!(
            "{cases} cases, {} runs: {} passed unchanged, {} refused, {} differ\n",
            self.runs,
            self.unchanged,
            self.refusals,
            self.differences.len()
        )
    }

    /// Refusals by construct, with the texts that were refused.
    pub fn summary(&self, cases: usize) -> String {
        let mut out = self.totals(cases);
        for excepted in &self.excepted {
            let _ = writeln!(out, "excepted | {}", excepted.replace('\n', " "));
        }
        let mut by_text: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
        for refused in &self.refused {
            by_text.entry((&refused.group, &refused.text, &refused.message)).or_default().insert(&refused.place);
        }
        for ((group, text, message), places) in by_text {
            let text: String = text.replace('\n', " ").chars().take(90).collect();
            let _ = writeln!(out, "refused | {group:<14} | {:>2} places | {message} | {text}", places.len());
        }
        out
    }

    /// The differences, those of one case that look alike as one.
    pub fn text(&self, cases: &[Case]) -> String {
        let mut out = String::new();
        let mut alike: BTreeMap<(usize, Vec<String>), Vec<&Difference>> = BTreeMap::new();
        for difference in &self.differences {
            alike.entry((difference.case, difference.found.clone())).or_default().push(difference);
        }
        let mut last = None;
        for ((at, found), differences) in alike {
            if last != Some(at) {
                let _ = writeln!(
                    out,
                    "\n=== [{}, {:?}] {}",
                    cases[at].group,
                    Protocol::of(at, &cases[at]),
                    cases[at].steps.join("\n;; ")
                );
                if !cases[at].parameters.is_empty() {
                    let _ = writeln!(out, "    with {:?}", cases[at].parameters);
                }
                last = Some(at);
            }
            let places: BTreeSet<String> =
                differences.iter().map(|d| format!("{}/{}", d.setting, d.shape.name())).collect();
            let _ = writeln!(out, "  {}:", shorter(&places));
            for line in found {
                let _ = writeln!(out, "    {line}");
            }
            let sent: BTreeSet<String> = differences.iter().map(|d| d.sent.join("\n;; ")).collect();
            for sent in sent.iter().take(2).filter(|sent| !sent.is_empty()) {
                let _ = writeln!(out, "    sent: {sent}");
            }
        }
        out
    }
}

/// Places by shape, so that a report can be read.
fn shorter(places: &BTreeSet<String>) -> String {
    let mut by_shape: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for place in places {
        let (setting, shape) = place.rsplit_once('/').unwrap_or((place, ""));
        by_shape.entry(shape).or_default().push(setting);
    }
    let all = |settings: &Vec<&str>| match settings.len() {
        11 => "every phase".to_owned(),
        _ => settings.join(" "),
    };
    by_shape.iter().map(|(shape, settings)| format!("{shape}: {}", all(settings))).collect::<Vec<_>>().join("; ")
}
