//! Indented text.

/// A text under construction.
#[derive(Debug, Default)]
pub(crate) struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// One line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if !line.is_empty() {
            for _ in 0..self.depth {
                self.out.push_str("    ");
            }
            self.out.push_str(line);
        }
        self.out.push('\n');
    }

    /// A line that opens a block: ` {` is added.
    pub fn open(&mut self, line: impl AsRef<str>) {
        self.line(format!("{} {{", line.as_ref()));
        self.depth += 1;
    }

    /// A block of its own, for the names in it.
    pub fn open_scope(&mut self) {
        self.line("{");
        self.depth += 1;
    }

    /// The end of a block.
    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    /// The text so far.
    pub fn finish(self) -> String {
        debug_assert_eq!(self.depth, 0, "a block is open");
        self.out
    }
}

/// A name from a file, made safe for a comment: line breaks of any kind would end it.
pub(crate) fn comment(name: &str) -> String {
    format!("\"{}\"", name.escape_default())
}
