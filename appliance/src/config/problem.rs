//! What is wrong with a configuration, and where: one sentence for each finding, with a value that would work.

use std::fmt;
use std::ops::Range;

/// One finding about a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: String,
    /// Line and column, both from 1; `None` where the file could not be read.
    pub position: Option<Position>,
    /// The field, such as `service[0].node_port`; empty for findings about the file as a whole.
    pub field: String,
    /// The offending value, what is wrong with it, and what would work.
    pub text: String,
}

/// A position in a text: line and column in characters, both from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// Where the byte at `offset` lies in `text`.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// A value of the file with its position, so that later rules can refer to it.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A field's path and its bytes in the file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) span: Range<usize>,
}

/// Collects findings while one file is read.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, place: &Place, text: impl Into<String>) {
        let problem = self.problem(place, text.into());
        self.errors.push(problem);
    }

    pub(super) fn warning(&mut self, place: &Place, text: impl Into<String>) {
        let problem = self.problem(place, text.into());
        self.warnings.push(problem);
    }

    /// The errors and the warnings, each in the order of the file.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.errors.sort_by_key(|problem| problem.position);
        self.warnings.sort_by_key(|problem| problem.position);
        (self.errors, self.warnings)
    }

    fn problem(&self, place: &Place, text: String) -> Problem {
        Problem {
            file: self.file.to_owned(),
            position: Some(Position::of(self.text, place.span.start)),
            field: place.path.clone(),
            text,
        }
    }
}

/// The candidate that `word` most likely misspells, if one is near enough: at most a third of
/// its letters added, lost, changed or swapped with the next.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The number of edits from one word to the other; a swap of adjacent letters counts as one.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().take(64).collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let changed = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_not_bytes() {
        let text = "a = \"äö\" # x\nb = 2";
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, text.find('#').unwrap()), Position { line: 1, column: 10 });
        assert_eq!(Position::of(text, text.find("2").unwrap()), Position { line: 2, column: 5 });
        assert_eq!(Position::of(text, 999), Position { line: 2, column: 6 });
    }

    #[test]
    fn slips_of_the_keyboard_find_their_word() {
        let words = ["interface", "addresses", "vni", "port"];
        assert_eq!(nearest("interfcae", words), Some("interface"));
        assert_eq!(nearest("adresses", words), Some("addresses"));
        assert_eq!(nearest("vmi", words), Some("vni"));
        assert_eq!(nearest("gateway", words), None);
    }

    #[test]
    fn a_third_of_a_words_letters_may_be_wrong() {
        for (word, found) in [("intxxxace", true), ("ixxxxface", false), ("vxx", false), ("vnn", true), ("", false)] {
            assert_eq!(nearest(word, ["interface", "vni"]).is_some(), found, "{word}");
        }
    }

    /// The definition, letter by letter from the end.
    fn edits_by_definition(from: &[char], to: &[char]) -> usize {
        let (Some((a, from_rest)), Some((b, to_rest))) = (from.split_last(), to.split_last()) else {
            return from.len() + to.len();
        };
        let changed = edits_by_definition(from_rest, to_rest) + usize::from(a != b);
        let lost = edits_by_definition(from_rest, to) + 1;
        let added = edits_by_definition(from, to_rest) + 1;
        let swapped = match (from_rest.split_last(), to_rest.split_last()) {
            (Some((c, from_rest)), Some((d, to_rest))) if a == d && b == c => {
                edits_by_definition(from_rest, to_rest) + 1
            }
            _ => usize::MAX,
        };
        changed.min(lost).min(added).min(swapped)
    }

    #[test]
    fn edits_are_counted_as_defined() {
        let mut words = vec![String::new()];
        for length in 0..4 {
            let longest: Vec<String> = words.iter().filter(|word| word.chars().count() == length).cloned().collect();
            words.extend(longest.iter().flat_map(|word| ['a', 'b', 'ä'].map(|letter| format!("{word}{letter}"))));
        }
        assert!(words.len() > 60, "{}", words.len());
        for from in &words {
            for to in &words {
                let [a, b]: [Vec<char>; 2] = [from, to].map(|word| word.chars().collect());
                assert_eq!(edits(from, to), edits_by_definition(&a, &b), "{from} to {to}");
            }
        }
    }
}
