//! Delivery into a Maildir, on a plain thread: writing and syncing files would hold up a runtime's thread.
//!
//! ```text
//!  a missing directory <- mkdir;  fsync of its parent;  only then what is in it
//!  tmp/NAME <- write, fsync;  link to new/NAME;  fsync new/;  remove tmp/NAME;  only then "delivered"
//! ```
//!
//! Promises: a message is in `new/` whole or not at all, and durable before it counts as delivered; an existing file is
//! never replaced. Lines end in LF there, as readers of Maildirs expect; Return-Path and Delivered-To stand on top
//! (RFC 5321 section 4.4). As that would damage binary content (RFC 3030), its parts become base64 first, or it goes back
//! with 5.6.1. Each recipient gets a file of its own. What is made here is the owner's alone: directories 0700, files 0600; a
//! directory that is there keeps the mode that its owner gave it.

use crate::log::without_number;
use crate::message::mime::Converter;
use crate::relay::content::Cutter;
use crate::relay::conversion::{self, Unplanned};
use crate::smtp::client::{Fate, Reply};
use crate::smtp::envelope::View;
use crate::spool::{Content, QueueId, Stored};
use futures_channel::oneshot;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// Messages that wait for the thread; past it they are deferred.
const QUEUE: usize = 64;
/// Given when a file is made, so that no umask opens it for others.
const FILE_MODE: u32 = 0o600;
/// The same for a directory.
const DIRECTORY_MODE: u32 = 0o700;

/// One message for one Maildir.
pub struct Job {
    /// The Maildir; made if missing.
    pub directory: PathBuf,
    /// Indices of recipients in the envelope.
    pub recipients: Vec<u32>,
    /// The message.
    pub stored: Stored,
}

/// A handle to the Maildir thread, which ends when the last handle is dropped.
#[derive(Clone)]
pub struct Maildirs {
    jobs: SyncSender<(Job, oneshot::Sender<Vec<Fate>>)>,
}

impl Maildirs {
    /// Starts the thread. `hostname` becomes part of file names. Errors: the thread could not be made.
    pub fn start(hostname: &str) -> io::Result<Maildirs> {
        let (jobs, waiting) = sync_channel::<(Job, oneshot::Sender<Vec<Fate>>)>(QUEUE);
        let names = Names::new(hostname);
        std::thread::Builder::new().name("maildir".into()).spawn(move || {
            for (mut job, answer) in waiting {
                // Nobody waits any longer when the relay has stopped: a delivery now would be one more later.
                if !answer.is_canceled() {
                    let _ = answer.send(deliver(&mut job, &names));
                }
            }
        })?;
        Ok(Maildirs { jobs })
    }

    /// Delivers; one fate per recipient of the job.
    pub async fn deliver(&self, job: Job) -> Vec<Fate> {
        let recipients = job.recipients.len();
        let (answer, answered) = oneshot::channel();
        if self.jobs.try_send((job, answer)).is_err() {
            return vec![deferred("4.3.2 too many deliveries into Maildirs at once"); recipients];
        }
        answered.await.unwrap_or_else(|_| vec![deferred("4.3.2 the Maildir thread has stopped"); recipients])
    }
}

fn deferred(text: &str) -> Fate {
    Fate::Deferred(Reply::ours(451, text.into()))
}

/// Makes file names that no other delivery makes.
struct Names {
    host: String,
    process: u32,
}

impl Names {
    fn new(hostname: &str) -> Names {
        let host = hostname.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' });
        Names { host: host.collect(), process: std::process::id() }
    }

    /// By time, process, message and recipient: a process delivers a recipient's message once at a time.
    fn name(&self, id: QueueId, recipient: u32) -> String {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = (time.as_secs(), time.subsec_nanos());
        format!("{seconds}.N{nanoseconds}P{}Q{id}R{recipient}.{}", self.process, self.host)
    }
}

fn deliver(job: &mut Job, names: &Names) -> Vec<Fate> {
    let recipients = std::mem::take(&mut job.recipients);
    let mut copies: Vec<(u32, String)> =
        recipients.into_iter().map(|index| (index, names.name(job.stored.id, index))).collect();
    let converter = match conversion::plan_for_file(&mut job.stored) {
        Ok(plan) => plan.map(Converter::new),
        Err(Unplanned::Refused(reply)) => return vec![Fate::Failed(reply); copies.len()],
        Err(Unplanned::Unreadable(why)) => return vec![deferred(&format!("4.3.0 {why}")); copies.len()],
    };
    let written = write_all(job, &copies, converter);
    let fate = |error: &String| deferred(&format!("4.2.0 {}: {error}", job.directory.display()));
    if let Err(error) = written {
        for (_, name) in &copies {
            let _ = fs::remove_file(job.directory.join("tmp").join(name));
        }
        return copies.iter().map(|_| fate(&error)).collect();
    }
    let published = publish(&job.directory, &copies, sync_directory);
    published
        .into_iter()
        .zip(copies.drain(..))
        .map(|(done, _)| match done {
            Ok(()) => Fate::Delivered(Reply::ours(250, "2.0.0 saved".into())),
            Err(error) => fate(&error),
        })
        .collect()
}

/// From `tmp` to `new`, what came of each copy. `link` fails where `rename` would replace. `sync` makes the entries of `new`
/// durable, once for all copies: a message with a thousand recipients holds up everybody else's.
fn publish(
    directory: &Path,
    copies: &[(u32, String)],
    sync: impl FnOnce(&Path) -> io::Result<()>,
) -> Vec<Result<(), String>> {
    let (tmp, new) = (directory.join("tmp"), directory.join("new"));
    let link = |(_, name): &(u32, String)| fs::hard_link(tmp.join(name), new.join(name));
    let linked: Vec<io::Result<()>> = copies.iter().map(link).collect();
    let synced = sync(&new).map_err(|error| without_number(&error));
    for (_, name) in copies {
        let _ = fs::remove_file(tmp.join(name));
    }
    let done = |linked: io::Result<()>| linked.map_err(|error| without_number(&error)).and_then(|()| synced.clone());
    linked.into_iter().map(done).collect()
}

/// Writes and syncs a file in `tmp` for each copy, in one pass over the content.
fn write_all(job: &mut Job, copies: &[(u32, String)], converter: Option<Converter>) -> Result<(), String> {
    let view = View::parse(&job.stored.envelope).map_err(|damage| format!("the envelope: {damage:?}"))?;
    let text = |error: io::Error| without_number(&error);
    make_directories(&job.directory, sync_directory).map_err(text)?;
    let mut files = Vec::with_capacity(copies.len());
    for (recipient, name) in copies {
        let path = view.recipients.get(*recipient as usize).map_or(&b""[..], |recipient| recipient.path);
        let (tmp, mut options) = (job.directory.join("tmp").join(name), OpenOptions::new());
        let file = options.write(true).create_new(true).mode(FILE_MODE).open(tmp);
        let mut lines = Lines { to: BufWriter::with_capacity(1 << 16, file.map_err(text)?), carriage_return: false };
        for (field, value) in [(&b"Return-Path: <"[..], view.reverse_path), (b"Delivered-To: <", path)] {
            let value: Vec<u8> =
                value.iter().map(|&octet| if octet.is_ascii_control() { b'?' } else { octet }).collect();
            lines.write(&[field, &value, b">\n"].concat()).map_err(text)?;
        }
        files.push(lines);
    }
    let mut copies = Copies { files, converter, converted: Vec::new() };
    copies.write(view.prepended).map_err(text)?;
    let mut cutter = Cutter::new(&view.removed);
    let mut write = |mut piece: &[u8]| -> Result<(), String> {
        while let Some(kept) = cutter.kept(&mut piece) {
            copies.write(kept).map_err(text)?;
        }
        Ok(())
    };
    match &mut job.stored.content {
        Content::Memory(content) => write(content)?,
        Content::Spilled(reader) => loop {
            let piece = reader.next()?;
            if piece.is_empty() {
                break;
            }
            write(piece)?;
        },
    }
    copies.finish().map_err(text)
}

/// The files of one message, and what is done to it on the way into them.
struct Copies {
    files: Vec<Lines<BufWriter<File>>>,
    converter: Option<Converter>,
    /// What the converter gives, for a moment.
    converted: Vec<u8>,
}

impl Copies {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let Copies { files, converter, converted } = self;
        let Some(converter) = converter else { return files.iter_mut().try_for_each(|lines| lines.write(piece)) };
        converted.clear();
        converter.feed(piece, converted);
        files.iter_mut().try_for_each(|lines| lines.write(converted))
    }

    /// Everything is on disk.
    fn finish(mut self) -> io::Result<()> {
        if let Some(converter) = &mut self.converter {
            self.converted.clear();
            converter.end(&mut self.converted);
            self.files.iter_mut().try_for_each(|lines| lines.write(&self.converted))?;
        }
        self.files.into_iter().try_for_each(Lines::finish)
    }
}

/// Makes what is missing, each directory durable before anything is made in it. `sync` makes the entries of a directory
/// durable.
fn make_directories(directory: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parts = ["tmp", "new", "cur"].map(|part| directory.join(part));
    if parts.iter().all(|part| part.is_dir()) {
        return Ok(());
    }
    make_durable(directory, &mut sync)?;
    for part in parts.iter().filter(|part| !part.is_dir()) {
        DirBuilder::new().mode(DIRECTORY_MODE).create(part)?;
        sync(directory)?;
    }
    Ok(())
}

fn make_durable(directory: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if directory.is_dir() {
        // We may have made it and been killed before this; if it is another's, its parent need not be readable for us.
        let _ = sync(parent);
        return Ok(());
    }
    make_durable(parent, sync)?;
    DirBuilder::new().mode(DIRECTORY_MODE).create(directory)?;
    sync(parent)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// CRLF becomes LF; everything else stays.
struct Lines<W: Write> {
    to: W,
    carriage_return: bool,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        if self.carriage_return && !piece.is_empty() {
            self.carriage_return = false;
            if piece[0] != b'\n' {
                self.to.write_all(b"\r")?;
            }
        }
        while let Some(at) = memchr::memchr(b'\r', piece) {
            self.to.write_all(&piece[..at])?;
            piece = &piece[at + 1..];
            match piece.first() {
                Some(b'\n') => {}
                Some(_) => self.to.write_all(b"\r")?,
                None => self.carriage_return = true,
            }
        }
        self.to.write_all(piece)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.carriage_return { self.to.write_all(b"\r") } else { Ok(()) }
    }
}

impl Lines<BufWriter<File>> {
    /// Everything is on disk.
    fn finish(mut self) -> io::Result<()> {
        self.end()?;
        self.to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::envelope::{Envelope, Tag};

    fn job(directory: &Path, content: &[u8]) -> Job {
        let mut envelope = Envelope::default();
        envelope.push(Tag::ReversePath, b"anna@example.edu");
        envelope.push(Tag::Prepended, b"Received: x\r\n");
        envelope.push(Tag::RemovedRange, &[0u64.to_le_bytes(), 6u64.to_le_bytes()].concat());
        envelope.push(Tag::Recipient, b"ben@example.edu");
        envelope.push(Tag::Recipient, b"cleo@example.edu\r\nX: y");
        let (envelope, content) = (envelope.as_bytes().to_vec(), Content::Memory(content.to_vec()));
        let stored = Stored { id: QueueId(7), envelope, content };
        Job { directory: directory.into(), recipients: vec![0, 1], stored }
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("entry").path()).collect();
        files.sort();
        files
    }

    #[test]
    fn each_recipient_gets_a_whole_file_with_unix_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("a/Maildir");
        let fates =
            deliver(&mut job(&directory, b"Bcc:x\nSubject: Hi\r\n\r\n.\r\nlone\rcr\r\n"), &Names::new("mx/../e:x"));
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Delivered(_))), "{fates:?}");
        let new = files(&directory.join("new"));
        assert_eq!(new.len(), 2);
        let text = fs::read(&new[0]).expect("a file");
        let expected = "Return-Path: <anna@example.edu>\nDelivered-To: <ben@example.edu>\nReceived: x\nSubject: Hi\n\n.\nlone\rcr\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
        let text = fs::read_to_string(&new[1]).expect("a file");
        assert!(text.contains("Delivered-To: <cleo@example.edu??X: y>\n"));
        assert!(files(&directory.join("tmp")).is_empty());
        assert!(new[0].to_string_lossy().ends_with(".mx_.._e_x"));
    }

    #[test]
    fn a_directory_is_durable_before_anything_is_made_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("top")).expect("a folder");
        let directory = folder.path().join("top/a/Maildir");
        // Each directory that is synced, with the number of directories in it.
        let made = || {
            let mut synced = Vec::new();
            let sync = |path: &Path| {
                let name = path.strip_prefix(folder.path()).expect("not above").display().to_string();
                synced.push((name, files(path).len()));
                Ok(())
            };
            make_directories(&directory, sync).expect("made");
            synced
        };
        let expected =
            [("", 1), ("top", 1), ("top/a", 1), ("top/a/Maildir", 1), ("top/a/Maildir", 2), ("top/a/Maildir", 3)];
        assert_eq!(made(), expected.map(|(name, count)| (name.to_string(), count)));
        assert_eq!(made(), [], "nothing is missing");
        // As after a crash in between: what is there need not be durable yet.
        fs::remove_dir(directory.join("cur")).expect("empty");
        assert_eq!(made(), [("top/a", 1), ("top/a/Maildir", 3)].map(|(name, count)| (name.to_string(), count)));
        let other = folder.path().join("b/Maildir");
        assert!(make_directories(&other, |_| Err(io::ErrorKind::Other.into())).is_err() && !other.exists());
    }

    #[test]
    fn copies_are_durable_together_before_any_counts_as_delivered() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path();
        let copies: Vec<(u32, String)> = (0..3).map(|number| (number, format!("copy{number}"))).collect();
        for part in ["tmp", "new"] {
            fs::create_dir(directory.join(part)).expect("made");
        }
        let publish_with = |sync: fn(&Path) -> io::Result<()>| {
            copies.iter().for_each(|(_, name)| fs::write(directory.join("tmp").join(name), b"x").expect("written"));
            let mut there = Vec::new();
            let done = publish(directory, &copies, |new| {
                there = ["tmp", "new"].map(|part| files(&directory.join(part)).len()).to_vec();
                sync(new)
            });
            assert_eq!((there, files(&directory.join("tmp")).len()), (vec![3, 3], 0));
            done
        };
        assert_eq!(publish_with(|_| Ok(())), vec![Ok(()); 3]);
        // The same names again: what is there already is not replaced, and the others are not made to wait for it.
        fs::remove_file(directory.join("new/copy1")).expect("there");
        assert_eq!(publish_with(|_| Ok(())).iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
        fs::remove_dir_all(directory.join("new")).and_then(|()| fs::create_dir(directory.join("new"))).expect("empty");
        assert_eq!(publish_with(|_| Err(io::Error::other("full"))), vec![Err("full".to_string()); 3]);
    }

    #[test]
    fn what_is_made_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("a/Maildir");
        deliver(&mut job(&directory, b"x\r\n"), &Names::new("mx"));
        for part in ["..", ".", "tmp", "new", "cur"] {
            assert_eq!(mode(&directory.join(part)), 0o700, "{part}");
        }
        files(&directory.join("new")).iter().for_each(|file| assert_eq!(mode(file), 0o600));
        // An operator who wants to share a Maildir may.
        fs::set_permissions(directory.join("new"), fs::Permissions::from_mode(0o2750)).expect("ours");
        deliver(&mut job(&directory, b"x\r\n"), &Names::new("mx"));
        assert_eq!(mode(&directory.join("new")), 0o2750);
    }

    #[test]
    fn a_maildir_that_cannot_be_written_defers_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("file");
        fs::write(&directory, b"").expect("a file");
        let fates = deliver(&mut job(&directory, b"x\r\n"), &Names::new("mx"));
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Deferred(_))), "{fates:?}");
        let directory = folder.path().join("half");
        fs::create_dir(&directory).expect("a folder");
        fs::create_dir(directory.join("tmp")).expect("a folder");
        fs::write(directory.join("new"), b"").expect("a file");
        let fates = deliver(&mut job(&directory, b"x\r\n"), &Names::new("mx"));
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Deferred(_))), "{fates:?}");
        assert!(files(&directory.join("tmp")).is_empty());
    }

    /// Octet for octet; and only where it is declared to be binary.
    // covers: 6.5a
    #[test]
    fn binary_parts_are_encoded_and_what_is_signed_goes_back() {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let folder = tempfile::tempdir().expect("a folder");
        let octets: Vec<u8> = (0..=255).chain(*b"\r\n\n\r\0\r\n.\r\n").collect();
        let header = |kind: &str| format!("Bcc:x\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\n");
        let label = b"Content-Transfer-Encoding: binary\r\n\r\n";
        let single = [header("image/x-odd").as_bytes(), label, &octets].concat();
        let part = [b"--b\r\nContent-Type: image/x-odd\r\n", &label[..], &octets, b"\r\n--b--\r\n"].concat();
        let signed = [header("multipart/signed; boundary=b").as_bytes(), b"\r\n", &part].concat();
        for (content, body, encoded) in [(&single, 2, true), (&single, 1, false), (&signed, 2, false)] {
            let directory = folder.path().join(format!("{body}{}", content.len()));
            let mut job = job(&directory, content);
            let mut envelope = Envelope::default();
            envelope.push(Tag::Body, &[body]);
            job.stored.envelope.extend_from_slice(envelope.as_bytes());
            let fates = deliver(&mut job, &Names::new("mx"));
            if body == 2 && !encoded {
                let expected = "5.6.1 the mailbox does not take binary content; a signed part would have to be changed";
                assert!(
                    fates.iter().all(|fate| matches!(fate, Fate::Failed(reply) if reply.text == expected)),
                    "{fates:?}"
                );
                assert!(!directory.exists(), "nothing was written");
                continue;
            }
            for file in files(&directory.join("new")) {
                let text = fs::read(file).expect("a file");
                let at = memchr::memmem::find(&text, b"\n\n").expect("a body") + 2;
                let (head, mut file) = (String::from_utf8_lossy(&text[..at]), text[at..].to_vec());
                assert_eq!(head.contains("Content-Transfer-Encoding: base64\n"), encoded, "{head}");
                if encoded {
                    file.retain(|octet| *octet != b'\n');
                    assert_eq!(BASE64_STANDARD.decode(file).expect("base64"), octets);
                }
            }
        }
    }

    #[test]
    fn line_ends_in_every_split() {
        let content = b"a\r\nb\rc\n\r\n\r\r\n\r";
        for size in 1..=content.len() {
            let mut lines = Lines { to: Vec::new(), carriage_return: false };
            content.chunks(size).for_each(|piece| lines.write(piece).expect("memory"));
            lines.end().expect("memory");
            assert_eq!(lines.to, b"a\nb\rc\n\n\r\n\r", "by {size}");
        }
    }
}
