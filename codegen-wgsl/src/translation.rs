//! What stands for the way from text to strict SPIR-V, for those who want to know whether it is still the same without
//! going it: making a shader takes milliseconds, hashing its text microseconds.

use std::any::TypeId;
use std::hash::{Hash, Hasher};

/// Bytes that two builds share only if they give the same words for the same text: the module that makes them, as text,
/// and the identity of a type of naga's, in which the compiler has mixed naga's version, its features and its
/// dependencies. They are good for nothing but to be compared, and another compiler may give others.
pub fn translation() -> Vec<u8> {
    let mut bytes = Bytes(include_bytes!("spirv.rs").to_vec());
    TypeId::of::<naga::back::spv::Options<'static>>().hash(&mut bytes);
    bytes.0
}

/// What is hashed, as it is.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_in_it() {
        let (all, own) = (translation(), include_bytes!("spirv.rs"));
        assert!(all.starts_with(own));
        assert!(all.len() >= own.len() + 8, "an identity has 64 bits at least");
        assert_eq!(all, translation());
    }
}
