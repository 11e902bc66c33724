//! Direct delivery: to the mail servers that DNS names for a recipient's domain. RFC 5321 section 5.1.
//!
//! ```text
//!  recipient --> domains: a destination for each domain that mail waits for      (the queue's turns, pauses, limits)
//!                   |
//!  delivery --> site: asks name servers (services::dns) --answers--> exchangers: whom to connect to, or why nobody
//!                   |                                                    reach: to which addresses, and to which not
//!                   +--> pool of the exchangers, by preference --> connection --> task
//!                                                                     addresses: who has a place at which, and which are down
//! ```
//!
//! Promises: a domain that does not exist or wants no mail is told so to the sender at once, and by name; trouble of name
//! servers is never taken for an answer: the mail waits; nothing is connected to that is not on the public Internet, unless
//! the operator has named it; memory is bounded ([`domains`]).

pub mod addresses;
pub mod domains;
pub mod exchangers;
pub mod reach;
pub mod site;
