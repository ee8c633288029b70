//! The file as a whole: size, nesting and syntax, all checked before anything in it is looked at.

use super::error::ConfigError;
use crate::diagnostics::Span;
use crate::limits;

/// Checks what can be checked without parsing. Nesting has to be: a parser recurses on it.
pub(super) fn check(source: &str, most: u64) -> Result<(), ConfigError> {
    let bytes = source.len() as u64;
    if bytes > most {
        return Err(ConfigError::FileTooLarge { bytes, most });
    }
    if source.starts_with('\u{feff}') {
        return Err(ConfigError::ByteOrderMark { span: Span::new(0, '\u{feff}'.len_utf8()) });
    }
    if source.trim_ascii().is_empty() {
        return Err(ConfigError::EmptyFile);
    }
    check_depth(source)
}

/// Finds the first bracket that opens one level too many. Brackets inside strings don't count.
fn check_depth(source: &str) -> Result<(), ConfigError> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (offset, byte) in source.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                if depth > limits::MAX_CONFIG_DEPTH {
                    return Err(ConfigError::NestedTooDeep { span: Span::new(offset, offset.saturating_add(1)) });
                }
            }
            // Brackets that don't match are a syntax error, found later.
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What serde_json says about `text`, which stands at byte `start` of the file.
pub(super) fn not_json(error: &serde_json::Error, text: &str, start: usize) -> ConfigError {
    let said = error.to_string();
    let said = said.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&said);
    let fault = Fault::find(said, place(error, text), text);
    let (reason, help) = fault.explain(said);
    let start = start.saturating_add(fault.before.len());
    ConfigError::NotJson { reason, help, span: Span::new(start, start.saturating_add(fault.word.len())) }
}

/// The byte that a syntax error is about.
fn place(error: &serde_json::Error, text: &str) -> usize {
    if error.is_eof() {
        // Nothing stands at the end of the file: show the last thing that does.
        return text.trim_ascii_end().len().saturating_sub(1);
    }
    let lines_before = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let line_start = lines_before.map(str::len).fold(0, usize::saturating_add);
    // The column counts the bytes of the line up to and including the faulty one; after a faulty line break it is 0.
    line_start.saturating_add(error.column()).saturating_sub(1)
}

/// The word or the character that a syntax error is about, and the text before it.
struct Fault<'a> {
    before: &'a str,
    word: &'a str,
}

impl<'a> Fault<'a> {
    fn find(said: &str, place: usize, text: &'a str) -> Fault<'a> {
        let (before, after) = text.split_at_checked(text.floor_char_boundary(place)).unwrap_or((text, ""));
        // These are noticed one character after the end of the word they are about.
        let ends_word = matches!(said, "expected ident" | "invalid number") && before.ends_with(is_word);
        if !ends_word && !after.starts_with(is_word) {
            let character = after.chars().next().map_or(0, char::len_utf8);
            return Fault { before, word: after.get(..character).unwrap_or("") };
        }
        let before = before.trim_end_matches(is_word);
        let after = text.strip_prefix(before).unwrap_or(after);
        let word = after.strip_suffix(after.trim_start_matches(is_word)).unwrap_or(after);
        Fault { before, word }
    }

    /// serde_json's words made ours, and a hint for the usual slips.
    fn explain(&self, said: &str) -> (String, Option<&'static str>) {
        if matches!(self.word, "}" | "]") && self.before.trim_ascii_end().ends_with(',') {
            return ("a comma before a closing bracket".to_owned(), Some("remove the comma"));
        }
        if said.starts_with("control character") {
            let reason = "a string holds a line break or another control character";
            return (reason.to_owned(), Some("close the string, or write the character as an escape"));
        }
        let reason = match said {
            "expected ident" => "expected `true`, `false` or `null`".to_owned(),
            "trailing characters" => "there is more text after the end of the network".to_owned(),
            _ => match said.strip_prefix("EOF while parsing ") {
                Some(thing) => format!("the file ends inside {thing}"),
                None => said.to_owned(),
            },
        };
        let help = match self.word {
            "/" | "#" => Some("JSON has no comments"),
            "'" => Some("JSON writes strings in double quotes"),
            "True" | "False" | "None" => Some("JSON writes `true`, `false` and `null`"),
            word if is_not_finite(word) => Some("JSON has no infinity and no NaN"),
            _ => None,
        };
        (reason, help)
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '+' | '-' | '.')
}

fn is_not_finite(word: &str) -> bool {
    let word = word.trim_start_matches(['+', '-']).to_ascii_lowercase();
    matches!(word.as_str(), "nan" | "inf" | "infinity")
}
