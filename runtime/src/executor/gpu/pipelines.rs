//! What the driver keeps of pipelines, in the user's cache: so that a second process need not compile them again.
//!
//! The file belongs to one adapter, one version of its driver and one version of Loom, which its name stands for. In it
//! are the driver's bytes behind their digest: a driver is never given a file that was cut short or changed by accident.
//! Whoever can write to the user's cache on purpose could as well replace the driver. A file is written whole and renamed,
//! so any number of processes may read and write; the last that writes is the one that is kept.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::adapter::AdapterInfo;
use crate::digest::hex;
use crate::tensors::write_atomically;

/// Bytes of a file at most; what a driver gives beyond that is not kept.
const MOST: u64 = 64 << 20;
/// Bytes of the digest before the driver's.
const DIGEST: usize = 32;

/// A driver's cache of pipelines.
#[derive(Debug)]
pub(super) struct Pipelines {
    cache: wgpu::PipelineCache,
    file: PathBuf,
    /// The digest of what is in the file.
    kept: Mutex<Option<[u8; DIGEST]>>,
}

impl Pipelines {
    /// The cache of a device in a folder of the user's; `None` without a folder or where drivers have none.
    pub fn open(device: &wgpu::Device, adapter: &AdapterInfo, cache: Option<&Path>) -> Option<Pipelines> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = cache?.join("pipelines").join(name(adapter) + ".bin");
        let found = read(&file);
        let data = found.as_ref().map(|(_, data)| data.as_slice());
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("loom"), data, fallback: true };
        // SAFETY: the bytes are what `get_data` gave for this adapter and driver, or there are none: the digest before
        // them is that of a file which this module wrote.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Pipelines { cache, file, kept: Mutex::new(found.map(|(digest, _)| digest)) })
    }

    /// The cache, for the making of pipelines.
    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the file, if the driver has something new. A cache that can't be written to is as good as none.
    pub fn keep(&self) {
        let Some(data) = self.cache.get_data().filter(|data| data.len() as u64 + DIGEST as u64 <= MOST) else { return };
        let digest: [u8; DIGEST] = Sha256::digest(&data).into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept == Some(digest) {
            return;
        }
        let folder = self.file.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| error.to_string());
        let write = |file: &mut dyn std::io::Write| file.write_all(&digest).and_then(|()| file.write_all(&data));
        match folder.and_then(|()| write_atomically(&self.file, write).map_err(|error| error.to_string())) {
            Ok(()) => *kept = Some(digest),
            Err(error) => tracing::debug!(error, "pipelines can't be kept"),
        }
    }
}

/// The name of an adapter's file.
fn name(adapter: &AdapterInfo) -> String {
    let AdapterInfo { name, driver, driver_info, backend, vendor, device, .. } = adapter;
    let key = (env!("CARGO_PKG_VERSION"), name, driver, driver_info, backend, vendor, device);
    hex(&Sha256::digest(format!("{key:?}"))[..16])
}

/// The digest and the bytes of a file that is whole.
fn read(file: &Path) -> Option<([u8; DIGEST], Vec<u8>)> {
    let file = File::open(file).ok()?;
    if file.metadata().ok()?.len() > MOST {
        return None;
    }
    let mut content = Vec::new();
    file.take(MOST).read_to_end(&mut content).ok()?;
    let (digest, data) = content.split_first_chunk::<DIGEST>()?;
    let whole = <[u8; DIGEST]>::from(Sha256::digest(data)) == *digest;
    whole.then(|| (*digest, data.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        assert_eq!(read(&path), None, "none");
        let data = b"a driver's bytes";
        let digest: [u8; DIGEST] = Sha256::digest(data).into();
        let whole = [&digest[..], data].concat();
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path), Some((digest, data.to_vec())));
        let mut changed = whole.clone();
        changed[DIGEST] ^= 1;
        for broken in [&whole[..whole.len() - 1], &whole[..DIGEST - 1], &changed, b""] {
            fs::write(&path, broken).unwrap();
            assert_eq!(read(&path), None);
        }
    }

    #[test]
    fn a_file_is_for_one_driver() {
        let adapter = AdapterInfo {
            name: "an adapter".to_string(),
            driver: "a driver".to_string(),
            driver_info: "1".to_string(),
            backend: "vulkan".to_string(),
            class: loom_codegen_wgsl::Class::Discrete,
            vendor: 1,
            device: 2,
            lacks: Vec::new(),
            unlisted: Vec::new(),
        };
        let updated = AdapterInfo { driver_info: "2".to_string(), ..adapter.clone() };
        assert_eq!(name(&adapter), name(&adapter.clone()));
        assert_ne!(name(&adapter), name(&updated));
    }
}
