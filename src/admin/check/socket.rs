//! The control socket's directory: is it there, can this user make the socket, can nobody else, and do those who may ask come
//! in? What only the service has (its directory in /run, its groups) is a warning, because whoever checks may lack it.

use crate::config::{self, Loaded};
use crate::control::peer;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, Uid, access, getegid, getgroups};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Others may write.
const OTHERS_WRITE: u32 = 0o022;
/// Others may enter.
const OTHERS_ENTER: u32 = 0o011;
/// What makes a directory that others may enter and not write.
const RUNTIME_DIRECTORY: &str = "RuntimeDirectory=penstock (systemd) makes /run/penstock";

/// Looks at the directory and at the groups.
pub fn check(loaded: &mut Loaded) {
    directory(loaded);
    membership(loaded);
}

fn directory(loaded: &mut Loaded) {
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    let config::Control { socket, helpdesk_group, postmaster_group } = &config.control;
    let at = &places.control_socket;
    let Some(directory) = socket.parent().map(whole) else { return };
    let named = directory.display();
    let asked = [helpdesk_group, postmaster_group].into_iter().position(Option::is_some);
    let shut_out = "so the groups of [control] cannot ask";
    if directory == config.spool.directory {
        if let Some(first) = asked {
            let what = format!(
                "only root and the server's own user can enter {named}, where the control socket is, {shut_out}"
            );
            let remedy = format!("write socket = \"/run/penstock/control\" into [control]; {RUNTIME_DIRECTORY}");
            notices.warning(&places.groups[first], what, remedy);
        }
        return;
    }
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => {
            return notices.mistake(at, format!("{named} is no directory"), "name a path in a directory");
        }
        Ok(metadata) => metadata,
        Err(error) => {
            let what =
                format!("no control socket can be made in {named}, and without it serve does not start: {error}");
            let remedy = format!("make it and chown it to the user that penstock runs as; {RUNTIME_DIRECTORY}");
            return notices.warning(at, what, remedy);
        }
    };
    let mode = metadata.permissions().mode();
    if mode & OTHERS_WRITE != 0 {
        let what =
            format!("others may write into {named}, and so listen in the server's place and keep it from starting");
        notices.warning(at, what, format!("run: chmod go-w {named}, or name another directory; {RUNTIME_DIRECTORY}"));
    }
    // Whoever may not enter one of those above does not come here either.
    let is_shut = |above: &&Path| fs::metadata(above).is_ok_and(|above| above.permissions().mode() & OTHERS_ENTER == 0);
    if let (Some(shut), Some(_)) = (directory.ancestors().find(is_shut), asked) {
        let shut = shut.display();
        let what = format!("only root and the owner of {shut} can enter it, {shut_out}");
        notices.warning(at, what, format!("run: chmod a+x {shut}"));
    }
    match access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => {}
        Err(Errno::EROFS) => {
            let what = format!("{named} is on a file system that is mounted read-only");
            notices.mistake(at, what, format!("name another directory; {RUNTIME_DIRECTORY}"));
        }
        Err(_) => {
            let what = format!("this user may not make a socket in {named}");
            notices.mistake(at, what, "chown it to the user that penstock runs as, or check as that user");
        }
    }
}

/// A name alone is one in the current directory.
fn whole(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Where one group alone may ask, the socket is given to that group, which takes a member.
fn membership(loaded: &mut Loaded) {
    let (config, places, notices) = (&loaded.config, &loaded.places, &mut loaded.notices);
    let config::Control { helpdesk_group, postmaster_group, .. } = &config.control;
    let (name, at) = match (helpdesk_group, postmaster_group) {
        (Some(helpdesk), Some(postmaster)) if helpdesk != postmaster => return,
        (Some(name), _) => (name, &places.groups[0]),
        (None, Some(name)) => (name, &places.groups[1]),
        (None, None) => return,
    };
    // One that the system does not know has been said.
    let Ok(group) = peer::group("", name) else { return };
    let is_its = |gid: nix::unistd::Gid| gid.as_raw() == group;
    let is_member = is_its(getegid()) || getgroups().is_ok_and(|groups| groups.into_iter().any(is_its));
    if !Uid::effective().is_root() && !is_member {
        let what = format!("this user is no member of {name}, and so cannot give that group the control socket");
        let remedy = format!("give the service SupplementaryGroups={name} (systemd), if it does not have it");
        notices.warning(at, what, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(control: &str) -> String {
        let text = config::example::find("general").expect("there").text;
        let text = text.replace("[control]\n", &format!("[control]\n{control}"));
        let mut loaded = config::parse(&text, Path::new("/x/penstock.toml")).expect("no mistakes");
        directory(&mut loaded);
        loaded.notices.to_string()
    }

    #[test]
    fn a_directory_that_cannot_do_is_named_with_its_remedy() {
        let directory = tempfile::tempdir().expect("a directory");
        let (there, group) = (directory.path(), "helpdesk_group = \"root\"\n");
        std::fs::write(there.join("file"), "").expect("written");
        let socket = |name: &str| format!("socket = \"{}\"\n", there.join(name).display());
        let of_mode = |mode: u32, groups: &str| {
            std::fs::set_permissions(there, PermissionsExt::from_mode(mode)).expect("set");
            said(&(socket("control") + groups))
        };
        let below = |mode: u32| {
            let inner = there.join("inner");
            std::fs::create_dir_all(&inner).expect("made");
            std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o755)).expect("set");
            std::fs::set_permissions(there, PermissionsExt::from_mode(mode)).expect("set");
            said(&(socket("inner/control") + group))
        };
        for (said, what, remedy) in [
            (said(""), "", ""),
            (said(group), "so the groups of [control] cannot ask", "socket = \"/run/penstock/control\""),
            (of_mode(0o755, group), "", ""),
            (of_mode(0o700, ""), "", ""),
            (of_mode(0o700, group), "can enter it, so the groups", "chmod a+x"),
            (of_mode(0o1777, ""), "others may write into", "chmod go-w"),
            (below(0o755), "", ""),
            (below(0o700), "can enter it, so the groups", &format!("chmod a+x {}", there.display())),
            (said(&socket("none/control")), "serve does not start: ", "RuntimeDirectory=penstock"),
            (said(&socket("file/control")), "is no directory", "name a path"),
        ] {
            assert!(said.contains(what) && said.contains(remedy), "{what}: {said}");
            assert_eq!(said.is_empty(), what.is_empty(), "{said}");
        }
    }
}
