//! The card numbers that every order of a run uses, and the search for them where no card number may be.

use anyhow::{Context, Result};
use std::io::Read;
use std::path::Path;

/// They belong to nobody. Every order of a run is paid by one of these, so that any trace of a card is one of them.
pub(crate) const CARDS: [&str; 3] = ["4929-8126-3047-5519", "5312-0674-9983-2207", "9410-5538-1726-8864"];

const CHUNK: usize = 1 << 20;

/// Looks for texts, byte by byte.
pub(crate) struct Canary {
    needles: Vec<Vec<u8>>,
    /// Whether a needle begins with the byte.
    begins: [bool; 256],
}

impl Canary {
    /// For [`CARDS`] with and without dashes.
    pub(crate) fn new() -> Self {
        Self::of(CARDS.iter().flat_map(|card| [(*card).to_owned(), card.replace('-', "")]))
    }

    /// For what a program says when it panics.
    pub(crate) fn of_panics() -> Self {
        Self::of(["panicked at".to_owned()])
    }

    fn of(texts: impl IntoIterator<Item = String>) -> Self {
        let needles: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let mut begins = [false; 256];
        for first in needles.iter().filter_map(|needle| needle.first()) {
            if let Some(begins) = begins.get_mut(usize::from(*first)) {
                *begins = true;
            }
        }
        Self { needles, begins }
    }

    /// How often the text holds one of them.
    pub(crate) fn hits(&self, text: &[u8]) -> u64 {
        let mut hits = 0;
        for (at, byte) in text.iter().enumerate() {
            if self.begins.get(usize::from(*byte)) == Some(&true) {
                let rest = text.get(at..).unwrap_or_default();
                hits += u64::from(self.needles.iter().any(|needle| rest.starts_with(needle)));
            }
        }
        hits
    }

    /// Bytes read, and how often they hold one of them.
    pub(crate) fn search(&self, mut from: impl Read) -> std::io::Result<(u64, u64)> {
        // The end of a chunk is looked at again with the next one, in case a number is cut in two.
        let longest = self.needles.iter().map(Vec::len).max().unwrap_or(1).saturating_sub(1);
        let (mut read_in_all, mut hits) = (0_u64, 0_u64);
        let mut buffer = Vec::new();
        loop {
            let before = buffer.len();
            let read =
                from.by_ref().take(u64::try_from(CHUNK).unwrap_or(u64::MAX)).read_to_end(&mut buffer)?;
            if read == 0 {
                return Ok((read_in_all, hits));
            }
            read_in_all += u64::try_from(read).unwrap_or(u64::MAX);
            // What lies in the old end as a whole was counted with it.
            let counted = buffer.get(..before).map_or(0, |end| self.hits(end));
            hits += self.hits(&buffer).saturating_sub(counted);
            buffer.drain(..buffer.len().saturating_sub(longest));
        }
    }

    pub(crate) fn search_file(&self, path: &Path) -> Result<(u64, u64)> {
        let file = std::fs::File::open(path).with_context(|| format!("could not open {}", path.display()))?;
        self.search(file).with_context(|| format!("could not read {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_found_wherever_they_stand() {
        let canary = Canary::new();
        let text = b"x4929-8126-3047-5519y49298126304755194929-8126-3047-551x 4929-****-****-5519";
        assert_eq!(canary.hits(text), 2);
        assert_eq!(canary.search(&text[..]).unwrap(), (text.len() as u64, 2));
    }

    #[test]
    fn a_number_across_two_chunks_counts_once() {
        let canary = Canary::new();
        for shift in 0..40 {
            let mut text = vec![b' '; CHUNK - 30 + shift];
            text.extend_from_slice(b"4929-8126-3047-5519");
            text.extend(vec![b'.'; 100]);
            text.extend_from_slice(b"5312067499832207");
            assert_eq!(canary.search(&text[..]).unwrap().1, 2, "{shift}");
        }
    }
}
