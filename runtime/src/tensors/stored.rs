//! Tensors that stay as they are stored, in fewer bits than programs compute with.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::groups::Groups;
use loom_ir::numerics::stored::{Form, Scales, View};

use super::FileBytes;
use crate::fp_env::FpEnv;

/// A part of a file, which stays there.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub file: Arc<FileBytes>,
    pub range: Range<usize>,
}

impl Span {
    pub fn bytes(&self) -> &[u8] {
        self.file.get(self.range.clone()).unwrap_or(&[])
    }
}

/// The parts of a stored tensor, and the `f32`s that they stand for where somebody has asked for these.
#[derive(Debug)]
pub(crate) struct StoredBits {
    pub form: Form,
    pub count: usize,
    pub data: Span,
    pub scales: Option<StoredScales>,
    pub widened: OnceLock<Vec<u32>>,
}

#[derive(Debug)]
pub(crate) struct StoredScales {
    pub groups: Groups,
    pub scale: Span,
    pub zero_point: Option<(Storage, Span)>,
}

impl StoredBits {
    pub fn view(&self) -> View<'_> {
        let scales = self.scales.as_ref().map(|scales| Scales {
            groups: scales.groups,
            scale: scales.scale.bytes(),
            zero_point: scales.zero_point.as_ref().map(|(storage, span)| (*storage, span.bytes())),
        });
        View { storage: self.form.storage, data: self.data.bytes(), scales }
    }

    /// Each element as an `f32`, from the first call on; nothing where there's no memory for that.
    pub fn bits(&self) -> &[u32] {
        if let Some(bits) = self.widened.get() {
            return bits;
        }
        match widen(&self.view(), self.count) {
            Some(bits) => self.widened.get_or_init(|| bits),
            None => &[],
        }
    }
}

/// The bits of the `f32`s that the first `count` elements stand for; `None` without memory for them.
pub(crate) fn widen(view: &View<'_>, count: usize) -> Option<Vec<u32>> {
    let mut bits = Vec::new();
    bits.try_reserve_exact(count).ok()?;
    FpEnv::run(|| bits.extend((0..count).map(|index| view.bits(index))));
    Some(bits)
}
