//! Large contents in files of their own.

use super::*;

#[test]
fn a_spilled_message_is_whole_and_its_file_is_used_again() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_, mut follower) = spool.relay_side();
        for round in 0..3u8 {
            let content = vec![round; 300_000];
            let mut spill = writer.spill().await.expect("a file");
            for piece in content.chunks(70_000) {
                spill.write(piece.to_vec()).await.0.expect("written");
            }
            let id = writer.begin(0).expect("room");
            let mut envelope = envelope("ben@example.edu");
            spill.finish().await.expect("durable").push_to(&mut envelope);
            writer.commit(id, &envelope, b"").await.expect("durable");
            let all = entries(&mut follower);
            assert_eq!(all.len(), 1);
            assert_eq!(memory(follower.read(all[0].1).expect("readable")), content);
            follower.settled(all[0].1);
        }
        drop(writer.spill().await.expect("a file"));
        assert_eq!(files(&directory).1, 1);
    });
}

#[test]
fn spill_files_that_no_record_names_are_freed_at_the_start_and_others_are_kept() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let mut named = writer.spill().await.expect("a file");
        let mut orphan = writer.spill().await.expect("a file");
        named.write(vec![7; 1000]).await.0.expect("written");
        orphan.write(vec![8; 1000]).await.0.expect("written");
        let mut envelope = envelope("ben@example.edu");
        named.finish().await.expect("durable").push_to(&mut envelope);
        orphan.finish().await.expect("durable");
        writer.commit(writer.begin(0).expect("room"), &envelope, b"").await.expect("durable");
        drop((writer, spool));

        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_, mut follower) = spool.relay_side();
        let all = entries(&mut follower);
        assert!(follower.next().is_none());
        // The orphan is in the pool, so the next spill needs no third file.
        writer.spill().await.expect("a file").write(vec![9; 10]).await.0.expect("written");
        assert_eq!(files(&directory).1, 2);
        assert_eq!(memory(follower.read(all[0].1).expect("readable")), vec![7; 1000]);
    });
}

/// A power cut of a small disk, which keeps no free files, found it: the record of a delivered message freed the file of a new
/// one, which had the number again.
#[test]
fn a_file_that_was_freed_long_ago_is_not_freed_once_more() {
    on_both(async |driver, directory| {
        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        commit_spilled(&writer, 1).await;
        drop((writer, spool));
        std::fs::remove_file(directory.path().join("spill/00000001.body")).expect("it was the first");

        let mut spool = open(&directory, 1);
        let writer = start(spool.core_writers().remove(0), driver);
        let (_, mut follower) = spool.relay_side();
        commit_spilled(&writer, 2).await;
        // The relay comes to it only now.
        let old = follower.next().expect("the old one").at;
        follower.settled(old);
        let new = follower.next().expect("the new one").at;
        commit_spilled(&writer, 3).await;
        assert_eq!(memory(follower.read(new).expect("readable")), vec![2; 1000]);
    });
}

pub async fn commit_spilled(writer: &Writer, octet: u8) {
    let mut spill = writer.spill().await.expect("a file");
    spill.write(vec![octet; 1000]).await.0.expect("written");
    let mut envelope = envelope("ben@example.edu");
    spill.finish().await.expect("durable").push_to(&mut envelope);
    writer.commit(writer.begin(0).expect("room"), &envelope, b"").await.expect("durable");
}
