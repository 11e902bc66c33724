//! The file of local recipients: who there is in our own domains.
//!
//! ```text
//!  # a comment
//!  anna@example.edu         an address
//!  @lab.example.edu         a domain where everybody can be written to
//!
//!  file --parse--> Recipients --swap--> what every session looks into
//!        |
//!        +-- broken: the old ones stay, a warning names the line
//! ```
//!
//! Read at start, when it changes and on SIGHUP. A file that names nobody is taken for a broken one: editors and exports
//! empty a file before they write it, and every recipient would be refused for good.

use crate::log::{Level, event};
use crate::policy::Recipients;
use crate::services::Watcher;
use crate::services::plain_file::{self, Mark};
use crate::smtp::path::Mailbox;
use arc_swap::ArcSwap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest file, octets: two million addresses.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// What, and how to mend it behind a semicolon.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

/// The file, its current content, and the watcher that reads it again. Dropping it ends the watcher's thread.
pub struct RecipientsFile {
    file: Arc<File>,
    _watcher: Watcher,
}

struct File {
    path: PathBuf,
    current: Arc<ArcSwap<Recipients>>,
    /// The state that was last read, taken or not. Locked for the whole of a reload, so that a slow one cannot put an older
    /// file over a newer.
    seen: Mutex<Option<Mark>>,
}

impl RecipientsFile {
    /// Reads the file and watches it. Errors, one line with a remedy: it cannot be read, or has a mistake.
    pub fn open(path: &Path) -> Result<RecipientsFile, String> {
        let seen = Mutex::new(Mark::of(path));
        let current = Arc::new(ArcSwap::from_pointee(load(path)?));
        let file = Arc::new(File { path: path.to_owned(), current, seen });
        let watched = file.clone();
        let look = move || watched.reload_if_changed();
        let watcher = Watcher::start("file of local recipients", path.to_owned(), look)?;
        Ok(RecipientsFile { file, _watcher: watcher })
    }

    /// Where sessions look: replaced as a whole by each reload.
    pub fn current(&self) -> Arc<ArcSwap<Recipients>> {
        self.file.current.clone()
    }

    /// Reads the file again. A broken one keeps the old recipients and says so. Not from a core.
    pub fn reload(&self) {
        self.file.load_into(self.file.seen());
    }
}

impl File {
    fn reload_if_changed(&self) {
        let seen = self.seen();
        if Mark::of(&self.path) != *seen {
            self.load_into(seen);
        }
    }

    fn load_into(&self, mut seen: MutexGuard<'_, Option<Mark>>) {
        // Taken before reading: what changes meanwhile is then seen as a change.
        *seen = Mark::of(&self.path);
        match load(&self.path) {
            Ok(recipients) => {
                let line = event(Level::Info, "local recipients loaded").field("file", self.path.display());
                line.field("recipients", recipients.count()).emit();
                self.current.store(Arc::new(recipients));
            }
            Err(error) => {
                let line = event(Level::Warning, "local recipients not taken, the old ones stay").field("error", error);
                line.field("recipients", self.current.load().count()).emit();
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Option<Mark>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path) -> Result<Recipients, String> {
    let named = |what: &dyn fmt::Display| format!("local recipients {}: {what}", path.display());
    read(path).map_err(|what| named(&what)).and_then(|text| parse(&text).map_err(|mistake| named(&mistake)))
}

/// The octets of a file of recipients. Errors: why it cannot be read, and a remedy behind a semicolon.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    plain_file::read(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "does not exist; put it there, or remove local_recipients".to_owned(),
        ErrorKind::PermissionDenied => {
            "may not be read; give the user that penstock runs as the right to read it".to_owned()
        }
        _ => format!("cannot be read: {error}; name a readable file"),
    })
}

/// The recipients that `text` names. Errors: the first mistake.
pub fn parse(text: &[u8]) -> Result<Recipients, Mistake> {
    let mut recipients = Recipients::default();
    if let Some(mistake) = mistakes(text, &mut recipients).next() {
        return Err(mistake);
    }
    match recipients.count() {
        0 => {
            let what =
                "it names nobody, so everybody would be refused; name your users, or a domain as in @example.edu";
            Err(Mistake { line: 0, what: what.to_owned() })
        }
        _ => Ok(recipients),
    }
}

/// The lines that are neither an address nor a domain; adds those between them to `recipients`.
pub fn mistakes(text: &[u8], recipients: &mut Recipients) -> impl Iterator<Item = Mistake> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    (1..).zip(text.split(|&octet| octet == b'\n')).filter_map(move |(number, line)| {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || add(line, recipients) {
            return None;
        }
        let line = line.escape_ascii();
        let what = format!("\"{line}\" is no address; write one a line as in anna@example.edu, or @example.edu");
        Some(Mistake { line: number, what })
    })
}

/// False: the line is neither an address nor a domain. The same rules as for RCPT decide.
fn add(line: &[u8], recipients: &mut Recipients) -> bool {
    match line.strip_prefix(b"@") {
        Some(domain) => {
            let any = [b"x@", domain].concat();
            Mailbox::parse(&any).is_some_and(|mailbox| recipients.add_domain(mailbox.domain()))
        }
        None => Mailbox::parse(line).is_some_and(|mailbox| recipients.add(mailbox.local_part(), mailbox.domain())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_every_kind_of_line() {
        let text =
            "\u{feff}# ours\r\n\n  Anna@Example.edu \r\n@lab.example.edu\n\"o k\"@example.edu\nj\u{f6}rg@example.edu";
        let recipients = parse(text.as_bytes()).expect("no mistake");
        assert_eq!(recipients.count(), 4);
        for local_part in ["anna", "\"O K\"", "J\u{d6}RG"] {
            assert!(recipients.contains(local_part.as_bytes(), b"example.edu"), "{local_part}");
        }
        assert!(recipients.contains(b"x", b"lab.example.edu") && !recipients.contains(b"x", b"example.edu"));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line) in [
            (&b"anna@example.edu\n\nben\n"[..], 3),
            (b"anna@example.edu ben@example.edu", 1),
            (b"anna@example.edu # a comment", 1),
            (b"@", 1),
            (b"a@b@example.edu", 1),
            (b"@a@example.edu", 1),
            (b"<anna@example.edu>", 1),
            (b"anna@example.edu\nan\xffna@example.edu", 2),
            (b"", 0),
            (b"# nobody yet\n", 0),
        ] {
            let mistake = parse(text).expect_err("a mistake");
            assert_eq!(mistake.line, line, "{}", text.escape_ascii());
            assert!(mistake.what.contains("; "), "no remedy: {mistake}");
        }
    }
}
