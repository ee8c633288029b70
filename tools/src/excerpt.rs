//! A file as messages show it: of a very long line only the part that they point at, at its true column.

use std::collections::BTreeMap;
use std::ops::Range;

use codespan_reporting::files::{Error, Files, SimpleFile};

/// Lines of more bytes are cut. A config that a program wrote may be one line of a megabyte.
const LONG: usize = 200;
/// What stays before the place pointed at …
const BEFORE: usize = 60;
/// … and after it.
const AFTER: usize = 100;
/// What stands where something was cut out.
const CUT: char = '…';

/// A file's name and text, cut around some places.
pub struct Excerpt {
    file: SimpleFile<String, String>,
    /// The bytes cut out of the text, in order.
    cuts: Vec<Range<usize>>,
    /// By lines that lack their beginning: how far what is left has moved.
    columns: BTreeMap<usize, usize>,
}

impl Excerpt {
    /// The first of the places decides where a line that holds several is cut.
    pub fn new(name: String, text: &str, places: &[Range<usize>]) -> Excerpt {
        let mut cuts = Vec::new();
        let mut columns = BTreeMap::new();
        let mut begin = 0;
        for (index, whole) in text.split_inclusive('\n').enumerate() {
            let line = begin..begin + whole.trim_end_matches(['\n', '\r']).len();
            begin += whole.len();
            if line.len() <= LONG {
                continue;
            }
            let kept = kept(text, &line, places);
            if kept.start - line.start > CUT.len_utf8() {
                columns.insert(index, text[line.start..kept.start].chars().count() - 1);
                cuts.push(line.start..kept.start);
            }
            if line.end - kept.end > CUT.len_utf8() {
                cuts.push(kept.end..line.end);
            }
        }
        let mut shown = String::new();
        let mut at = 0;
        for cut in &cuts {
            shown.push_str(&text[at..cut.start]);
            shown.push(CUT);
            at = cut.end;
        }
        shown.push_str(&text[at..]);
        Excerpt { file: SimpleFile::new(name, shown), cuts, columns }
    }

    /// Where a range of the text is in the excerpt; what was cut out is where the mark of the cut is.
    pub fn range(&self, range: Range<usize>) -> Range<usize> {
        self.place(range.start, 0)..self.place(range.end, CUT.len_utf8())
    }

    fn place(&self, place: usize, in_cut: usize) -> usize {
        let mut gone = 0;
        for cut in self.cuts.iter().take_while(|cut| cut.start < place) {
            if place < cut.end {
                return cut.start - gone + in_cut;
            }
            gone += cut.len() - CUT.len_utf8();
        }
        place - gone
    }
}

/// The part of a long line that is shown.
fn kept(text: &str, line: &Range<usize>, places: &[Range<usize>]) -> Range<usize> {
    let within = |place: &usize| (line.start..=line.end).contains(place);
    let ends = places.iter().flat_map(|place| [place.start, place.end]);
    let anchor = ends.into_iter().find(within).unwrap_or(line.start);
    let begin = anchor.saturating_sub(BEFORE).max(line.start);
    let end = anchor.saturating_add(AFTER).min(line.end);
    text.floor_char_boundary(begin)..text.ceil_char_boundary(end)
}

impl<'a> Files<'a> for Excerpt {
    type FileId = ();
    type Name = String;
    type Source = &'a str;

    fn name(&'a self, (): ()) -> Result<String, Error> {
        Ok(self.file.name().clone())
    }

    fn source(&'a self, (): ()) -> Result<&'a str, Error> {
        Ok(self.file.source())
    }

    fn line_index(&'a self, (): (), byte: usize) -> Result<usize, Error> {
        self.file.line_index((), byte)
    }

    fn column_number(&'a self, (): (), line: usize, byte: usize) -> Result<usize, Error> {
        let moved = self.columns.get(&line).copied().unwrap_or(0);
        Ok(self.file.column_number((), line, byte)? + moved)
    }

    fn line_range(&'a self, (): (), line: usize) -> Result<Range<usize>, Error> {
        self.file.line_range((), line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lines_are_left_alone() {
        let text = "{\r\n\"a\": 1\n}";
        let excerpt = Excerpt::new("x".to_string(), text, std::slice::from_ref(&(4..5)));
        assert_eq!(excerpt.source(()).unwrap(), text);
        assert_eq!(excerpt.range(4..5), 4..5);
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("first\n{}here{}\nlast", "ä".repeat(1000), " ".repeat(1000));
        let at = text.find("here").unwrap();
        let excerpt = Excerpt::new("x".to_string(), &text, &[at..at + 4, 0..5]);
        let shown = excerpt.source(()).unwrap();
        assert!(shown.starts_with("first\n…ä") && shown.ends_with(" …\nlast") && shown.len() < 200, "{shown}");
        let range = excerpt.range(at..at + 4);
        assert_eq!(&shown[range.clone()], "here");
        assert_eq!(excerpt.location((), range.start).unwrap().column_number, 1001);
        assert_eq!(&shown[excerpt.range(0..5)], "first");
        assert_eq!(&shown[excerpt.range(8..10)], "…", "what is left out is at the mark");
        let end = text.len();
        assert_eq!(&shown[excerpt.range(end - 4..end)], "last");
    }

    #[test]
    fn a_place_longer_than_the_excerpt() {
        let text = "x".repeat(5000);
        let excerpt = Excerpt::new("x".to_string(), &text, std::slice::from_ref(&(0..5000)));
        assert_eq!(excerpt.range(0..5000), 0..AFTER + CUT.len_utf8());
    }
}
