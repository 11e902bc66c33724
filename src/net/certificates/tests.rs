use super::*;

/// A self-signed certificate for `names` in `folder`, under file names that begin with `stem`.
pub fn made(folder: &Path, stem: &str, names: &[&str]) -> PemFiles {
    with_key(folder, stem, names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
}

fn with_key(
    folder: &Path,
    stem: &str,
    names: &[&str],
    algorithm: &'static rcgen::SignatureAlgorithm,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> PemFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let files =
        PemFiles { certificate: folder.join(format!("{stem}-chain.pem")), key: folder.join(format!("{stem}-key.pem")) };
    std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

fn load(files: &PemFiles) -> Result<Certificate, String> {
    Certificate::load(files)
}

// covers: 9.5
#[test]
fn a_small_rsa_key_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let files = made(folder.path(), "x", &["x.example"]);
    std::fs::write(&files.certificate, include_str!("../../../tests/certificates/rsa-sha256.pem")).unwrap();
    let words = ["x-chain.pem: its RSA key has 1024 bits", "; make a new key"];
    assert_refused(load(&files), Some(words));
}

// covers: 9.8
#[test]
fn the_name_asked_for_chooses_and_all_others_get_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = [
        ("zero", &["mail.example.org", "192.0.2.1"][..]),
        ("one", &["smtp.example.edu", "*.dept.example.edu"]),
        ("two", &["*.example.edu", "cs.dept.example.edu"]),
        ("three", &["SMTP.example.edu", "only.example.net"]),
    ]
    .map(|(stem, names)| load(&made(folder.path(), stem, names)).unwrap());
    assert_eq!(loaded[0].names(), ["mail.example.org"]);
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
    for (name, at) in [
        (None, 0),
        (Some("mail.example.org"), 0),
        (Some("192.0.2.1"), 0),
        (Some("unknown.example"), 0),
        (Some("edu"), 0),
        (Some("example.edu"), 0),
        (Some("smtp.example.edu"), 1),
        (Some("Smtp.Example.EDU"), 1),
        (Some("other.example.edu"), 2),
        (Some("math.dept.example.edu"), 1),
        (Some("cs.dept.example.edu"), 2),
        (Some("a.b.dept.example.edu"), 0),
        (Some("dept.example.edu"), 2),
        (Some("only.example.net"), 3),
        (Some("*.example.edu"), 2),
    ] {
        assert_eq!(choose(&loaded, name, &schemes), at, "{name:?}");
    }
    // What the client cannot check is not shown while there is a choice, and the default is shown without one.
    let loaded = [
        load(&made(folder.path(), "zero", &["mail.example.org"])).unwrap(),
        load(&with_key(folder.path(), "one", &["smtp.example.edu"], &rcgen::PKCS_ED25519, |_| {})).unwrap(),
        load(&made(folder.path(), "two", &["smtp.example.edu"])).unwrap(),
    ];
    assert_eq!(choose(&loaded, Some("smtp.example.edu"), &schemes), 2);
    assert_eq!(choose(&loaded, Some("smtp.example.edu"), &[SignatureScheme::ED25519]), 1);
    assert_eq!(choose(&loaded, Some("smtp.example.edu"), &[SignatureScheme::RSA_PSS_SHA256]), 0);
}

/// Old programs often name no host, and know only one type of key.
// covers: 9.8
#[test]
fn without_a_name_the_default_s_twin_is_shown_to_whom_can_check_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let of = |names: &[&str], algorithm| load(&with_key(folder.path(), "x", names, algorithm, |_| {})).unwrap();
    let (ed25519, p256) = (&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256);
    let mut loaded = vec![
        of(&["mail.example.org", "smtp.example.org"], ed25519),
        of(&["mail.example.org", "other.example.org"], p256),
        of(&["more.example.org", "SMTP.example.org", "mail.example.org"], p256),
    ];
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
    for name in [None, Some("unknown.example"), Some("smtp.example.org")] {
        assert_eq!(choose(&loaded, name, &schemes), 2, "{name:?}");
        assert_eq!(choose(&loaded, name, &[SignatureScheme::ED25519]), 0, "{name:?}");
        assert_eq!(choose(&loaded, name, &[SignatureScheme::RSA_PSS_SHA256]), 0, "{name:?}: nobody can help");
    }
    // One of another name is no better than none.
    loaded.remove(2);
    assert_eq!(choose(&loaded, None, &schemes), 0);
    assert_eq!(choose(&[of(&["192.0.2.1"], ed25519), of(&["a.example"], p256)], None, &schemes), 0);
}

#[test]
fn a_certificate_whose_names_all_came_before_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let of = |names: &[&str]| load(&made(folder.path(), "x", names)).unwrap();
    let earlier = [of(&["smtp.example.edu", "*.lab.example.edu"]), of(&["mail.example.edu"])];
    for (names, shadowed) in [
        (&["smtp.example.edu"][..], true),
        (&["MAIL.example.edu", "smtp.example.edu"], true),
        (&["*.lab.example.edu"], true),
        // An exact name goes before a wildcard.
        (&["a.lab.example.edu"], false),
        (&["mail.example.edu", "new.example.edu"], false),
        (&["192.0.2.1"], false),
    ] {
        assert_eq!(of(names).is_shadowed_by(&earlier), shadowed, "{names:?}");
    }
    assert!(!of(&["smtp.example.edu"]).is_shadowed_by(&[]));
    let other_type = with_key(folder.path(), "x", &["smtp.example.edu"], &rcgen::PKCS_ED25519, |_| {});
    assert!(!load(&other_type).unwrap().is_shadowed_by(&earlier));
    assert!(earlier[0].suits("Smtp.example.edu") && earlier[0].suits("a.lab.example.edu"));
    assert!(!earlier[0].suits("lab.example.edu") && !earlier[0].suits("mail.example.edu"));
}

// covers: 9.9
#[test]
fn a_certificate_that_is_about_to_end_is_reported() {
    const DAY: i64 = 86_400;
    let folder = tempfile::tempdir().unwrap();
    let start = rcgen::date_time_ymd(2026, 1, 1).unix_timestamp();
    let of_days = |days: i64| {
        let files = with_key(folder.path(), "x", &["x.example"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = rcgen::date_time_ymd(2026, 1, 1);
            params.not_after = params.not_before + std::time::Duration::from_secs((days * DAY) as u64);
        });
        load(&files).unwrap()
    };
    let (year, week) = (of_days(365), of_days(6));
    for (certificate, now_s, words) in [
        (&year, start, None),
        (&year, start - 1, Some("x-chain.pem: the certificate is not valid before 2026-01-01 00:00 UTC; ")),
        (&year, start + 351 * DAY - 1, None),
        (&year, start + 351 * DAY, Some("x-chain.pem: the certificate expires on 2027-01-01 00:00 UTC; renew it")),
        (&year, start + 365 * DAY, Some("expires on")),
        (&year, start + 365 * DAY + 1, Some("x-chain.pem: the certificate expired on 2027-01-01 00:00 UTC; renew it")),
        (&week, start + 4 * DAY - 1, None),
        (&week, start + 4 * DAY, Some("expires on 2026-01-07")),
    ] {
        let said = certificate.trouble(now_s);
        assert_eq!(said.is_some(), words.is_some(), "{said:?} {words:?}");
        assert!(said.iter().all(|said| said.contains(words.unwrap())), "{said:?} {words:?}");
    }
}

#[rustfmt::skip]
const END_POINTS: [(&str, Option<&str>); 10] = [
    (include_str!("../../../tests/certificates/rsa-md5.pem"), Some("3bbfcc76e6e88d9c1f0714b382191e0d9a0b0f422e257c12bbe98883ec3166d0")),
    (include_str!("../../../tests/certificates/rsa-sha1.pem"), Some("ff474aaf796b6d0e6cd20be6d0879bea08255863ccca0c6d05ec4bbdd820521e")),
    (include_str!("../../../tests/certificates/rsa-sha256.pem"), Some("174f49415a78043d628de0938dd92fa162195b56d802e87bfdacc0bb8faebb0f")),
    (include_str!("../../../tests/certificates/pss1.pem"), Some("ccc601724d71f5ddcdb8c1486f6d29ce63d95519358911c60c255e54bac01677")),
    (include_str!("../../../tests/certificates/pss384.pem"), Some("4201e810463a9d9e25cd3fae639de86c51b94bc40017732d7291ad132062541e5c92c082e8165ea5d8162f2f2210fdc0")),
    (include_str!("../../../tests/certificates/ec1.pem"), Some("3b4fe1cfed9b8823e3568443e4c144a46c2204a6f475bd3072003cf286c8be93")),
    (include_str!("../../../tests/certificates/ec256.pem"), Some("8cf6ccb8353de128954d3c6a0870dc44c8b8ee5e8de7e34ffd9da569f18675b5")),
    (include_str!("../../../tests/certificates/ec384.pem"), Some("eeb8815070c84fa71d69c9dbb1320b1857a699c1fe76f49db794b387e2c913ea0a1c4d917cd2cece3ed5dd9a8f9ede21")),
    (include_str!("../../../tests/certificates/ec512.pem"), Some("e0b694429ddf0b97def11f78278d307f2aaa50fb85e272539fb8a69e23b3a532d7ac86d227a7f2c1e77005d336f9abb372aac5afce45001e2e1e726844388716")),
    (include_str!("../../../tests/certificates/ed.pem"), None),
];

/// Made and hashed with `openssl`: see the README beside them.
// covers: 10.10
#[test]
fn the_end_point_is_the_hash_that_the_signature_uses() {
    for (pem, hash) in END_POINTS {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let found = server_end_point(&certificate).map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect());
        assert_eq!(found, hash.map(str::to_owned), "{pem}");
    }
    assert_eq!(server_end_point(b"no certificate"), None);
}

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
const NOT_A_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// What is in the two files, and the words that the refusal must have; None: it is accepted.
#[test]
fn says_what_is_wrong_with_which_file() {
    let made = || rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    let foreign_key = other.signing_key.serialize_pem();
    let both = format!("{key}{chain}");
    let cases: [(&str, &str, Option<[&str; 2]>); 10] = [
        (&chain, &key, None),
        (&both, &both, None),
        ("", &key, Some(["chain.pem: no certificate", "PEM chain"])),
        (&chain, "", Some(["key.pem: no private key", "PKCS#8"])),
        (&key, &chain, Some(["chain.pem is the key and ", "key.pem the certificate: these two are swapped; exchange"])),
        (&chain, &chain, Some(["key.pem: no private key", "PKCS#8"])),
        (&chain, &foreign_key, Some(["key.pem: this key does not belong", "chain.pem"])),
        (&chain, ENCRYPTED, Some(["key.pem: the key is encrypted", "openssl pkey"])),
        (DAMAGED, &key, Some(["chain.pem: damaged PEM", "copy the file again"])),
        (NOT_A_CERTIFICATE, &key, Some(["chain.pem: the first certificate cannot be used", "renew it"])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let files = PemFiles { certificate: folder.path().join("chain.pem"), key: folder.path().join("key.pem") };
    for (chain, key, words) in cases {
        std::fs::write(&files.certificate, chain).unwrap();
        std::fs::write(&files.key, key).unwrap();
        assert_refused(load(&files), words);
    }
    std::fs::remove_file(&files.key).unwrap();
    assert_refused(load(&files), Some(["key.pem: cannot be read", "check the path"]));
    assert_refused(
        load(&PemFiles { certificate: folder.path().into(), ..files }),
        Some(["cannot be read (not a plain file)", "give a plain file"]),
    );
}

/// A FIFO would be waited for until somebody writes, at start and at each reload.
#[test]
fn what_is_no_plain_file_or_too_large_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = made(folder.path(), "x", &["x.example"]);
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let words = Some(["fifo: cannot be read (not a plain file)", "give a plain file"]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let chain = files.clone();
    // Not joined: it would wait for ever where this test fails.
    std::thread::spawn(move || {
        let as_chain = load(&PemFiles { certificate: fifo.clone(), ..chain.clone() });
        let as_key = load(&PemFiles { key: fifo, ..chain });
        sender.send((as_chain, as_key)).expect("somebody waits");
    });
    let (as_chain, as_key) = receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait");
    assert_refused(as_chain, words);
    assert_refused(as_key, words);
    let file = std::fs::OpenOptions::new().append(true).open(&files.certificate).unwrap();
    file.set_len(PEM_BYTES_MAX + 1).unwrap();
    assert_refused(load(&files), Some(["x-chain.pem: cannot be read (larger than 4194304 octets)", "plain file"]));
}

fn assert_refused(result: Result<Certificate, String>, words: Option<[&str; 2]>) {
    match (result, words) {
        (Ok(_), None) => {}
        (Err(line), Some(words)) => {
            assert!(words.iter().all(|word| line.contains(word)) && !line.contains('\n'), "{line}");
        }
        (result, words) => panic!("{words:?}: {:?}", result.err()),
    }
}
