//! Mistakes in a file, each with its place and the source around it.

use std::io::{IsTerminal as _, stderr};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, ThemeCharacters,
    ThemeStyles,
};

use crate::migration::spec::{SpecError, SpecErrors};

/// One mistake, as miette renders it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .error.message)]
struct Mistake<'a> {
    error: &'a SpecError,
    source_code: NamedSource<String>,
}

impl Diagnostic for Mistake<'_> {
    fn help<'b>(&'b self) -> Option<Box<dyn std::fmt::Display + 'b>> {
        (!self.error.help.is_empty()).then(|| Box::new(&self.error.help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.error.span.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new(Some("here".to_owned()), span.start, span.len()))))
    }
}

/// All mistakes of a file, for a terminal or for a log.
pub(super) fn render(errors: &SpecErrors) -> String {
    let terminal = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = if terminal {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme { characters: ThemeCharacters::ascii(), styles: ThemeStyles::none() }
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110);
    let mut text = String::new();
    for error in &errors.errors {
        // The place first, in the form that editors and grep understand.
        text.push_str(&format!("{}:{}:{}: {}\n", errors.file, error.line, error.column, error.message));
        let mistake = Mistake { error, source_code: NamedSource::new(&errors.file, errors.text.clone()) };
        let mut excerpt = String::new();
        match handler.render_report(&mut excerpt, &mistake) {
            Ok(()) => text.push_str(excerpt.split_once('\n').map_or("", |(_, rest)| rest.trim_start_matches('\n'))),
            Err(_) => text.push_str(&format!("  {}\n", error.help)),
        }
        text.push('\n');
    }
    let count = errors.errors.len();
    text.push_str(&format!("error: {} has {count} mistake{}\n", errors.file, if count == 1 { "" } else { "s" }));
    text
}
