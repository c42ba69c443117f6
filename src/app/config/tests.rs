use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};

use super::*;

/// The file that is shipped.
const FILE: &str = include_str!("../../../config/crossfade.toml");

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

#[test]
fn the_shipped_file_has_every_option_at_its_default() {
    let config = Config::from_toml(FILE, "config/crossfade.toml").unwrap();
    assert_eq!(config, Config::default());
    for (name, value) in Config::default().entries() {
        let line = format!("{name} = {value}");
        assert!(FILE.lines().any(|l| l == line), "the file has no line `{line}`");
        // A reader must find what it is for right above it.
        let before = FILE.split(&format!("\n{line}\n")).next().unwrap().lines().next_back().unwrap();
        assert!(before.starts_with("# "), "`{name}` has no comment");
    }
}

#[test]
fn every_option_has_a_flag_and_a_variable() {
    let command = Flags::augment_args(Command::new("run"));
    for (name, variable) in NAMES.iter().zip(VARIABLES) {
        let flag = name.replace('_', "-");
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(&flag));
        let arg = arg.unwrap_or_else(|| panic!("no flag --{flag}"));
        assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(*variable));
        assert_eq!(*variable, format!("CROSSFADE_{}", name.to_uppercase()));
    }
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let file = Config::from_toml("threads = 3\nlease_ms = 20_000\n", "f").unwrap();
    let matches = Program::command().get_matches_from(["run", "--threads", "5"]);
    let config = file.with_flags(Program::from_arg_matches(&matches).unwrap().flags);
    assert_eq!((config.threads, config.lease_ms, config.lease_renew_ms), (5, 20_000, 1_000));
}

#[test]
fn every_mistake_in_a_file_is_reported_at_its_place() {
    let text = "lisen = \"127.0.0.1:1\"\nthreads = \"four\"\nlease_ms = 1\nshapes = [\"x\"]\n  admin = \"nowhere\"\n";
    let errors = Config::from_toml(text, "f").unwrap_err().errors;
    let places: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
    assert_eq!(places, [(1, 1), (2, 11), (3, 12), (4, 10), (5, 11)], "{errors:#?}");
    assert_eq!(errors[0].help, "Did you mean \"listen\"?");
    assert!(Config::from_toml("threads = \n", "f").is_err());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let good = Config { upstream: Secret::new("postgres://me@127.0.0.1/app"), ..Config::default() };
    assert!(good.validate().is_ok());
    let open = Config { admin: "0.0.0.0:6433".parse().unwrap(), ..good.clone() };
    assert!(open.validate().is_err());
    let guarded = Config { admin_token: Secret::new("0123456789abcdef"), ..open };
    assert!(guarded.validate().is_ok());
    assert!(Config { lease_renew_ms: 9_000, ..good.clone() }.validate().is_err());
    assert!(Config { upstream: Secret::default(), ..good }.validate().is_err());
}

#[test]
fn secrets_are_never_shown() {
    let config = Config { upstream: Secret::new("postgres://me:hush@127.0.0.1/app"), ..Config::default() };
    assert!(!format!("{config:?}").contains("hush"));
    let help = Program::command().render_long_help().to_string();
    assert!(!help.contains("CROSSFADE_ADMIN_TOKEN="));
}

#[test]
fn shape_rules_are_read_from_lists_and_from_flags() {
    let config = Config::from_toml("shapes = [\"application_name=reports, user=ann:new\", \":old\"]", "f").unwrap();
    let words = Shapes::from_words("user=ann,application_name=reports:new; :old").unwrap();
    assert_eq!(config.shapes, words);
    assert_eq!(config.shapes.0[0].application_name.as_deref(), Some("reports"));
    assert_eq!(config.shapes.to_toml(), "[\"user=ann,application_name=reports:new\", \":old\"]");
    for wrong in ["user=bob", "role=bob:new", "user=bob:newest", "bob:new"] {
        assert!(Shapes::from_words(wrong).is_err(), "{wrong}");
    }
}
