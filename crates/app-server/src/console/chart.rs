//! The geometry of the charts: plain SVG that the server draws.
//!
//! Every chart has the same field of 600 by 100 units that the page stretches to the width there is. Texts stand beside it
//! in HTML, where nothing stretches them. Colours come from classes, since the policy lets no style attributes.

use super::history::{Orders, Run};

/// The field's width.
const WIDTH: f64 = 600.0;
/// The field's height.
const HEIGHT: f64 = 100.0;

/// A filled box.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rect {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
    pub(super) class: &'static str,
    /// What a pointer over it shows.
    pub(super) title: String,
}

impl Rect {
    fn new(x: f64, y: f64, width: f64, height: f64, class: &'static str, title: String) -> Self {
        let number = |value: f64| format!("{value:.1}");
        Self { x: number(x), y: number(y), width: number(width), height: number(height), class, title }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// What `d` of a path says.
    pub(super) path: String,
    pub(super) class: &'static str,
}

/// A chart with its words.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Chart {
    /// For those who don't see it.
    pub(super) label: String,
    /// The value at the field's upper edge.
    pub(super) top: String,
    /// The moment at its left edge.
    pub(super) left: String,
    /// The moment at its right edge.
    pub(super) right: String,
    pub(super) rects: Vec<Rect>,
    pub(super) lines: Vec<Line>,
    /// Nothing was recorded that could be drawn.
    pub(super) empty: bool,
}

/// Orders by minute, stacked: accepted below, then what the gateway refused, then trouble.
pub(super) fn orders(
    minutes: &[Option<Orders>],
    title: impl Fn(usize, Orders) -> String,
) -> (Vec<Rect>, u64) {
    let most = minutes.iter().flatten().map(|orders| orders.total()).max().unwrap_or(0).max(1);
    let step = WIDTH / minutes.len().max(1) as f64;
    let mut rects = Vec::new();
    for (index, orders) in minutes.iter().enumerate() {
        let Some(orders) = orders else { continue };
        let mut top = HEIGHT;
        for (count, class) in
            [(orders.accepted, "fill-ok"), (orders.refused, "fill-idle"), (orders.troubled, "fill-bad")]
        {
            if count > 0 {
                let height = (count as f64 / most as f64 * HEIGHT).max(1.0);
                top -= height;
                let text = title(minutes.len() - 1 - index, *orders);
                rects.push(Rect::new(index as f64 * step + 0.5, top, step - 1.0, height, class, text));
            }
        }
    }
    (rects, most)
}

/// A line through values, oldest first, broken where there are none; `most` is the field's upper edge. A value between two
/// gaps is a short dash.
pub(super) fn line(values: &[(f64, Option<f64>)], most: f64, class: &'static str) -> Line {
    let mut path = String::new();
    let mut previous: Option<f64> = None;
    for (share, value) in values {
        let Some(value) = value else {
            previous = None;
            continue;
        };
        let x = share * WIDTH;
        let y = HEIGHT - (value / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * HEIGHT;
        path += &match previous {
            None => format!("M{:.1} {y:.1}h6", (x - 6.0).max(0.0)),
            Some(_) => format!("L{x:.1} {y:.1}"),
        };
        previous = Some(x);
    }
    Line { path, class }
}

/// A level line across the field.
pub(super) fn level(value: f64, most: f64, class: &'static str) -> Line {
    let y = HEIGHT - (value / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * HEIGHT;
    Line { path: format!("M0 {y:.1}H{WIDTH}"), class }
}

/// Values at even steps, as [`line()`] wants them.
pub(super) fn even<T>(values: &[T], of: impl Fn(&T) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    let steps = values.len().max(1) as f64;
    values.iter().enumerate().map(|(index, value)| ((index + 1) as f64 / steps, of(value))).collect()
}

/// The class of a circuit's state.
pub(super) fn state_class(state: &str) -> &'static str {
    match state {
        "CLOSED" => "fill-ok",
        "OPEN" | "FORCED_OPEN" => "fill-bad",
        "HALF_OPEN" | "DISABLED" | "METRICS_ONLY" => "fill-warn",
        _ => "fill-idle",
    }
}

/// A circuit's states over time. Trouble has a greater height than calm, so that no colour is needed to see it.
pub(super) fn states(runs: &[Run]) -> Vec<Rect> {
    runs.iter()
        .map(|run| {
            let height = if run.state == "CLOSED" { HEIGHT / 3.0 } else { HEIGHT };
            let width = ((run.to - run.from) * WIDTH).max(2.0);
            let x = (run.from * WIDTH).min(WIDTH - 2.0);
            let title = run.state.to_owned();
            Rect::new(x, HEIGHT - height, width, height, state_class(run.state), title)
        })
        .collect()
}

/// The place in a circuit's window where it opens: `percent` of what is recorded.
pub(super) fn limit(percent: u8, recorded: u32, size: u32, title: String) -> Rect {
    let share = f64::from(recorded.min(size)) / f64::from(size.max(1)) * f64::from(percent) / 100.0;
    Rect::new((share * WIDTH).min(WIDTH - 3.0), 0.0, 3.0, HEIGHT, "fill-limit", title)
}

/// A circuit's window: failed calls from the left, the others behind them, empty places at the end.
pub(super) fn window(failed: u32, recorded: u32, size: u32, titles: [String; 3]) -> Vec<Rect> {
    let size = f64::from(size.max(1));
    let [failed_title, good_title, empty_title] = titles;
    let (failed, recorded) = (f64::from(failed.min(recorded)), f64::from(recorded).min(size));
    let parts = [
        (failed, "fill-bad", failed_title),
        (recorded - failed, "fill-ok", good_title),
        (size - recorded, "fill-empty", empty_title),
    ];
    let mut x = 0.0;
    let mut rects = Vec::new();
    for (part, class, title) in parts {
        let width = part / size * WIDTH;
        if width > 0.0 {
            rects.push(Rect::new(x, 0.0, width, HEIGHT, class, title));
        }
        x += width;
    }
    rects
}

/// Parts of a whole, side by side.
pub(super) fn parts(whole: u64, parts: &[(u64, &'static str)]) -> Vec<Rect> {
    let whole = whole.max(parts.iter().map(|(part, _)| part).sum()).max(1) as f64;
    let mut x = 0.0;
    let mut rects = Vec::new();
    for (part, class) in parts {
        let width = *part as f64 / whole * WIDTH;
        if width > 0.0 {
            rects.push(Rect::new(x, 0.0, width, HEIGHT, class, part.to_string()));
        }
        x += width;
    }
    rects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stack_up_to_the_busiest_minute() {
        let some = Orders { accepted: 3, refused: 0, troubled: 1 };
        let (rects, most) = orders(&[None, Some(some)], |ago, orders| format!("{ago}:{}", orders.total()));
        assert_eq!(most, 4);
        let shape: Vec<_> =
            rects.iter().map(|r| (r.x.as_str(), r.y.as_str(), r.height.as_str(), r.class)).collect();
        assert_eq!(shape, [("300.5", "25.0", "75.0", "fill-ok"), ("300.5", "0.0", "25.0", "fill-bad")]);
        assert_eq!(rects[0].title, "0:4");
        assert_eq!(orders(&[], |_, _| String::new()), (Vec::new(), 1));
    }

    #[test]
    fn lines_break_where_nothing_is_known() {
        let values = [(0.25, Some(1.0)), (0.5, Some(0.5)), (0.75, None), (1.0, Some(9.0))];
        assert_eq!(line(&values, 1.0, "c").path, "M144.0 0.0h6L300.0 50.0M594.0 0.0h6");
        assert_eq!(line(&[], 0.0, "c").path, "");
        assert_eq!(level(0.7, 1.4, "c").path, "M0 50.0H600");
    }

    #[test]
    fn a_window_is_always_filled_to_its_size() {
        let titles = || [String::new(), String::new(), String::new()];
        let widths = |rects: Vec<Rect>| rects.iter().map(|r| (r.width.clone(), r.class)).collect::<Vec<_>>();
        assert_eq!(
            widths(window(10, 40, 100, titles())),
            [("60.0".into(), "fill-bad"), ("180.0".into(), "fill-ok"), ("360.0".into(), "fill-empty")]
        );
        assert_eq!(widths(window(0, 0, 0, titles())), [("600.0".into(), "fill-empty")]);
        assert_eq!(widths(window(9, 5, 5, titles())), [("600.0".into(), "fill-bad")]);
        assert_eq!(
            widths(parts(4, &[(1, "a"), (0, "b"), (1, "c")])),
            [("150.0".into(), "a"), ("150.0".into(), "c")]
        );
        assert!(parts(0, &[]).is_empty());
        assert_eq!(limit(30, 50, 100, String::new()).x, "90.0");
        assert_eq!(limit(100, 0, 0, String::new()).x, "0.0");
    }

    #[test]
    fn a_short_outage_is_still_seen() {
        let runs = [Run { state: "CLOSED", from: 0.0, to: 1.0 }, Run { state: "OPEN", from: 1.0, to: 1.0 }];
        let rects = states(&runs);
        assert_eq!(
            (rects[1].x.as_str(), rects[1].width.as_str(), rects[1].y.as_str()),
            ("598.0", "2.0", "0.0")
        );
        assert_eq!(rects[0].y, "66.7");
    }
}
