//! Holds `tests/requirements.md` against the tests: every requirement on the wire has a test that names it.
//!
//! ```text
//!  dialogue   # covers: 5.11 5.12       in its head            -> dialogues/dsn.txt
//!  Rust       // covers: 9.7            above a test's `fn`    -> src/net/tls.rs::foreign_alpn
//!  Python     # covers: 11.7            above a test's `def`   -> e2e/test_tls.py::test_cut
//!  fuzz       //! covers: 1.2           in a target's head     -> fuzz/fuzz_targets/command.rs
//! ```
//!
//! The last column of the table is made from these comments: `PENSTOCK_WRITE=1 cargo test --test requirements`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Requirement number to the tests that name it, each with its path from `tests/`.
type Covers = BTreeMap<String, Vec<String>>;

/// Where tests are, and what their files end with.
const PLACES: [(&str, &str); 6] = [
    ("tests/dialogues", "txt"),
    ("tests/fuzz/fuzz_targets", "rs"),
    ("tests/e2e", "py"),
    ("tests", "rs"),
    ("loadgen", "rs"),
    ("src", "rs"),
];

#[test]
fn every_requirement_has_a_test_that_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut covers = Covers::new();
    for (place, extension) in PLACES {
        for file in files(&root.join(place), extension) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            let name = file.strip_prefix(root).expect("inside").to_string_lossy().into_owned();
            collect(&name, &text, &mut covers);
        }
    }
    let table = root.join("tests/requirements.md");
    let text = std::fs::read_to_string(&table).expect("the table");
    let (renewed, missing) = renew(&text, &mut covers);
    assert!(covers.is_empty(), "comments name what is not in the table: {covers:?}");
    if std::env::var_os("PENSTOCK_WRITE").is_some() {
        std::fs::write(&table, &renewed).expect("the table can be written");
    } else {
        assert!(text == renewed, "the table is not up to date: PENSTOCK_WRITE=1 cargo test --test requirements");
    }
    assert!(missing.is_empty(), "{} requirements without a test: {}", missing.len(), missing.join(" "));
}

/// The check itself must see what is wrong, or green means nothing.
#[test]
fn gaps_are_found() {
    let table = "| 1.1 | M | a | 500 | 5321 | old |\n| 1.2 | S | b | | 5321 | |\n";
    let mut covers = Covers::new();
    collect("src/x.rs", "#[test]\n// covers: 1.1 9.9\nfn shown() {\n", &mut covers);
    collect("tests/e2e/test_x.py", "# covers: 1.1\n@mark\ndef test_y(a):\n", &mut covers);
    collect("tests/dialogues/z.txt", "# Z.\n# covers: 1.1\ntls: implicit\n", &mut covers);
    let (renewed, missing) = renew(table, &mut covers);
    let tests = "dialogues/z.txt, e2e/test_x.py::test_y, src/x.rs::shown";
    assert_eq!(renewed, format!("| 1.1 | M | a | 500 | 5321 | {tests} |\n| 1.2 | S | b | | 5321 | |\n"));
    assert_eq!(missing, ["1.2"]);
    assert!(covers.contains_key("9.9"));
}

/// Files below `place`, sorted; of `tests` itself only its own files, the rest has its own line in [`PLACES`].
fn files(place: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).expect("a directory of the project") {
        let path = entry.expect("readable").path();
        if path.is_dir() && !place.ends_with("tests") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Adds what the comments of one file name.
fn collect(file: &str, text: &str, covers: &mut Covers) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(numbers) = ["# covers:", "// covers:", "//! covers:"].iter().find_map(|mark| line.strip_prefix(mark))
        else {
            continue;
        };
        let function = lines[at..].iter().find_map(|line| function_name(line));
        let short = file.strip_prefix("tests/").unwrap_or(file);
        let whole_file = file.ends_with(".txt") || line.starts_with("//!");
        let test = match function.filter(|_| !whole_file) {
            Some(function) => format!("{short}::{function}"),
            None => short.to_owned(),
        };
        for number in numbers.split_whitespace() {
            let tests = covers.entry(number.to_owned()).or_default();
            if !tests.contains(&test) {
                tests.push(test.clone());
            }
        }
    }
}

/// The name in the head of a function, Rust's or Python's.
fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("def "))?;
    rest.split(['(', '<']).next()
}

/// The table with its last column made anew, and the requirements that no test names. Takes what it finds out of `covers`.
fn renew(table: &str, covers: &mut Covers) -> (String, Vec<String>) {
    let (mut renewed, mut missing) = (String::new(), Vec::new());
    for line in table.lines() {
        match number(line) {
            Some(number) => {
                let mut tests = covers.remove(number).unwrap_or_default();
                tests.sort();
                if tests.is_empty() {
                    missing.push(number.to_owned());
                }
                renewed.push_str(&with_tests(line, &tests.join(", ")));
            }
            None => renewed.push_str(line),
        }
        renewed.push('\n');
    }
    (renewed, missing)
}

/// The number of a requirement, if this is its row: number, then M, S or P.
fn number(line: &str) -> Option<&str> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let (number, level) = (cells.next()?, cells.next()?);
    matches!(level, "M" | "S" | "P").then_some(number)
}

/// A row with another last cell.
fn with_tests(row: &str, tests: &str) -> String {
    let cells = row.trim_end().strip_suffix('|').and_then(|row| row.rfind('|').map(|last| &row[..=last]));
    let cells = cells.unwrap_or_else(|| panic!("no row: {row}"));
    if tests.is_empty() { format!("{cells} |") } else { format!("{cells} {tests} |") }
}
