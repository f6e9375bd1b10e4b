//! A scrape of `/metrics`, read back.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::http::Http;

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// All lines of one scrape, or of several programs'.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    pub(crate) series: Vec<Series>,
}

impl Scrape {
    /// Of a program's operations port.
    pub(crate) fn fetch(http: &Http, ops: &str) -> Result<Self> {
        Self::parse(&http.text(&format!("{ops}/metrics"))?)
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| series(line).with_context(|| format!("not a series: {line}")));
        Ok(Self { series: series.collect::<Result<_>>()? })
    }

    /// All series of this name.
    pub(crate) fn named(&self, name: &str) -> Vec<&Series> {
        self.series.iter().filter(|series| series.name == name).collect()
    }

    /// The sum over all series of this name with these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |series: &&Series| {
            series.name == name
                && labels
                    .iter()
                    .all(|(label, value)| series.labels.get(*label).is_some_and(|actual| actual == value))
        };
        self.series.iter().filter(wanted).map(|series| series.value).sum()
    }
}

/// `name{a="1",b="x,\"y\""} 7`
fn series(line: &str) -> Option<Series> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    Some(Series { name: name.to_owned(), labels, value: value.trim().parse().ok()? })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => {
                    text = rest.get(at + 1..)?;
                    break;
                }
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_and_added_up() {
        let text = "# HELP a_total x\n# TYPE a_total counter\n\
                    a_total{kind=\"x\",error=\"a,b=\\\"}\\\\\"} 1\na_total{kind=\"y\",error=\"\"} 2.5\n\n\
                    b 7\nb_bucket{le=\"+Inf\"} 3\n";
        let scrape = Scrape::parse(text).unwrap();
        assert_eq!(scrape.series.len(), 4);
        assert_eq!(scrape.series[0].labels["error"], "a,b=\"}\\");
        assert_eq!(scrape.sum("a_total", &[]), 3.5);
        assert_eq!(scrape.sum("a_total", &[("kind", "y")]), 2.5);
        assert_eq!(scrape.sum("b", &[]), 7.0);
        assert_eq!(scrape.sum("c", &[]), 0.0);
        for bad in ["a_total", "a_total{x=\"1\" 1", "a_total{x} 1", "a_total nothing"] {
            assert!(Scrape::parse(bad).is_err(), "{bad}");
        }
    }
}
