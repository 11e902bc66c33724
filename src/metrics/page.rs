//! The Prometheus text format, version 0.0.4: the page that a scrape gets.
//!
//! ```text
//!  # HELP penstock_messages_total Messages that ...
//!  # TYPE penstock_messages_total counter
//!  penstock_messages_total{core="0",listener="submission",code="250"} 17
//! ```
//!
//! A name can only be served if [`super::table`] has it, with the labels that stand there in their order, and once: what is
//! wrong is a bug, found by whoever asks for the page first, as the tests do.

use super::histogram::Total;
use super::table::{self, Family, Kind};
use std::fmt::{Display, Write};

/// A page being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    begun: Vec<&'static str>,
}

/// One name of a page being written.
pub struct Samples<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Page {
    /// Begins the samples of `name`.
    pub fn family(&mut self, name: &str) -> Samples<'_> {
        let family = table::find(name).unwrap_or_else(|| panic!("{name} is not in the table of metrics"));
        assert!(!self.begun.contains(&family.name), "{name} is served twice");
        self.begun.push(family.name);
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        Samples { text: &mut self.text, family }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    /// A value; `labels` are those of the table's row, in its order.
    pub fn value(&mut self, labels: &[&dyn Display], value: impl Display) -> &mut Self {
        assert!(self.family.kind != Kind::Histogram, "{} is a histogram", self.family.name);
        self.line("", labels, None, value);
        self
    }

    /// A histogram; `labels` as for a value.
    pub fn histogram(&mut self, labels: &[&dyn Display], total: &Total) -> &mut Self {
        assert!(self.family.kind == Kind::Histogram, "{} is no histogram", self.family.name);
        let mut count = 0;
        for (bound, below) in total.cumulative() {
            self.line("_bucket", labels, Some(bound), below);
            count = below;
        }
        self.line("_sum", labels, None, total.sum());
        self.line("_count", labels, None, count);
        self
    }

    fn line(&mut self, ending: &str, labels: &[&dyn Display], bound: Option<f64>, value: impl Display) {
        assert_eq!(labels.len(), self.family.labels.len(), "the labels of {}", self.family.name);
        let _ = write!(self.text, "{}{ending}", self.family.name);
        let mut before = '{';
        for (name, label) in self.family.labels.iter().zip(labels) {
            let _ = write!(self.text, "{before}{name}=\"{}\"", escaped(&label.to_string()));
            before = ',';
        }
        match bound {
            Some(f64::INFINITY) => self.text.push_str(&format!("{before}le=\"+Inf\"}}")),
            Some(bound) => self.text.push_str(&format!("{before}le=\"{bound}\"}}")),
            None if before == ',' => self.text.push('}'),
            None => {}
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A label's value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::histogram::{DISK_US, Histogram};
    use super::*;

    #[test]
    fn a_page_is_as_the_format_has_it() {
        let mut page = Page::default();
        page.family("penstock_messages_total").value(&[&0, &"a \"b\" \\ c\nd", &250], 17).value(&[&1, &"e", &452], 1);
        let histogram = Histogram::new(&DISK_US);
        [10, 20, 30_000_000].into_iter().for_each(|value| histogram.count(value));
        let mut total = Total::new(&DISK_US);
        total.add(&histogram);
        page.family("penstock_spool_commit_seconds").histogram(&[&"relay"], &total);
        let text = page.into_text();
        let mut lines = text.lines();
        assert!(lines.next().expect("a line").starts_with("# HELP penstock_messages_total "));
        assert_eq!(lines.next(), Some("# TYPE penstock_messages_total counter"));
        let escaped = r#"penstock_messages_total{core="0",listener="a \"b\" \\ c\nd",code="250"} 17"#;
        assert_eq!(lines.next(), Some(escaped));
        assert_eq!(lines.next(), Some(r#"penstock_messages_total{core="1",listener="e",code="452"} 1"#));
        assert_eq!(lines.nth(1), Some("# TYPE penstock_spool_commit_seconds histogram"));
        assert_eq!(lines.next(), Some(r#"penstock_spool_commit_seconds_bucket{writer="relay",le="0.000016"} 1"#));
        assert_eq!(lines.next(), Some(r#"penstock_spool_commit_seconds_bucket{writer="relay",le="0.000024"} 2"#));
        let ends = [
            r#"penstock_spool_commit_seconds_bucket{writer="relay",le="+Inf"} 3"#,
            r#"penstock_spool_commit_seconds_sum{writer="relay"} 30.00003"#,
            r#"penstock_spool_commit_seconds_count{writer="relay"} 3"#,
        ];
        assert_eq!(lines.rev().take(3).collect::<Vec<_>>(), [ends[2], ends[1], ends[0]]);
    }

    #[test]
    #[should_panic(expected = "not in the table")]
    fn a_name_that_the_table_has_not_cannot_be_served() {
        Page::default().family("penstock_surprises_total");
    }

    #[test]
    #[should_panic(expected = "served twice")]
    fn a_name_is_served_once() {
        let mut page = Page::default();
        page.family("penstock_queue_messages");
        page.family("penstock_queue_messages");
    }
}
