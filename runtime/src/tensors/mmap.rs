//! The bytes of a file, mapped. The only `unsafe` of the loader.

#![allow(unsafe_code)]

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use super::error::TensorError;

/// The bytes of a file: mapped, or held in memory where there was no file.
#[derive(Debug)]
pub enum FileBytes {
    /// Mapped from a file.
    Mapped(memmap2::Mmap),
    /// In memory.
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps a regular file.
    ///
    /// Loom replaces files by renaming, so files that it writes itself can be mapped meanwhile. If another program
    /// truncates a file while it is mapped, the system ends this process, as it does for every mapped file.
    pub fn map(path: &Path) -> Result<FileBytes, TensorError> {
        let open = |source| TensorError::Open { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(open)?;
        let metadata = file.metadata().map_err(open)?;
        if !metadata.is_file() {
            return Err(TensorError::NotAFile { path: path.to_path_buf() });
        }
        if usize::try_from(metadata.len()).is_err() {
            return Err(TensorError::FileTooLarge { path: path.to_path_buf(), bytes: metadata.len() });
        }
        if metadata.len() == 0 {
            // Not every system maps nothing.
            return Ok(FileBytes::Owned(Vec::new()));
        }
        // SAFETY: the map is read-only and private to this value, and it is only read as plain bytes and words, for
        // which every bit pattern is legal. That another process changes the bytes meanwhile can't be ruled out; where
        // and how much is read follows from what the loaders have copied out (the header), never from the map itself: numbers
        // there, scales and zero points among them, may become others, and no access hangs on them.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(open)?;
        Ok(FileBytes::Mapped(map))
    }

    /// Takes a range, and what shares its first and last pages, out of this process's memory until it's read again. The
    /// system may keep the file's pages in its cache.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(map) = self
            && range.start < range.end
            && range.end <= map.len()
        {
            // SAFETY: pages of a read-only map of a file, which come back from the file with the same bytes: what `map`
            // relies on anyway. A failure means only that memory is not given back.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.end - range.start)
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map,
            FileBytes::Owned(bytes) => bytes,
        }
    }
}
