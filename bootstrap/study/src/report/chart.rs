//! Charts as SVG, in the colours of the page: classes `s1` to `s6` name series, and each mark carries its value as a
//! tooltip. Coordinates are those of a view of 480 units across, which a telephone shows at three quarters.

use std::fmt::Write as _;

use super::axis::Axis;
use super::page::escape;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 38.0;
/// Height of a row of horizontal bars.
const ROW: f64 = 27.0;
/// Width of its name, and of the value at its end.
const NAMES: f64 = 138.0;
const VALUES: f64 = 84.0;
/// Characters of a name that fit before a bar, and above one.
const SHORT: usize = 18;
const LONG: usize = 56;

/// A line: its class, its name, its points, and what each says.
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64, String)>,
}

/// The frame of a chart of two axes.
struct Frame<'a> {
    svg: String,
    x: &'a Axis<'a>,
    y: &'a Axis<'a>,
}

impl<'a> Frame<'a> {
    fn new(title: &str, x: &'a Axis<'a>, y: &'a Axis<'a>) -> Self {
        let mut frame = Self {
            svg: open(title, WIDTH, HEIGHT),
            x,
            y,
        };
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &y.ticks {
            let at = frame.y(*tick);
            frame.put(format_args!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
            let label = escape(&(y.show)(*tick));
            let (x, at) = (LEFT - 7.0, at + 4.0);
            frame.put(format_args!(
                "<text class=\"tick end\" x=\"{x}\" y=\"{at:.1}\">{label}</text>"
            ));
        }
        for tick in &x.ticks {
            let at = frame.x(*tick);
            let label = escape(&(x.show)(*tick));
            // The outermost labels would leave the picture otherwise.
            let anchor = if at > right - 16.0 { "end" } else { "middle" };
            frame.put(format_args!("<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/>"));
            let y = bottom + 17.0;
            frame.put(format_args!(
                "<text class=\"tick {anchor}\" x=\"{at:.1}\" y=\"{y}\">{label}</text>"
            ));
        }
        frame.put(format_args!("<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>"));
        let (middle, last) = ((LEFT + right) / 2.0, HEIGHT - 5.0);
        let title = escape(x.title);
        frame.put(format_args!(
            "<text class=\"name middle\" x=\"{middle}\" y=\"{last}\">{title}</text>"
        ));
        frame
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _never = self.svg.write_fmt(what);
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let height = HEIGHT - TOP - BOTTOM;
        TOP + (1.0 - self.y.place(value)) * height
    }

    /// Times of which nothing is known.
    fn gaps(&mut self, gaps: &[(f64, f64, String)]) {
        for (from, to, says) in gaps {
            let (from, to) = (self.x(*from), self.x(*to));
            let (width, height, says) = ((to - from).max(1.5), HEIGHT - TOP - BOTTOM, escape(says));
            self.put(format_args!(
                "<rect class=\"gap\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\">\
                 <title>{says}</title></rect>"
            ));
        }
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

fn open(title: &str, width: f64, height: f64) -> String {
    let title = escape(title);
    format!("<svg viewBox=\"0 0 {width} {height:.0}\" role=\"img\" aria-label=\"{title}\">")
}

/// Lines over two axes; steps where each value holds until the next.
pub(super) fn lines(
    title: &str,
    (x, y): (&Axis<'_>, &Axis<'_>),
    lines: &[Line],
    gaps: &[(f64, f64, String)],
    in_steps: bool,
) -> String {
    let mut frame = Frame::new(title, x, y);
    frame.gaps(gaps);
    for line in lines {
        let mut path = String::new();
        let mut last: Option<f64> = None;
        for (at, value, _) in &line.points {
            let (px, py) = (frame.x(*at), frame.y(*value));
            // No line leads over a gap, since nobody knows what was there.
            let is_between = |last: f64, middle: f64| last < middle && middle < *at;
            let is_parted =
                last.is_some_and(|last| gaps.iter().any(|(from, to, _)| is_between(last, (from + to) / 2.0)));
            let _never = match last {
                Some(_) if !is_parted && in_steps => write!(path, "H{px:.1}V{py:.1}"),
                Some(_) if !is_parted => write!(path, "L{px:.1} {py:.1}"),
                _ => write!(path, "M{px:.1} {py:.1}"),
            };
            last = Some(*at);
        }
        frame.put(format_args!("<path class=\"line {}\" d=\"{path}\"/>", line.class));
    }
    for line in lines {
        for (at, value, says) in &line.points {
            let (px, py, says) = (frame.x(*at), frame.y(*value), escape(says));
            let class = line.class;
            frame.put(format_args!(
                "<circle class=\"point {class}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"5\"><title>{says}</title></circle>"
            ));
        }
    }
    frame.finish()
}

/// A column of several parts, the first at the bottom: where it stands, and each part's class, height and text.
pub(super) type Column = (f64, Vec<(&'static str, f64, String)>);

/// Columns of `width` on the axis across, in parts on top of each other.
pub(super) fn columns(
    title: &str,
    (x, y): (&Axis<'_>, &Axis<'_>),
    columns: &[Column],
    width: f64,
    gaps: &[(f64, f64, String)],
) -> String {
    let mut frame = Frame::new(title, x, y);
    frame.gaps(gaps);
    for (at, parts) in columns {
        let (left, right) = (frame.x(*at), frame.x(at + width));
        let across = (right - left - 0.6).max(0.8);
        let mut below = 0.0;
        for (class, height, says) in parts.iter().filter(|(_, height, _)| *height > 0.0) {
            let (top, bottom) = (frame.y(below + height), frame.y(below));
            let (tall, says) = ((bottom - top).max(0.4), escape(says));
            frame.put(format_args!(
                "<rect class=\"fill {class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{across:.1}\" \
                 height=\"{tall:.1}\"><title>{says}</title></rect>"
            ));
            below += height;
        }
    }
    frame.finish()
}

/// A horizontal bar: its name, its parts (class, length and text), and what stands at its end.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<(&'static str, f64, String)>,
    pub(super) value: String,
}

/// Horizontal bars, the longest as wide as there is room: behind their names, or below them where those are long.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let is_below = bars.iter().any(|bar| bar.name.chars().count() > SHORT);
    let (row_height, start) = if is_below { (ROW + 17.0, 0.0) } else { (ROW, NAMES) };
    let mut svg = open(title, WIDTH, row_height * bars.len() as f64 + 4.0);
    let length = |bar: &Bar| bar.parts.iter().map(|(_, length, _)| length).sum::<f64>();
    let most = bars.iter().map(length).fold(1.0, f64::max);
    let room = WIDTH - start - VALUES;
    for (row, bar) in bars.iter().enumerate() {
        let row_top = row_height * row as f64 + 4.0;
        let top = if is_below { row_top + 17.0 } else { row_top };
        let middle = top + 13.5;
        if is_below {
            let (name, shown, above) = (escape(&bar.name), escape(&cut(&bar.name, LONG)), row_top + 12.0);
            let _never = write!(
                svg,
                "<text class=\"label\" x=\"0\" y=\"{above:.1}\">{shown}<title>{name}</title></text>"
            );
        } else {
            put_name(&mut svg, &bar.name, middle);
        }
        let mut left = start;
        for (class, length, says) in bar.parts.iter().filter(|(_, length, _)| *length > 0.0) {
            let (width, says) = ((length / most * room).max(1.5), escape(says));
            let shown = (width - 0.8).max(0.8);
            let _never = write!(
                svg,
                "<rect class=\"fill {class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{shown:.1}\" height=\"18\" \
                 rx=\"2\"><title>{says}</title></rect>"
            );
            left += width;
        }
        let (left, value) = (left + 6.0, escape(&bar.value));
        let _never = write!(
            svg,
            "<text class=\"value\" x=\"{left:.1}\" y=\"{middle:.1}\">{value}</text>"
        );
    }
    svg.push_str("</svg>");
    svg
}

/// A name before a row, with all of it as a tooltip where it is cut.
fn put_name(svg: &mut String, name: &str, y: f64) {
    let (x, shown) = (NAMES - 8.0, cut(name, SHORT));
    let (name, shown) = (escape(name), escape(&shown));
    let _never = write!(
        svg,
        "<text class=\"label end\" x=\"{x}\" y=\"{y:.1}\">{shown}<title>{name}</title></text>"
    );
}

/// At most so many characters of a text, the last of them dots where it is longer.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}

/// A range: its name, its ends, what lies between (class and value), and what the whole says.
pub(super) struct Range {
    pub(super) name: String,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) marks: Vec<(&'static str, f64, String)>,
    pub(super) says: String,
}

/// Ranges on a common axis, one in a row.
pub(super) fn ranges(title: &str, x: &Axis<'_>, ranges: &[Range]) -> String {
    let bottom = ROW * ranges.len() as f64 + 8.0;
    let height = bottom + BOTTOM;
    let mut svg = open(title, WIDTH, height);
    let place = |value: f64| NAMES + x.place(value) * (WIDTH - NAMES - RIGHT - 8.0);
    for tick in &x.ticks {
        let (at, label, below) = (place(*tick), escape(&(x.show)(*tick)), bottom + 15.0);
        let _never = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} 4V{bottom}\"/>\
             <text class=\"tick middle\" x=\"{at:.1}\" y=\"{below}\">{label}</text>"
        );
    }
    for (row, range) in ranges.iter().enumerate() {
        let middle = ROW * row as f64 + 17.0;
        put_name(&mut svg, &range.name, middle + 4.0);
        let (low, high, says) = (place(range.low), place(range.high), escape(&range.says));
        let _never = write!(
            svg,
            "<path class=\"range\" d=\"M{low:.1} {middle}H{high:.1}\"><title>{says}</title></path>"
        );
        for (index, (class, value, says)) in range.marks.iter().enumerate() {
            // A little below each other, so that equal ones are all seen.
            let (at, y, says) = (place(*value), middle + 4.5 * (index as f64 - 1.0), escape(says));
            let _never = write!(
                svg,
                "<circle class=\"mark {class}\" cx=\"{at:.1}\" cy=\"{y}\" r=\"4.5\"><title>{says}</title></circle>"
            );
        }
    }
    let (centre, last, title) = ((NAMES + WIDTH - RIGHT) / 2.0, height - 4.0, escape(x.title));
    let _never = write!(
        svg,
        "<text class=\"name middle\" x=\"{centre}\" y=\"{last}\">{title}</text></svg>"
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_is_text() {
        let bar = Bar {
            name: "<script>\"&".to_owned(),
            parts: vec![("s1", 1.0, "<b>".to_owned())],
            value: "</svg>".to_owned(),
        };
        let svg = bars("<i>", &[bar]);
        assert!(
            !svg.contains("<script") && !svg.contains("<b>") && !svg.contains("<i>"),
            "{svg}"
        );
        assert_eq!(svg.matches("</svg>").count(), 1);
    }
}
