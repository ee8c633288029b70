//! What a handler of Ctrl-C does. Alone in its process: it removes the half-written files of all threads.

use std::fs;

use loom_runtime::tensors::{remove_partial_files, write_atomically};

#[test]
fn half_written_files_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let count = || fs::read_dir(folder.path()).unwrap().count();
    let path = folder.path().join("out.safetensors");
    let interrupted = write_atomically(&path, |file| {
        file.write_all(b"half")?;
        assert_eq!(count(), 1);
        remove_partial_files();
        assert_eq!(count(), 0);
        Err(std::io::Error::other("interrupted"))
    });
    assert!(interrupted.is_err());
}
