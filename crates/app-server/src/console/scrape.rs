//! Reads the numbers that the pages need out of the text of `/metrics`: the same numbers, without a second book of them.

/// One line of the text.
#[derive(Debug, PartialEq)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    labels: &'a str,
    pub(super) value: f64,
}

impl<'a> Series<'a> {
    /// A label's value as it stands in the text. The values that the pages ask for hold nothing that is escaped.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let end = closing_quote(after)?;
            let value = after.get(..end)?;
            if label == name {
                return Some(value);
            }
            rest = after.get(end + 1..)?.strip_prefix(',')?;
        }
    }

    /// A counter's value; what is no whole number from 0 counts as 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    pub(super) fn count(&self) -> u64 {
        self.value as u64
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// All series of the text; lines that are none are skipped.
pub(super) fn series(text: &str) -> impl Iterator<Item = Series<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Series { name, labels, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_labels() {
        let text = "# HELP a b\n\
            order_placed_total{result=\"paid\"} 3\n\
            x{a=\"1,\\\"}{\",le=\"+Inf\"} 2.5\n\
            up 1\n\
            nonsense\n\
            x{a=\"1\" 2\n\
            y NaN\n";
        let all: Vec<_> = series(text).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        assert_eq!(
            (all[0].name, all[0].label("result"), all[0].count()),
            ("order_placed_total", Some("paid"), 3)
        );
        assert_eq!((all[1].label("le"), all[1].label("b"), all[1].value), (Some("+Inf"), None, 2.5));
        assert_eq!((all[2].name, all[2].label("le")), ("up", None));
        assert_eq!(all[3].count(), 0);
    }
}
