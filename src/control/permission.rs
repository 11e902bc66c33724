//! Who may ask what.
//!
//! Root and the user that the server runs as may do everything. Members of `control.postmaster_group` too; members of
//! `control.helpdesk_group` may ask where a message is that they can name, by its id, a user or an address, and how much is
//! queued: they read no list of who writes to whom, and change nothing.

use super::request::Deed;

/// How much somebody may do; more includes less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Nothing.
    Stranger,
    /// Find out where a message is.
    HelpDesk,
    /// Read and change what is queued.
    Postmaster,
}

/// What each deed takes.
#[rustfmt::skip]
const NEEDS: [(Deed, Rank); 10] = [
    (Deed::Trace,   Rank::HelpDesk),
    (Deed::Stats,   Rank::HelpDesk),
    (Deed::List,    Rank::Postmaster),
    (Deed::Show,    Rank::Postmaster),
    (Deed::Headers, Rank::Postmaster),
    (Deed::Flush,   Rank::Postmaster),
    (Deed::Hold,    Rank::Postmaster),
    (Deed::Release, Rank::Postmaster),
    (Deed::Requeue, Rank::Postmaster),
    (Deed::Delete,  Rank::Postmaster),
];

/// The groups that have a rank, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// `control.helpdesk_group`
    pub helpdesk: Option<u32>,
    /// `control.postmaster_group`
    pub postmaster: Option<u32>,
}

/// The rank of user `uid`, a member of `groups`, where the server runs as `own_uid`.
pub fn rank(uid: u32, groups: &[u32], own_uid: u32, ranked: Groups) -> Rank {
    let is_member = |group: Option<u32>| group.is_some_and(|group| groups.contains(&group));
    match () {
        () if is_own(uid, own_uid) || is_member(ranked.postmaster) => Rank::Postmaster,
        () if is_member(ranked.helpdesk) => Rank::HelpDesk,
        () => Rank::Stranger,
    }
}

/// Root, or the user that the server runs as.
pub fn is_own(uid: u32, own_uid: u32) -> bool {
    uid == 0 || uid == own_uid
}

/// May somebody of this rank do that?
pub fn may(rank: Rank, deed: Deed) -> bool {
    NEEDS.iter().any(|(known, needed)| *known == deed && rank >= *needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_which_rank() {
        let both = Groups { helpdesk: Some(50), postmaster: Some(60) };
        for (uid, groups, ranked, expected) in [
            (0, &[][..], Groups::default(), Rank::Postmaster),
            (7, &[], Groups::default(), Rank::Postmaster),
            (8, &[0, 7, 50, 60], Groups::default(), Rank::Stranger),
            (8, &[], both, Rank::Stranger),
            (8, &[50], both, Rank::HelpDesk),
            (8, &[60], both, Rank::Postmaster),
            (8, &[50, 60], both, Rank::Postmaster),
            (8, &[51], both, Rank::Stranger),
        ] {
            assert_eq!(rank(uid, groups, 7, ranked), expected, "{uid} {groups:?} {ranked:?}");
        }
    }

    #[test]
    fn the_matrix() {
        for deed in Deed::ALL {
            let helpdesk = matches!(deed, Deed::Trace | Deed::Stats);
            assert!(!may(Rank::Stranger, deed), "{deed:?}");
            assert_eq!(may(Rank::HelpDesk, deed), helpdesk, "{deed:?}");
            assert!(may(Rank::Postmaster, deed), "{deed:?}");
        }
    }
}
