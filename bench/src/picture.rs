//! The growth curves as a picture: a panel per operation, with time against the number of images, both logarithmic.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::bench::with_commas;
use crate::quantity::Quantity;
use crate::report::Report;

const PANEL: (u32, u32) = (480, 340);
const COLUMNS: usize = 3;
const MARGIN: u32 = 10;
/// The widths of the labels at the left and of the legend at the right.
const TIMES: u32 = 62;
const LEGEND: u32 = 120;

type Lines<'a> = Vec<(&'a str, &'a BTreeMap<usize, f64>)>;
type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub fn draw(file: &Path, report: &Report) -> Result<()> {
    let mut panels: BTreeMap<&str, Lines> = BTreeMap::new();
    for (curve, points) in report.curves.iter().filter(|(_, points)| points.len() > 1) {
        panels.entry(&curve.operation).or_default().push((&curve.who, points));
    }
    if panels.is_empty() {
        return Ok(());
    }
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    let picture = SVGBackend::new(file, size).into_drawing_area();
    picture.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    for (area, (operation, lines)) in picture.split_evenly((rows, COLUMNS)).iter().zip(panels) {
        draw_panel(area, operation, &lines).map_err(|error| anyhow!("drawing '{operation}': {error}"))?;
    }
    picture.present().map_err(|error| anyhow!("writing {}: {error}", file.display()))
}

/// One colour per cache, in all panels.
fn color(who: &str) -> RGBColor {
    match who {
        "sqlite" => RGBColor(0, 90, 181),
        "xattr" => RGBColor(0, 140, 110),
        "Glance sqlite" => RGBColor(220, 50, 32),
        "Glance xattr" => RGBColor(230, 140, 20),
        "cacache" => RGBColor(130, 60, 160),
        "scan, unlink" => RGBColor(180, 180, 180),
        _ => RGBColor(100, 100, 100),
    }
}

fn draw_panel(area: &Panel, operation: &str, lines: &Lines) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|(_, points)| points.iter());
    let (first, last) = (all().map(|(images, _)| *images).min(), all().map(|(images, _)| *images).max());
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    let low = all().map(|(_, seconds)| *seconds).fold(f64::INFINITY, f64::min);
    let high = all().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
    // Whole decades, and at least two of time, so that a flat curve looks flat.
    let decade_below = |value: f64| 10_f64.powf(value.log10().floor());
    let decade_above = |value: f64| 10_f64.powf(value.log10().ceil());
    let (left, right) = (decade_below(first as f64), decade_above(last as f64));
    let bottom = decade_below(low);
    let top = decade_above(high).max(bottom * 100.0);
    let mut chart = ChartBuilder::on(area)
        .caption(operation, ("sans-serif", 18))
        .margin(MARGIN)
        .margin_right(LEGEND)
        .x_label_area_size(28)
        .y_label_area_size(TIMES)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("images")
        .x_label_formatter(&|images| powers_of_ten_only(*images))
        .y_label_formatter(&|seconds| Quantity::seconds(*seconds).to_string())
        .draw()?;
    for (index, (who, points)) in lines.iter().enumerate() {
        let style = color(who).stroke_width(2);
        let points = points.iter().map(|(images, seconds)| (*images as f64, *seconds));
        chart.draw_series(LineSeries::new(points.clone(), style))?;
        chart.draw_series(points.map(|point| Circle::new(point, 3, color(who).filled())))?;
        // The legend is beside the curves, so that it hides none.
        let (x, y) = (i32::try_from(PANEL.0 - LEGEND)? + 8, 40 + 18 * i32::try_from(index)?);
        area.draw(&PathElement::new([(x, y), (x + 16, y)], style))?;
        area.draw(&Text::new(*who, (x + 22, y - 6), ("sans-serif", 12)))?;
    }
    Ok(())
}

/// More labels would overlap.
fn powers_of_ten_only(images: f64) -> String {
    let power = images.log10();
    if (power - power.round()).abs() < 1e-6 { with_commas(images.round() as usize) } else { String::new() }
}
