//! A bounded run of the fuzz targets' functions: seeds as they are, and mutations of them.
//!
//! What a fuzzer found stays here as a seed (`FOUND`), with the function that it was fed to.

#[path = "../fuzz/entries.rs"]
#[allow(dead_code)]
mod entries;

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;

/// Inputs that a fuzzer found something with.
const FOUND: &[(&str, &[u8])] = &[];

/// What is put into a seed: the bytes on which readers turn.
const FRAGMENTS: &[&[u8]] = &[
    b"'",
    b"''",
    b"\\",
    b"\\'",
    b"\"",
    b"U&\"",
    b"U&'",
    b"E'",
    b"$$",
    b"$a$",
    b"$1",
    b"--",
    b"/*",
    b"*/",
    b"\n",
    b";",
    b"(",
    b")",
    b"::",
    b"<>/*",
    b"users",
    b"username",
    b"WITH",
    b"AS",
    b"CASE",
    b"END",
    b"BEGIN ATOMIC",
    b"UESCAPE '!'",
    b"\0",
    b"\xff",
    b"\x80",
    "\u{e9}".as_bytes(),
    b"\0\0\0\x04",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"Q\0\0\0\x05\0",
    b"Z\0\0\0\x05I",
    b"S\0\0\0\x04",
    b",r=",
    b"p=tls-server-end-point",
];

/// First packets and messages as peers send them.
const WIRE: &[&[u8]] = &[
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\0\x08\x04\xd2\x16\x30",
    b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
    b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0app\0\0\0\0\0\0\0\0\0\0",
    b"\0\0\0\x22\0\x03\0\x02user\0a\0options\0-c x=y\0\0\0\0\0",
    b"Q\0\0\0\x0dSELECT 1\0",
    b"P\0\0\0\x12s\0SELECT $1\0\0\x01\0\0\0\x17B\0\0\0\x0e\0s\0\0\0\0\x01\0\0\0\x011\0\0",
    b"s\0SELECT $1\0\0\x01\0\0\0\x17",
    b"SERROR\0VFATAL\0C57P01\0Mgone\0P7\0\0",
    b"\0\x02\0\0\0\x01a\xff\xff\xff\xff",
    b"\0\0\0\x0aSCRAM-SHA-256\0\0",
    b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    b"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2E=$kT8qSnZ2AG9Ri4kqkJ2S9WPF7ZrD3lqKZ0l1V7Vb8jM=:y5Pjs8DR+BvOZ0Bv2cW4Vd7MZSqTG4zGWpq5Bc6m1AM=",
    // A conversation: login, BEGIN, a Query on the table, its answers.
    b"\x05\0\x65\0\x04\0\x5d\0\x0c\0\x2d\0\x04\0\x2d\0\x5d\0",
];

fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/cases");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect::<Vec<_>>();
        let cases = texts.iter().flat_map(|text| text.split("\n\n"));
        let mut seeds: Vec<Vec<u8>> = cases.map(|case| case.as_bytes().to_vec()).collect();
        assert!(seeds.len() > 100, "the oracle's cases are the seeds");
        // Each kind of seed as often as the other.
        let times = seeds.len() / WIRE.len();
        seeds.extend(std::iter::repeat_n(WIRE, times).flatten().map(|bytes| bytes.to_vec()));
        seeds
    })
}

/// One change of a seed.
#[derive(Debug, Clone)]
enum Mutation {
    Put(Index, Index),
    Flip(Index, u8),
    Cut(Index, Index),
    Double(Index, Index),
    Splice(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let two = || (any::<Index>(), any::<Index>());
    prop_oneof![
        4 => two().prop_map(|(at, which)| Mutation::Put(at, which)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, with)| Mutation::Flip(at, with)),
        2 => two().prop_map(|(from, to)| Mutation::Cut(from, to)),
        1 => two().prop_map(|(from, to)| Mutation::Double(from, to)),
        1 => two().prop_map(|(at, which)| Mutation::Splice(at, which)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match mutation {
        Mutation::Put(at, which) => {
            let at = place(at, bytes);
            bytes.splice(at..at, which.get(FRAGMENTS).iter().copied());
        }
        Mutation::Flip(at, with) => {
            let at = place(at, bytes);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= with;
            }
        }
        Mutation::Cut(from, to) => {
            let (from, to) = (place(from, bytes), place(to, bytes));
            bytes.drain(from.min(to)..from.max(to));
        }
        Mutation::Double(from, to) => {
            let (from, to) = (place(from, bytes), place(to, bytes));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(to..to, part);
        }
        Mutation::Splice(at, which) => {
            let at = place(at, bytes);
            bytes.truncate(at);
            let other = which.get(seeds());
            bytes.extend(&other[at.min(other.len())..]);
        }
    }
    bytes.truncate(16 * 1024);
}

#[test]
fn every_seed_is_survived_by_every_reader() {
    for (_, feed) in entries::ENTRIES {
        seeds().iter().for_each(|seed| feed(seed));
    }
    for (name, bytes) in FOUND {
        let entry = entries::ENTRIES.iter().find(|(entry, _)| entry == name);
        entry.expect("an entry has that name").1(bytes);
    }
}

/// How many mutations are tried; `CROSSFADE_FUZZ_CASES` says otherwise.
fn cases() -> ProptestConfig {
    let wanted = std::env::var("CROSSFADE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(wanted.unwrap_or(4_000))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_mutation_of_a_seed_is_survived(
        entry in any::<Index>(),
        seed in any::<Index>(),
        mutations in proptest::collection::vec(mutation(), 1..12),
    ) {
        let mut bytes = seed.get(seeds()).clone();
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        entry.get(&entries::ENTRIES).1(&bytes);
    }
}
