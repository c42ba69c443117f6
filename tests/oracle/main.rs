//! The differential test of the rewriter: whatever a session of either shape sends, in every phase and on every route, it
//! sees what it would see on a database that really has that shape.
//!
//! Each case runs as it stands on an oracle database of the old shape and on one of the new shape; then as the rewriter
//! has it on a database in the state of each phase. Compared are rows, column names, types, tags, errors with their
//! places, types of parameters, and after a write every table and sequence. A refusal is allowed only where a case says
//! so. `CROSSFADE_ORACLE=text` runs only the cases that contain the text, `CROSSFADE_ORACLE_FILE=path` those of another file.
//!
//! What is left out is told in `run`.

mod case;
mod client;
mod fixture;
mod generate;
mod judge;
mod races;
mod run;

use case::Case;
use fixture::{State, World};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use run::Side;

/// How many statements are made, unless `CROSSFADE_ORACLE_CASES` asks for more.
const GENERATED: usize = 250;
/// The longest that a statement's bytes may be.
const BYTES_MAX: usize = 48;
/// How many simpler statements are tried for one that differs.
const SHRINKS_MAX: usize = 20;

const FILES: &[(&str, &str)] = &[
    ("reads", include_str!("cases/reads.sql")),
    ("queries", include_str!("cases/queries.sql")),
    ("writes", include_str!("cases/writes.sql")),
    ("orms", include_str!("cases/orms.sql")),
    ("names", include_str!("cases/names.sql")),
    ("catalog", include_str!("cases/catalog.sql")),
    ("lenses", include_str!("cases/lenses.sql")),
    ("types", include_str!("cases/types.sql")),
    ("adversarial", include_str!("cases/adversarial.sql")),
    ("functions", include_str!("cases/functions.sql")),
    ("regressions", include_str!("cases/regressions.sql")),
];

#[test]
fn every_case_is_as_on_a_database_of_that_shape() {
    let own = std::env::var("CROSSFADE_ORACLE_FILE").ok().map(|path| (std::fs::read_to_string(&path), path));
    let cases: Vec<Case> = match own {
        Some((text, path)) => case::parse(&path, &text.expect("the file can be read")),
        None => FILES.iter().flat_map(|(file, text)| case::parse(file, text)).collect(),
    };
    let wanted = std::env::var("CROSSFADE_ORACLE").unwrap_or_default();
    let cases: Vec<Case> =
        cases.into_iter().filter(|case| case.steps.iter().any(|step| step.contains(&wanted))).collect();
    let world = World::shared();
    let cases = for_major(cases, world.major());
    let report = judge::judge(&world, &cases);
    println!("{}", report.summary(cases.len()));
    assert!(report.differences.is_empty(), "{} differences:\n{}", report.differences.len(), report.text(&cases));
}

/// The cases that this major can run.
fn for_major(mut cases: Vec<Case>, major: u32) -> Vec<Case> {
    let all = cases.len();
    cases.retain(|case| case.since() <= major);
    if cases.len() < all {
        println!("left out: {} cases whose syntax PostgreSQL {major} does not have", all - cases.len());
    }
    cases.iter_mut().for_each(|case| case.lax_detail = major >= 16);
    cases
}

#[test]
fn generated_statements_are_as_on_a_database_of_that_shape() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let seed = number("CROSSFADE_ORACLE_SEED", 1) as u8;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..BYTES_MAX);
    let count = number("CROSSFADE_ORACLE_CASES", GENERATED);
    let mut trees: Vec<_> = (0..count).map(|_| bytes.new_tree(&mut runner).expect("bytes can be made")).collect();
    let cases: Vec<Case> = trees.iter().map(|tree| generate::case(&tree.current())).collect();
    let world = World::shared();
    let report = judge::judge(&world, &cases);
    println!("{}", report.totals(cases.len()));
    let mut differing: Vec<usize> = report.differences.iter().map(|difference| difference.case).collect();
    differing.dedup();
    let shown: String = differing.iter().take(5).map(|at| shrunk(&world, &mut trees[*at])).collect();
    assert!(
        differing.is_empty(),
        "{} statements differ (seed {seed}); the first ones, shrunk:\n{shown}",
        differing.len()
    );
}

#[test]
fn a_write_looks_again_at_a_row_that_it_waited_for() {
    let world = World::shared();
    let _turn = judge::turn();
    let truths: Vec<String> = races::RACES
        .iter()
        .map(|race| races::run(&world, State::Old.database(), [race.first, race.second], (State::Old, Side::Old)))
        .collect();
    for setting in run::settings(&world) {
        for (race, truth) in races::RACES.iter().zip(&truths) {
            let texts = [race.first, race.second].map(|text| races::rewritten(text, &setting));
            let seen = races::run(
                &world,
                setting.state.database(),
                texts.each_ref().map(|t| t.as_str()),
                (setting.state, Side::Old),
            );
            // Where both storages are compared, the last list is of rows out of step.
            let seen = if setting.state.in_step() { seen.trim_end_matches("; SELECT 0 []").to_owned() } else { seen };
            assert_eq!(&seen, truth, "{}: {} while {}\nsent: {texts:?}", setting.label, race.second, race.first);
        }
    }
}

/// The simplest statement found that still differs, and how.
fn shrunk(world: &World, tree: &mut impl ValueTree<Value = Vec<u8>>) -> String {
    let differs = |bytes: &[u8]| {
        let cases = [generate::case(bytes)];
        let report = judge::judge(world, &cases);
        (!report.differences.is_empty()).then(|| report.text(&cases))
    };
    let mut last = differs(&tree.current()).unwrap_or_default();
    for _ in 0..SHRINKS_MAX {
        if !tree.simplify() {
            break;
        }
        while match differs(&tree.current()) {
            Some(text) => {
                last = text;
                false
            }
            None => tree.complicate(),
        } {}
    }
    last
}
