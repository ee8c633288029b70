//! Names of tensors and networks as C identifiers.

use std::collections::BTreeSet;

/// Words that neither C nor C++ lets a member have.
const RESERVED: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "typeof_unqual",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
];

/// Longest prefix.
const MAX_PREFIX: usize = 64;

/// Whether names may begin with it: letters, digits and underscores, a letter first.
pub(super) fn is_identifier(text: &str) -> bool {
    text.len() <= MAX_PREFIX
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Makes a prefix of any name.
pub(super) fn identifier(name: &str) -> String {
    let mut text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        text.insert_str(0, "net_");
    }
    text.truncate(MAX_PREFIX);
    text
}

/// Members of a struct, one for each tensor, all different.
pub(super) fn members<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut member = |name: &str| {
        let mut text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            text.insert_str(0, "t_");
        }
        if RESERVED.contains(&&*text) {
            text.push('_');
        }
        let (base, mut number) = (text.clone(), 2);
        while !taken.insert(text.clone()) {
            text = format!("{base}_{number}");
            number += 1;
        }
        text
    };
    names.map(&mut member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_identifiers_and_differ() {
        let names = ["layers.0.weight", "layers/0/weight", "float", "0", "é", "layers_0_weight_2"];
        let found = members(names.into_iter());
        assert_eq!(found, ["layers_0_weight", "layers_0_weight_2", "float_", "t_0", "t__", "layers_0_weight_2_2"]);
    }

    #[test]
    fn prefixes_are_identifiers() {
        for name in ["digits", "a b", "", "7", "émile", &"x".repeat(200)] {
            assert!(is_identifier(&identifier(name)), "{name}");
        }
        for wrong in ["", "7up", "a-b", "é", "_x", &"x".repeat(65)] {
            assert!(!is_identifier(wrong), "{wrong}");
        }
    }
}
