//! What goes to standard output.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints text as it is. A reader that has seen enough (`head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Prints bytes.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ReaderGone),
        Err(error) => Err(Failure::User(format!("can't write to the standard output: {error}"))),
    }
}

/// Prints a value as JSON for programs, its fields in their first version.
pub fn json<T: Serialize>(command: &'static str, value: &T) -> Result<(), Failure> {
    versioned_json(command, 1, value)
}

/// Prints a value as JSON for programs, with the version of its fields.
pub fn versioned_json<T: Serialize>(command: &'static str, schema: u32, value: &T) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        schema: u32,
        command: &'static str,
        #[serde(flatten)]
        value: &'a T,
    }
    let text = serde_json::to_string_pretty(&Versioned { schema, command, value });
    print(&(text.map_err(|error| Failure::Internal(error.to_string()))? + "\n"))
}
