//! Certificates: what a device has passed once needs not be tried again.
//!
//! A certificate says that one adapter, under one version of its driver, gave the interpreter's bits for one set of
//! shaders of this version of Loom: those of the probe, or in the tier guarded those of one kernel. It is a file in the
//! user's cache, called by the digest of its content, and it is valid only if it holds exactly the bytes that this
//! process would write. So nothing in it is ever parsed, a file that is broken or another version's is none, and any
//! number of processes may read and write at once.
//!
//! All that a certificate can do is to make a probe be left out. Whoever can write to the user's cache could do that,
//! and could as well replace the driver. A failure is never remembered: a device that is refused is probed again, so that
//! the message can say what it gets wrong.
//!
//! The folder is `LOOM_CACHE_DIR`, or else the folder `loom` in the user's folder of caches: `XDG_CACHE_HOME` or
//! `~/.cache`, on macOS `~/Library/Caches`, on Windows `%LOCALAPPDATA%`. `LOOM_CACHE=off` does without.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::adapter::AdapterInfo;
use super::ladder::Form;
use crate::digest::hex;
use crate::executor::tier::Tier;
use crate::tensors::write_atomically;

/// What is certified. The fields are those of the file, in their order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Certificate<'a> {
    /// What the file is, for whoever finds it.
    pub format: &'static str,
    /// Loom's version.
    pub loom: &'static str,
    pub adapter: &'a str,
    pub vendor: u32,
    pub device: u32,
    pub backend: &'a str,
    pub driver: &'a str,
    pub driver_info: &'a str,
    pub tier: &'static str,
    /// The SPIR-V float controls that shaders ask for.
    pub controls: Vec<&'static str>,
    /// The digest of what they ran on and of the shaders: of their text, in the tier strict with what translates it.
    pub shaders: &'a str,
}

impl<'a> Certificate<'a> {
    /// The certificate of an adapter for shaders of a digest.
    pub fn new(adapter: &'a AdapterInfo, tier: Tier, form: Form, shaders: &'a str) -> Certificate<'a> {
        Certificate {
            format: "Loom certificate 2",
            loom: env!("CARGO_PKG_VERSION"),
            adapter: &adapter.name,
            vendor: adapter.vendor,
            device: adapter.device,
            backend: &adapter.backend,
            driver: &adapter.driver,
            driver_info: &adapter.driver_info,
            tier: tier.name(),
            controls: form.control_names(),
            shaders,
        }
    }
}

/// The certificates in a folder; none without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificates {
    folder: Option<PathBuf>,
}

impl Certificates {
    /// Those in the folder `certificates` of a cache.
    pub fn new(cache: Option<&Path>) -> Certificates {
        Certificates { folder: cache.map(|cache| cache.join("certificates")) }
    }

    /// Whether there is this one.
    pub fn hold(&self, certificate: &Certificate<'_>) -> bool {
        let Some((path, content)) = self.file(certificate) else { return false };
        let mut found = Vec::new();
        // One byte more than it may have is enough to see that it is another file.
        let read = File::open(path).and_then(|file| file.take(content.len() as u64 + 1).read_to_end(&mut found));
        read.is_ok() && found == content
    }

    /// Adds one. A cache that can't be written to is as good as none.
    pub fn add(&self, certificate: &Certificate<'_>) {
        let Some((path, content)) = self.file(certificate) else { return };
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| error.to_string());
        let written = folder
            .and_then(|()| write_atomically(&path, |file| file.write_all(&content)).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::debug!(error, "a certificate can't be kept");
        }
    }

    /// Takes one back: the device has failed what it once passed.
    pub fn revoke(&self, certificate: &Certificate<'_>) {
        if let Some((path, _)) = self.file(certificate) {
            // Usually there is none.
            let _ = fs::remove_file(path);
        }
    }

    /// The file of a certificate and what is in it.
    fn file(&self, certificate: &Certificate<'_>) -> Option<(PathBuf, Vec<u8>)> {
        let folder = self.folder.as_ref()?;
        let mut content = serde_json::to_vec_pretty(certificate).ok()?;
        content.push(b'\n');
        let name = hex(&Sha256::digest(&content)[..16]);
        Some((folder.join(name + ".json"), content))
    }
}

/// The user's cache by the environment: see the module's documentation.
pub(super) fn default_cache() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if env::var_os("LOOM_CACHE").is_some_and(|value| value == "off") {
        return None;
    }
    if let Some(own) = folder("LOOM_CACHE_DIR") {
        return Some(own);
    }
    let caches = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        env::home_dir().map(|home| home.join("Library/Caches"))
    } else {
        // A relative path there is invalid by the XDG specification.
        let xdg = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        xdg.or_else(|| env::home_dir().map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("loom"))
}

#[cfg(test)]
mod tests {
    use loom_codegen_wgsl::Class;

    use super::*;

    fn adapter() -> AdapterInfo {
        AdapterInfo {
            name: "an adapter".to_string(),
            vendor: 1,
            device: 2,
            driver: "a driver".to_string(),
            driver_info: "1.2.3".to_string(),
            backend: "vulkan".to_string(),
            class: Class::Discrete,
            lacks: Vec::new(),
            unlisted: Vec::new(),
        }
    }

    #[test]
    fn a_certificate_is_for_exactly_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(Some(folder.path()));
        let adapter = adapter();
        let forms = Form::of(Tier::Strict, false);
        let certificate = Certificate::new(&adapter, Tier::Strict, forms[0], "sha256:00");
        assert!(!certificates.hold(&certificate));
        certificates.add(&certificate);
        assert!(certificates.hold(&certificate));
        let updated = AdapterInfo { driver_info: "1.2.4".to_string(), ..adapter.clone() };
        for other in [
            Certificate::new(&updated, Tier::Strict, forms[0], "sha256:00"),
            Certificate::new(&adapter, Tier::Guarded, forms[0], "sha256:00"),
            Certificate::new(&adapter, Tier::Strict, forms[1], "sha256:00"),
            Certificate::new(&adapter, Tier::Strict, forms[0], "sha256:01"),
            Certificate { loom: "0.0.0", ..certificate.clone() },
        ] {
            assert!(!certificates.hold(&other), "{other:?}");
        }
        certificates.revoke(&certificate);
        assert!(!certificates.hold(&certificate));
    }

    #[test]
    fn what_is_in_the_file_must_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(Some(folder.path()));
        let adapter = adapter();
        let certificate = Certificate::new(&adapter, Tier::Soft, Form::of(Tier::Soft, true)[0], "sha256:00");
        certificates.add(&certificate);
        let (path, content) = certificates.file(&certificate).unwrap();
        let longer = [&content[..], b" "].concat();
        for broken in [&b""[..], &content[..content.len() - 1], &longer, b"\0\xff"] {
            fs::write(&path, broken).unwrap();
            assert!(!certificates.hold(&certificate));
            certificates.add(&certificate);
            assert!(certificates.hold(&certificate));
        }
    }

    #[test]
    fn without_a_cache_all_goes_on() {
        let adapter = adapter();
        let certificate = Certificate::new(&adapter, Tier::Soft, Form::of(Tier::Soft, true)[0], "sha256:00");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        // No cache, and a cache that can't be: a folder in a file.
        for certificates in [Certificates::new(None), Certificates::new(Some(&file))] {
            certificates.add(&certificate);
            assert!(!certificates.hold(&certificate));
            certificates.revoke(&certificate);
        }
    }
}
