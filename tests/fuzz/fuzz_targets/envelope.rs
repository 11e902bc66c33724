//! Stored fields, whatever the disk holds: read or named as damage, never a panic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use penstock::smtp::envelope::View;

fuzz_target!(|stored: &[u8]| {
    if let Ok(view) = View::parse(stored) {
        assert!(view.recipients.len() <= stored.len() / 6);
    }
});
