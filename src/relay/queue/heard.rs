//! What was said when a part of a message was last tried: to each recipient its own, and kept once where it is the same.

use super::Reason;
use crate::smtp::client::Reply;

/// Of a reply so much is kept, in octets: more is not read by anybody.
const REASON_BYTES_MAX: usize = 512;

/// The answers to one transaction, of those recipients who were put off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// To all but the others.
    said: Reason,
    /// Recipients with another answer, ascending.
    others: Vec<(u32, Reason)>,
}

impl Heard {
    /// What `server` has answered to recipients, who ascend. None: to nobody. A server may say kilobytes, so it is cut.
    pub fn new(answers: &[(u32, Reply)], server: &str) -> Option<Heard> {
        let reason = |reply: &Reply| cut(reply, server);
        let said = reason(&answers.last()?.1);
        let all = answers.iter().map(|(recipient, reply)| (*recipient, reason(reply)));
        let mut others: Vec<(u32, Reason)> = all.filter(|(_, reason)| *reason != said).collect();
        others.shrink_to_fit();
        Some(Heard { said, others })
    }

    /// Why this recipient, one of those, was put off.
    pub fn by(&self, recipient: u32) -> &Reason {
        let other = self.others.binary_search_by_key(&recipient, |(other, _)| *other);
        other.map_or(&self.said, |at| &self.others[at].1)
    }

    /// Recipients by what was said to them, in the order of the first of each.
    pub fn groups(&self, recipients: &[u32]) -> Vec<(&Reason, Vec<u32>)> {
        let mut groups: Vec<(&Reason, Vec<u32>)> = Vec::new();
        for &recipient in recipients {
            let reason = self.by(recipient);
            match groups.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, group)) => group.push(recipient),
                None => groups.push((reason, vec![recipient])),
            }
        }
        groups
    }
}

fn cut(reply: &Reply, server: &str) -> Reason {
    let mut reply = reply.clone();
    let text = &mut reply.text;
    let end = (0..=REASON_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.truncate(end);
    text.shrink_to_fit();
    let server = Some(server.into()).filter(|_| !reply.ours);
    Reason { reply, server }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply { ours: false, ..Reply::ours(code, text.into()) }
    }

    #[test]
    fn each_recipient_has_its_own_answer() {
        let answers = [(2, "greylisted"), (3, "over quota"), (5, "busy"), (7, "over quota"), (9, "busy")]
            .map(|(recipient, text)| (recipient, reply(450, text)));
        let heard = Heard::new(&answers, "mx").expect("some");
        for (recipient, reply) in &answers {
            assert_eq!(&heard.by(*recipient).reply, reply);
        }
        let groups = heard.groups(&[2, 3, 7, 9]);
        let texts: Vec<_> = groups.iter().map(|(reason, group)| (&reason.reply.text[..], group.clone())).collect();
        assert_eq!(texts, [("greylisted", vec![2]), ("over quota", vec![3, 7]), ("busy", vec![9])]);
    }

    #[test]
    fn what_all_were_told_is_kept_once() {
        let answers: Vec<_> = (0..1000).map(|recipient| (recipient, reply(450, "later"))).collect();
        assert!(Heard::new(&answers, "mx").expect("some").others.is_empty());
        assert_eq!(Heard::new(&[], "mx"), None);
    }
}
