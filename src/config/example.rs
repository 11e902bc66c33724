//! The commented configurations that ship with Penstock: a general one that shows every key, and the published set-ups
//! of five universities. `penstock config example NAME` prints them; each passes `penstock check` as it is.

/// An example.
#[derive(Debug)]
pub struct Example {
    /// What `penstock config example` calls it.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The general one first.
pub const EXAMPLES: &[Example] = &[
    Example {
        name: "general",
        about: "every key, with its default and the reason for it",
        text: include_str!("examples/general.toml"),
    },
    Example {
        name: "bristol",
        about: "STARTTLS and AUTH on 25 and 587, from anywhere",
        text: include_str!("examples/bristol.toml"),
    },
    Example {
        name: "alberta",
        about: "587, and 465 for programs that speak TLS from the first octet",
        text: include_str!("examples/alberta.toml"),
    },
    Example {
        name: "simon-fraser",
        about: "25 and 465; everybody to local recipients, the campus and users to anyone",
        text: include_str!("examples/simon-fraser.toml"),
    },
    Example {
        name: "toronto",
        about: "587 and 465, the same at home and on the road",
        text: include_str!("examples/toronto.toml"),
    },
    Example {
        name: "loughborough",
        about: "user@domain as user name on 25, 465 and 587",
        text: include_str!("examples/loughborough.toml"),
    },
];

/// The example of that name.
pub fn find(name: &str) -> Option<&'static Example> {
    EXAMPLES.iter().find(|example| example.name == name)
}
