//! A password hash: argon2id (RFC 9106) in the PHC string format.
//!
//! ```text
//!  $argon2id$v=19$m=19456,t=2,p=1$<salt>$<output>       salt and output: base64 without padding
//!            |    |       |   +-- lanes
//!            |    |       +------ passes
//!            |    +-------------- memory, KiB
//!            +------------------- version, 16 or 19
//! ```
//!
//! Promises: a parsed hash can be computed within [`Cost`]'s bounds, so a typo in the users file cannot take the server
//! down; outputs are compared in constant time.

use argon2::password_hash::{Output, PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher};

/// Most memory that one hash may take, KiB: 256 MiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Most passes over it.
const PASSES_MAX: u32 = 16;
/// Most lanes.
const LANES_MAX: u32 = 16;
/// Salt of a new hash, octets (RFC 9106 section 3.1 recommends 16).
const SALT_BYTES: usize = 16;
/// Memory that a verifier keeps from one hash to the next, in blocks of 1 KiB: three times the default cost.
const KEPT_BLOCKS_MAX: usize = 64 * 1024;

/// What computing a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Memory, KiB: 8 times `lanes` to 256 MiB.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 16.
    pub passes: u32,
    /// Lanes, 1 to 16; computed one after the other here.
    pub lanes: u32,
}

impl Default for Cost {
    /// The first choice of the OWASP password storage cheat sheet.
    fn default() -> Cost {
        Cost { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

/// A hash to check passwords against. `Debug` shows only what it costs.
#[derive(Clone)]
pub struct Hash {
    argon2: Argon2<'static>,
    salt: Box<[u8]>,
    output: Output,
}

/// A verifier's working memory, reused, so that what the verifiers take is known and does not depend on the allocator.
/// (Measured with mimalloc, which keeps freed memory: a fresh allocation per hash takes the same 18 ms.)
#[derive(Default)]
pub struct Memory {
    blocks: Vec<Block>,
}

impl Hash {
    /// From the PHC string. Errors: what is wrong with it, without the hash itself.
    pub fn parse(text: &str) -> Result<Hash, String> {
        if !text.starts_with("$argon2id$") {
            return Err(other_kind(text));
        }
        let phc = PasswordHash::new(text).map_err(|error| format!("the hash is damaged: {}", damage(error)))?;
        let (Some(salt), Some(output)) = (phc.salt, phc.hash) else {
            return Err("the hash is cut short: salt or output is missing".into());
        };
        let version = phc.version.ok_or("the hash has no version: v=19 is missing")?;
        let version = Version::try_from(version).map_err(|_| format!("version v={version} of argon2 is unknown"))?;
        let cost = Cost::read(&phc)?;
        let mut salt_room = [0; 64];
        let salt = salt.decode_b64(&mut salt_room).map_err(|error| format!("the salt is damaged: {error}"))?;
        if salt.len() < argon2::MIN_SALT_LEN {
            return Err(format!("the salt has {} octets; at least {} are needed", salt.len(), argon2::MIN_SALT_LEN));
        }
        Ok(Hash { argon2: cost.argon2(version, output.len())?, salt: salt.into(), output })
    }

    /// A hash that no password matches, at `cost`. Checking against it costs what checking a real one does.
    pub fn unmatchable(cost: Cost) -> Result<Hash, String> {
        let mut octets = [0; SALT_BYTES + Params::DEFAULT_OUTPUT_LEN];
        random(&mut octets)?;
        let (salt, output) = octets.split_at(SALT_BYTES);
        let argon2 = cost.argon2(Version::V0x13, output.len())?;
        Ok(Hash { argon2, salt: salt.into(), output: Output::new(output).map_err(|error| error.to_string())? })
    }

    /// Its cost.
    pub fn cost(&self) -> Cost {
        let params = self.argon2.params();
        Cost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }

    /// Differs from that of any other hash, of the same password too: its salt differs. For this process only; not to be
    /// shown.
    pub fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.salt, self.output.as_bytes()).hash(&mut hasher);
        hasher.finish()
    }

    /// Is it the hash of `password`? Takes tens of milliseconds: never on a core thread.
    pub fn matches(&self, password: &[u8], memory: &mut Memory) -> bool {
        let mut room = [0; Output::MAX_LENGTH];
        let computed = &mut room[..self.output.len()];
        let blocks = memory.blocks(self.argon2.params().block_count());
        self.argon2.hash_password_into_with_memory(password, &self.salt, computed, blocks).expect("checked by parse");
        memory.trim();
        // The comparison of `Output` takes the same time wherever the two differ.
        Output::new(computed).is_ok_and(|computed| computed == self.output)
    }
}

/// Hashes `password` under a fresh salt: the PHC string.
pub fn create(password: &[u8], cost: Cost) -> Result<String, String> {
    let mut salt = [0; SALT_BYTES];
    random(&mut salt)?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let argon2 = cost.argon2(Version::V0x13, Params::DEFAULT_OUTPUT_LEN)?;
    argon2.hash_password(password, &salt).map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

impl Cost {
    /// The parameters of a PHC string: m, t and p, each once, and no others.
    fn read(phc: &PasswordHash<'_>) -> Result<Cost, String> {
        let number = |name: &str| {
            let value = phc.params.get_decimal(name);
            value.ok_or_else(|| format!("the hash lacks the parameter {name}=, or it is no number"))
        };
        if let Some((name, _)) = phc.params.iter().find(|(name, _)| !["m", "t", "p"].contains(&name.as_str())) {
            return Err(format!("the hash has a parameter {name}=; only m, t and p are taken"));
        }
        Ok(Cost { memory_kib: number("m")?, passes: number("t")?, lanes: number("p")? })
    }

    fn argon2(self, version: Version, output_bytes: usize) -> Result<Argon2<'static>, String> {
        for (name, value, max) in
            [("m", self.memory_kib, MEMORY_KIB_MAX), ("t", self.passes, PASSES_MAX), ("p", self.lanes, LANES_MAX)]
        {
            if value > max {
                return Err(format!("the cost {name}={value} is too high: at most {max}"));
            }
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(output_bytes));
        let params = params.map_err(|error| format!("{self} is no cost that argon2 knows: {error}"))?;
        Ok(Argon2::new(Algorithm::Argon2id, version, params))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={},t={},p={}", self.memory_kib, self.passes, self.lanes)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.cost())
    }
}

impl Memory {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.blocks.len() < count {
            self.blocks.resize(count, Block::default());
        }
        &mut self.blocks[..count]
    }

    /// One expensive user must not make every verifier keep his 256 MiB.
    fn trim(&mut self) {
        if self.blocks.len() > KEPT_BLOCKS_MAX {
            self.blocks = Vec::new();
        }
    }
}

/// What the parser of PHC strings says, in plain words.
fn damage(error: argon2::password_hash::Error) -> &'static str {
    use argon2::password_hash::Error;
    use argon2::password_hash::errors::InvalidValue;
    match error {
        Error::SaltInvalid(InvalidValue::TooShort) => "its salt is too short",
        Error::SaltInvalid(InvalidValue::TooLong) => "its salt is too long",
        Error::OutputSize { .. } => "its last part, the output, is too short or too long",
        Error::SaltInvalid(_) | Error::B64Encoding(_) => "salt or output has a character that does not belong there",
        Error::ParamNameDuplicated | Error::ParamNameInvalid | Error::ParamValueInvalid(_) => {
            "m=, t= and p= do not stand there once each, with a number"
        }
        Error::PhcStringTrailingData => "something stands behind its last part",
        _ => "it has not the form $argon2id$v=19$m=..,t=..,p=..$salt$output",
    }
}

/// What somebody probably brought along from another server.
fn other_kind(text: &str) -> String {
    const KINDS: [(&str, &str); 10] = [
        ("$argon2", "another variant of argon2"),
        ("$2", "bcrypt"),
        ("$6$", "SHA-512 crypt"),
        ("$5$", "SHA-256 crypt"),
        ("$1$", "MD5 crypt"),
        ("$y$", "yescrypt"),
        ("$7$", "scrypt"),
        ("$scrypt$", "scrypt"),
        ("$pbkdf2", "PBKDF2"),
        ("{", "an LDAP scheme"),
    ];
    let kind = KINDS.iter().find(|row| text.starts_with(row.0)).map_or("nothing known", |row| row.1);
    format!("the hash is {kind}; only $argon2id$ is taken: set the password anew with `penstock user add`")
}

fn random(octets: &mut [u8]) -> Result<(), String> {
    SystemRandom::new().fill(octets).map_err(|_| "the kernel gives no random numbers".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    #[test]
    fn a_fresh_hash_matches_its_password_and_no_other() {
        let mut memory = Memory::default();
        for cost in [CHEAP, Cost { memory_kib: 64, passes: 3, lanes: 4 }] {
            let text = create(b"password", cost).expect("hash");
            let hash = Hash::parse(&text).expect(&text);
            assert_eq!(hash.cost(), cost);
            assert!(hash.matches(b"password", &mut memory));
            for other in [&b""[..], b"Password", b"password ", b"passwor"] {
                assert!(!hash.matches(other, &mut memory));
            }
        }
        assert_ne!(create(b"p", CHEAP), create(b"p", CHEAP), "a salt of its own each time");
    }

    #[test]
    fn a_hash_made_by_the_reference_program() {
        // echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 (the test vectors of the reference implementation)
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = Hash::parse(text).expect("a hash");
        let mut memory = Memory::default();
        assert!(hash.matches(b"password", &mut memory));
        assert!(!hash.matches(b"differentpassword", &mut memory));
        assert_eq!(memory.blocks.len(), 65536, "kept for the next one");
    }

    #[test]
    fn memory_of_an_expensive_hash_is_given_back() {
        let mut memory = Memory::default();
        memory.blocks(KEPT_BLOCKS_MAX + 1);
        memory.trim();
        assert!(memory.blocks.is_empty());
    }

    #[test]
    fn the_default_cost_is_what_owasp_says() {
        let text = create(b"password", Cost::default()).expect("hash");
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
    }

    #[test]
    fn nothing_matches_the_unmatchable_and_it_costs_the_same() {
        let hash = Hash::unmatchable(CHEAP).expect("hash");
        assert_eq!(hash.cost(), CHEAP);
        assert!(!hash.matches(b"", &mut Memory::default()));
    }

    #[test]
    fn mistakes_are_named() {
        const REST: &str = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for (start, part) in [
            ("$argon2id$v=19$m=262145,t=1,p=1", "m=262145 is too high"),
            ("$argon2id$v=19$m=4294967295,t=1,p=1", "is too high"),
            ("$argon2id$v=19$m=64,t=17,p=1", "t=17 is too high"),
            ("$argon2id$v=19$m=1024,t=1,p=17", "p=17 is too high"),
            ("$argon2id$v=19$m=7,t=1,p=1", "m=7,t=1,p=1 is no cost"),
            ("$argon2id$v=19$m=64,t=0,p=1", "no cost"),
            ("$argon2id$v=19$m=64,t=1", "lacks the parameter p="),
            ("$argon2id$v=19$m=64,t=1,p=1,data=AAAA", "parameter data="),
            ("$argon2id$v=18$m=64,t=1,p=1", "v=18"),
            ("$argon2id$m=64,t=1,p=1", "no version"),
            ("$argon2i$v=19$m=64,t=1,p=1", "another variant of argon2"),
            ("$2b$12", "bcrypt"),
            ("$6$rounds=5000", "SHA-512 crypt"),
            ("{SSHA}", "LDAP"),
            ("hunter42", "nothing known"),
        ] {
            let error = Hash::parse(&format!("{start}{REST}")).expect_err(start);
            assert!(error.contains(part) && !error.contains("c29tZXNhbHQ"), "{start}: {error}");
        }
        for (text, part) in [
            ("$argon2id$v=19$m=64,t=1,p=1", "cut short"),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ", "cut short"),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "damaged: its last part, the output, is too short"),
            ("$argon2id$v=19$m=64,t=1,p=1$abc$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "its salt is too short"),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXN!bHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "a character that"),
            ("$argon2id$v=19$m=64,t=x=1,p=1$c29tZXNhbHQ", "the hash is damaged: "),
            ("$argon2id$v=19$m=64,t=1,p=1$YWFhYQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "has 4 octets"),
            ("", "nothing known"),
        ] {
            let error = Hash::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
