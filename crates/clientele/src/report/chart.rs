//! Charts as SVG that a style sheet recolours: each colour here is a name that `style.css` has a rule for, in light and in dark.
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    client::{Error, Result},
    view,
};

/// Width of every chart, in units that a phone of 360 pixels shows at four fifths.
const WIDTH: u32 = 380;
/// Height of a line of text, of which the letters take four fifths: some eleven pixels on that phone.
const TEXT: u32 = 18;
/// Room for a letter of a label, in whatever font the reader's system has: monospaced ones take this, others less.
const LETTER: i32 = 9;
/// Between a label and what it names.
const BESIDE: i32 = 8;
/// Text and axes.
const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
/// The lines behind.
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
/// Series, in order; told apart by their lightness too, for print without colours.
const SERIES: [RGBColor; 4] =
    [RGBColor(0x1B, 0x1B, 0x1C), RGBColor(0x1F, 0x6F, 0xB4), RGBColor(0xC7, 0x5B, 0x12), RGBColor(0x2E, 0x8B, 0x57)];

/// Text on light and on dark shades, which no style sheet recolours.
const ON_LIGHT: RGBColor = RGBColor(0x10, 0x10, 0x12);
const ON_DARK: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

type Drawing<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Fault = DrawingAreaErrorKind<std::io::Error>;

/// Draws into a string; `title` is what a screen reader says of it.
fn draw(
    title: &str,
    height: u32,
    content: impl FnOnce(&Drawing<'_>) -> std::result::Result<(), Fault>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        content(&area).and_then(|()| area.present()).map_err(|error| Error::new(format!("chart: {error}")))?;
    }
    let label = super::page::escape(title);
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

fn text() -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&INK)
}

/// Room for the longest of these, in units of the chart.
fn room<'a>(texts: impl IntoIterator<Item = &'a str>) -> i32 {
    let letters = texts.into_iter().map(|text| text.chars().count()).max().unwrap_or(0);
    i32::try_from(letters).unwrap_or(0) * LETTER
}

/// A line of a chart.
#[derive(Debug)]
pub(super) struct Series {
    /// What it is called under the chart.
    pub(super) name: String,
    /// Its points, by x.
    pub(super) points: Vec<(f64, f64)>,
}

/// Axes of a chart of lines.
#[derive(Debug)]
pub(super) struct Axes<'a> {
    /// Under the chart.
    pub(super) x: &'a str,
    /// Beside it.
    pub(super) y: &'a str,
    /// Where a line across marks a day, and what it says.
    pub(super) mark: Option<(f64, &'a str)>,
    /// What stands at a number of the x axis.
    pub(super) x_label: fn(f64) -> String,
    /// What stands at a number of the y axis.
    pub(super) y_label: fn(f64) -> String,
}

/// Lines over a common axis.
///
/// # Errors
/// A chart that cannot be drawn.
pub(super) fn lines(title: &str, axes: &Axes<'_>, series: &[Series]) -> Result<String> {
    let points = || series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min).min(1e300);
    let right = points().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max).max(left + 1e-9);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-9) * 1.05;
    let svg = draw(title, 300, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(26)
            .x_label_area_size(46)
            .y_label_area_size(62)
            .build_cartesian_2d(left..right, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .x_labels(5)
            .y_labels(5)
            .label_style(text())
            .axis_desc_style(text())
            .x_desc(axes.x)
            .y_desc(axes.y)
            .x_label_formatter(&|x| (axes.x_label)(*x))
            .y_label_formatter(&|y| (axes.y_label)(*y))
            .draw()?;
        if let Some((at, says)) = axes.mark {
            chart.draw_series(DashedLineSeries::new([(at, 0.0), (at, top)], 4, 4, INK.stroke_width(1)))?;
            chart.draw_series([Text::new(format!("\u{a0}{says}"), (at, top * 0.99), text())])?;
        }
        for (series, colour) in series.iter().zip(SERIES.iter().cycle()) {
            chart.draw_series(LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)))?;
        }
        Ok(())
    })?;
    // Under the chart, where no line can run through it.
    let key = |(series, number): (&Series, usize)| {
        format!("<span class=\"key s{}\">{}</span> ", number % SERIES.len(), super::page::escape(&series.name))
    };
    Ok(format!("{svg}<p class=\"keys\">{}</p>\n", series.iter().zip(0..).map(key).collect::<String>()))
}

/// Bars beside each other, a group to each label. Values are shares, 0 to 1.
///
/// # Errors
/// A chart that cannot be drawn.
pub(super) fn bars(title: &str, labels: &[String], groups: &[(&str, Vec<f64>)]) -> Result<String> {
    const BAR: i32 = 18;
    const GAP: i32 = 12;
    let left = room(labels.iter().map(String::as_str)) + BESIDE;
    // Behind the longest bar stands its figure.
    let figure = room([view::percent(1.0).as_str()]) + BESIDE;
    let rows = i32::try_from(labels.len()).unwrap_or(0);
    let bars = i32::try_from(groups.len()).unwrap_or(1);
    let legend = if groups.len() > 1 { 26 } else { 0 };
    let height = legend + rows * (bars * BAR + GAP) + GAP;
    let most = groups.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max).max(1e-9);
    let longest = f64::from(i32::try_from(WIDTH).unwrap_or(0) - left - figure);
    draw(title, height.unsigned_abs(), |area| {
        let at = |pos| text().pos(Pos::new(pos, VPos::Center));
        let mut x = left;
        for ((name, _), colour) in groups.iter().zip(&SERIES[1..]).take(if legend > 0 { groups.len() } else { 0 }) {
            area.draw(&Rectangle::new([(x, 8), (x + 12, 20)], colour.filled()))?;
            area.draw(&Text::new((*name).to_owned(), (x + 18, 14), at(HPos::Left)))?;
            x += 18 + room([*name]) + 2 * BESIDE;
        }
        let mut y = legend + GAP / 2;
        for (row, label) in labels.iter().enumerate() {
            let middle = y + bars * BAR / 2;
            area.draw(&Text::new(label.clone(), (left - BESIDE, middle), at(HPos::Right)))?;
            for ((_, values), colour) in groups.iter().zip(&SERIES[1..]) {
                let value = values.get(row).copied().unwrap_or(0.0);
                #[allow(clippy::cast_possible_truncation, reason = "a share of the chart's width")]
                let length = (value / most * longest).round() as i32;
                area.draw(&Rectangle::new([(left, y + 1), (left + length, y + BAR - 1)], colour.filled()))?;
                area.draw(&Text::new(view::percent(value), (left + length + BESIDE, y + BAR / 2), at(HPos::Left)))?;
                y += BAR;
            }
            y += GAP;
        }
        Ok(())
    })
}

/// Cells of a grid, darker for more: `cells[row][column]` within 0 and 1, absent where there can be nothing.
///
/// # Errors
/// A chart that cannot be drawn.
pub(super) fn heat(title: &str, axes: (&str, &str), columns: f64, cells: &[Vec<Option<f64>>]) -> Result<String> {
    let rows = cells.len().max(1);
    let across = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
    #[allow(clippy::cast_precision_loss, reason = "some dozens of cells")]
    let (height, step) = (rows as f64, columns / across as f64);
    let svg = draw(title, 320, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(46)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..columns, -0.5..height - 0.5)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(INK)
            .x_labels(6)
            .y_labels(6)
            .label_style(text())
            .axis_desc_style(text())
            .x_desc(axes.0)
            .y_desc(axes.1)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .draw()?;
        #[allow(clippy::cast_precision_loss, reason = "some dozens of cells")]
        let cell = |row: usize, column: usize, share: f64| {
            let (left, low) = (column as f64 * step, row as f64 - 0.5);
            Rectangle::new([(left, low), (left + step, low + 1.0)], shade(share).filled())
        };
        let all = cells.iter().enumerate().flat_map(|(row, cells)| {
            cells.iter().enumerate().filter_map(move |(column, share)| share.map(|share| cell(row, column, share)))
        });
        chart.draw_series(all)?;
        Ok(())
    })?;
    Ok(format!("{svg}<p class=\"keys\">hardly<span class=\"ramp\"></span>certainly</p>\n"))
}

/// Who went from where to where: a row for each state at the start, a column for each at the end, and in each cell how many in a hundred of the row.
/// `cells[from][to]` are shares within 0 and 1; rows that nobody stood in have none.
///
/// # Errors
/// A chart that cannot be drawn.
pub(super) fn matrix(title: &str, labels: &[String], cells: &[Vec<Option<f64>>]) -> Result<String> {
    const ROW: i32 = 28;
    // Labels stand beside the rows, and turned above the columns.
    let left = room(labels.iter().map(String::as_str)) + BESIDE;
    let top = left;
    let count = i32::try_from(labels.len()).unwrap_or(1).max(1);
    // No wider than a cell of the widest matrix of few states looks well.
    let column = ((i32::try_from(WIDTH).unwrap_or(0) - left - 6) / count).min(2 * ROW);
    let svg = draw(title, (top + count * ROW + 4).unsigned_abs(), |area| {
        let centre = |style: TextStyle<'static>| style.pos(Pos::new(HPos::Center, VPos::Center));
        let turned = ("sans-serif", TEXT).into_font().transform(FontTransform::Rotate270).color(&INK);
        let mut x = left;
        for label in labels {
            let style = turned.pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(label.clone(), (x + column / 2, top - BESIDE), style))?;
            x += column;
        }
        let mut y = top;
        for (label, row) in labels.iter().zip(cells) {
            let middle = y + ROW / 2;
            area.draw(&Text::new(
                label.clone(),
                (left - BESIDE, middle),
                text().pos(Pos::new(HPos::Right, VPos::Center)),
            ))?;
            let mut x = left;
            for share in row {
                let frame = [(x, y), (x + column - 2, y + ROW - 2)];
                match share.filter(|share| *share > 0.0) {
                    None => area.draw(&Rectangle::new(frame, GRID.stroke_width(1)))?,
                    Some(share) => {
                        area.draw(&Rectangle::new(frame, shade(share).filled()))?;
                        let percent = share * 100.0;
                        let figure = if percent < 0.5 { "<1".to_owned() } else { format!("{percent:.0}") };
                        // The same in light and in dark, as the shades are.
                        let ink = if share < 0.5 { ON_LIGHT } else { ON_DARK };
                        let style = centre(("sans-serif", TEXT).into_font().color(&ink));
                        area.draw(&Text::new(figure, (x + column / 2 - 1, middle - 1), style))?;
                    }
                }
                x += column;
            }
            y += ROW;
        }
        Ok(())
    })?;
    Ok(svg)
}

/// Ten steps from hardly to certainly, of one hue: told apart by lightness, in print as on a screen.
fn shade(share: f64) -> RGBColor {
    let step = (share.clamp(0.0, 1.0) * 10.0).floor().min(9.0) / 9.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two bytes")]
    let between = |from: f64, to: f64| (from + (to - from) * step).round() as u8;
    // The ends of the ramp in the style sheet.
    RGBColor(between(232.0, 12.0), between(240.0, 62.0), between(248.0, 120.0))
}
