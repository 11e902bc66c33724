//! Stored fields, whatever the disk holds: read or named as damage, never a panic; and what was read, written anew, reads
//! the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::Envelope;
use penstock::smtp::envelope::{Fields, View};

fuzz_target!(|stored: &[u8]| {
    let fields: Result<Vec<_>, _> = Fields::new(stored).collect();
    let view = View::parse(stored);
    let Ok(fields) = fields else { return assert!(view.is_err()) };
    let mut envelope = Envelope::default();
    fields.iter().for_each(|(tag, value)| envelope.push(*tag, value));
    assert!(envelope.as_bytes().len() <= stored.len());
    assert_eq!(View::parse(envelope.as_bytes()), view);
    if let Ok(view) = view {
        assert_eq!(view.recipients.len(), envelope.recipients() as usize);
        assert!(view.recipients.len() <= stored.len() / 6);
    }
});
