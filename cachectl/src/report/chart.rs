//! Charts as SVG within the page. Colours and fonts are those of its style.

use std::fmt::Write as _;

use super::scale::{Mark, Unit, marks, times};

const WIDTH: u64 = 560;
const HEIGHT: u64 = 220;
const LEFT: u64 = 66;
const RIGHT: u64 = 14;
const TOP: u64 = 24;
const BOTTOM: u64 = 26;

/// A value from one time to another, with what a pointer shows.
pub struct Point {
    pub from: u64,
    pub to: u64,
    /// `None`: a gap.
    pub value: Option<u64>,
    pub hint: String,
}

/// How values are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A line, with its area.
    Area,
    Bars,
}

/// A chart over time.
pub struct Chart<'a> {
    /// For those who do not see it.
    pub label: &'a str,
    pub unit: Unit,
    pub shape: Shape,
    pub points: Vec<Point>,
    /// A line across: the limit, and its name.
    pub bound: Option<(u64, &'a str)>,
}

/// Where a value is on an axis of that length, in tenths of a unit.
fn place(value: u64, from: u64, to: u64, length: u64) -> u64 {
    let span = to.saturating_sub(from).max(1);
    let tenths = u128::from(value.saturating_sub(from)) * u128::from(length * 10) / u128::from(span);
    u64::try_from(tenths).unwrap_or(0)
}

/// Tenths as a number of SVG.
fn shown(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

impl Chart<'_> {
    /// The SVG. Without points there is none.
    pub fn svg(&self) -> String {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return String::new() };
        let (from, to) = (first.from, last.to);
        let values = self.points.iter().filter_map(|point| point.value);
        let most = values.chain(self.bound.map(|(bound, _)| bound)).max().unwrap_or(0);
        let scale = marks(most, self.unit);
        let top = scale.last().map_or(1, |mark| mark.value);
        let x = |time| LEFT * 10 + place(time, from, to, WIDTH - LEFT - RIGHT);
        let y = |value| (HEIGHT - BOTTOM) * 10 - place(value, 0, top, HEIGHT - BOTTOM - TOP);
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", self.label);
        axes(&mut svg, &scale, &times(from, to), &x, &y);
        match self.shape {
            Shape::Area => self.area(&mut svg, &x, &y),
            Shape::Bars => self.bars(&mut svg, &x, &y),
        }
        if let Some((bound, name)) = self.bound {
            let place = y(bound);
            let _ = writeln!(
                svg,
                "<line class=\"bound\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\"/><text class=\"name\" x=\"{0}\" y=\"{2}\">{name}</text>",
                WIDTH - RIGHT,
                shown(place),
                shown(place - 60),
            );
        }
        for point in &self.points {
            let (start, end) = (x(point.from), x(point.to));
            let _ = writeln!(
                svg,
                "<rect class=\"hover\" x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                shown(start),
                shown(end - start),
                HEIGHT - TOP - BOTTOM,
                point.hint
            );
        }
        svg + "</svg>\n"
    }

    /// Runs of points without a gap.
    fn area(&self, svg: &mut String, x: &dyn Fn(u64) -> u64, y: &dyn Fn(u64) -> u64) {
        for run in self.points.split(|point| point.value.is_none()) {
            let [first, .., last] = run else {
                // A single one is a dot.
                if let [Point { to, value: Some(value), .. }] = run {
                    let _ = writeln!(
                        svg,
                        "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"2.5\"/>",
                        shown(x(*to)),
                        shown(y(*value))
                    );
                }
                continue;
            };
            let line = run.iter().map(|point| format!("{},{}", shown(x(point.to)), shown(y(point.value.unwrap_or(0)))));
            let line = line.collect::<Vec<_>>().join(" ");
            let base = shown(y(0));
            let (left, right) = (shown(x(first.to)), shown(x(last.to)));
            let _ = writeln!(svg, "<polygon class=\"area\" points=\"{left},{base} {line} {right},{base}\"/>");
            let _ = writeln!(svg, "<polyline class=\"line\" points=\"{line}\"/>");
        }
    }

    fn bars(&self, svg: &mut String, x: &dyn Fn(u64) -> u64, y: &dyn Fn(u64) -> u64) {
        for point in &self.points {
            let Some(value) = point.value.filter(|value| *value > 0) else { continue };
            let (start, end, height) = (x(point.from), x(point.to), y(0) - y(value));
            let width = (end - start).saturating_sub(10).max(10);
            let _ = writeln!(
                svg,
                "<rect class=\"bar\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                shown(start),
                shown(y(value).min(y(0) - 10)),
                shown(width),
                shown(height.max(10))
            );
        }
    }
}

fn axes(svg: &mut String, values: &[Mark], times: &[Mark], x: &dyn Fn(u64) -> u64, y: &dyn Fn(u64) -> u64) {
    for mark in values {
        let class = if mark.value == 0 { "base" } else { "grid" };
        let place = shown(y(mark.value));
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{place}\" y2=\"{place}\"/>\
             <text class=\"value\" x=\"{}\" y=\"{}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8,
            shown(y(mark.value) + 35),
            mark.text
        );
    }
    for mark in times {
        let _ = writeln!(
            svg,
            "<text class=\"time\" x=\"{}\" y=\"{}\">{}</text>",
            shown(x(mark.value)),
            HEIGHT - 8,
            mark.text
        );
    }
}

/// A bar of a list: its name, its part of the longest one, and its text.
pub struct Bar {
    pub name: String,
    pub value: u64,
    pub text: String,
}

/// Bars with names, one below the other.
pub fn bars(list: &[Bar]) -> String {
    let most = list.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let mut html = String::from("<dl class=\"bars\">\n");
    for bar in list {
        let tenths = u64::try_from(u128::from(bar.value) * 1000 / u128::from(most)).unwrap_or(0);
        let _ = writeln!(
            html,
            "<dt>{}</dt><dd><span class=\"track\"><span style=\"width:{}%\"></span></span><span>{}</span></dd>",
            bar.name,
            shown(tenths),
            bar.text
        );
    }
    html + "</dl>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(shape: Shape, values: &[Option<u64>]) -> Chart<'static> {
        let point = |(number, value): (u64, &Option<u64>)| Point {
            from: number * 100,
            to: number * 100 + 100,
            value: *value,
            hint: "hint".to_owned(),
        };
        Chart { label: "x", unit: Unit::Bytes, shape, points: (0..).zip(values).map(point).collect(), bound: None }
    }

    #[test]
    fn a_gap_divides_the_line_and_a_single_value_is_a_dot() {
        let svg = chart(Shape::Area, &[Some(1), Some(4), None, Some(2), None, Some(1), Some(1)]).svg();
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 1));
        assert_eq!(svg.matches("<title>hint").count(), 7);
    }

    #[test]
    fn the_greatest_value_is_at_the_top_and_0_at_the_base() {
        let svg = chart(Shape::Area, &[Some(0), Some(8)]).svg();
        assert!(svg.contains("points=\"306.0,194.0 546.0,24.0\""), "{svg}");
    }

    #[test]
    fn bars_of_nothing_are_left_out() {
        assert_eq!(chart(Shape::Bars, &[Some(0), Some(3), None]).svg().matches("class=\"bar\"").count(), 1);
        assert_eq!(chart(Shape::Bars, &[]).svg(), "");
    }
}
