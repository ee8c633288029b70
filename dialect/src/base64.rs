//! Standard base64 (RFC 4648, section 4), with its padding and nothing else.

/// The bytes that `text` stands for.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity((text.len() / 4).saturating_mul(3));
    let (groups, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let (last, groups) = match groups.split_last() {
        Some((last, groups)) => (last, groups),
        None => return Some(bytes),
    };
    for &group in groups {
        bytes.extend(three(group)?);
    }
    let (digits, kept) = match *last {
        [a, b, b'=', b'='] => ([a, b, b'A', b'A'], 1),
        [a, b, c, b'='] => ([a, b, c, b'A'], 2),
        all => (all, 3),
    };
    let three = three(digits)?;
    // The bits that no byte takes are 0, so that each sequence of bytes has one text.
    if three.iter().skip(kept).any(|&byte| byte != 0) {
        return None;
    }
    bytes.extend(three.iter().take(kept));
    Some(bytes)
}

fn three([a, b, c, d]: [u8; 4]) -> Option<[u8; 3]> {
    let bits = digit(a)? << 18 | digit(b)? << 12 | digit(c)? << 6 | digit(d)?;
    let [_, high, middle, low] = bits.to_be_bytes();
    Some([high, middle, low])
}

fn digit(character: u8) -> Option<u32> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // Of the characters, almost all are letters: a table by character would be no clearer and little faster.
    DIGITS.iter().position(|&digit| digit == character).and_then(|place| u32::try_from(place).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_examples() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
    }

    #[test]
    fn refused() {
        for text in ["Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm 9v", "Zm-v", "Zm9ü"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
