//! Our parsers against parsers that others wrote: addresses against `addr-spec` (RFC 5322), commands against `smtp-proto`.
//!
//! Hand-picked and generated inputs go through both. Where they read something different, a row of a table must say why
//! we stay with our reading; a difference without a row fails the test, and so does a row that no input needed. The
//! generated inputs are the same in every run.
//!
//! To mend a failure: it prints the input and both readings. Find the rule in the RFC; then mend our parser, or write a
//! row whose condition is as narrow as its reason.

mod addresses;
mod commands;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// A difference that stays.
struct Difference<Case> {
    /// Why we read it as we do.
    reason: &'static str,
    /// Is it the reason for this one?
    explains: fn(&Case) -> bool,
}

/// Fails unless every case that differs has a reason, and every reason a case.
fn settle<Case: std::fmt::Debug>(table: &[Difference<Case>], differing: &[Case]) {
    let unexplained: Vec<String> = differing
        .iter()
        .filter(|case| !table.iter().any(|row| (row.explains)(case)))
        .map(|case| format!("{case:?}"))
        .take(20)
        .collect();
    assert!(unexplained.is_empty(), "no row of the table explains\n{}", unexplained.join("\n"));
    for row in table {
        assert!(differing.iter().any(row.explains), "no input needs the row: {}", row.reason);
    }
}

/// `count` values, the same in every run.
fn generated<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("no value is rejected").current()).collect()
}
