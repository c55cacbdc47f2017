//! Pictures of the rows, as SVG on a white ground, so that they can be read on a dark page too.

use std::path::Path;

use plotters::prelude::*;

use crate::measures::Row;

const SIZE: (u32, u32) = (720, 420);
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(0, 130, 90),
    RGBColor(150, 90, 160),
    RGBColor(120, 120, 120),
];

/// A line: its name and its points.
#[derive(Clone, Debug)]
pub struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// A picture: its file, its title, what its height is, and its lines.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Name of the file, without its ending.
    pub file: &'static str,
    title: &'static str,
    height: &'static str,
    lines: Vec<Line>,
}

/// The pictures that rows of the steady scenario make.
#[must_use]
pub fn pictures(rows: &[Row]) -> Vec<Picture> {
    let steady: Vec<&Row> = rows.iter().filter(|row| row.scenario == "steady").collect();
    let line = |name, value: &dyn Fn(&Row) -> u64| Line {
        name,
        points: steady
            .iter()
            .map(|row| (float(row.nodes as u64), float(value(row).max(1))))
            .collect(),
    };
    let column = |name, column: &'static str| line(name, &|row: &Row| row.get(column));
    let named = rows.iter().filter(|row| row.scenario == "steady, named to six");
    let named = Line {
        name: "and messages named to six peers",
        points: named
            .map(|row| (float(row.nodes as u64), float(row.get("ad_in"))))
            .collect(),
    };
    // Ads of 30 s each, at what one costs here.
    let fixed = |row: &Row| row.nodes as u64 * row.get("ad_cost") / 30;
    vec![
        Picture {
            file: "ads",
            title: "What ads cost a node",
            height: "bytes a second, received",
            lines: vec![
                column("with the interval that grows", "ad_in"),
                named,
                line("with an interval of 30 s", &fixed),
                column("new connections and their greetings", "greeting"),
                column("upkeep of the DHT", "dht_upkeep"),
            ],
        },
        Picture {
            file: "reach",
            title: "Until an ad is known",
            height: "milliseconds",
            lines: vec![
                column("to half of the nodes", "half_ms"),
                column("to 99%", "most_ms"),
                column("99th percentile of that", "most_p99_ms"),
            ],
        },
        Picture {
            file: "place",
            title: "From a job to its running request",
            height: "milliseconds",
            lines: vec![column("median", "place_ms"), column("99th percentile", "place_p99_ms")],
        },
        Picture {
            file: "bids",
            title: "What an offer makes others say",
            height: "number",
            lines: vec![
                column("bids for an offer, median", "bids"),
                column("99th percentile", "bids_p99"),
                line("messages of a placed job", &|row: &Row| row.get("job_messages") / 100),
            ],
        },
        Picture {
            file: "dht",
            title: "A lookup in the DHT",
            height: "milliseconds",
            lines: vec![
                column("until a provider is named", "dht_first_ms"),
                column("99th percentile", "dht_first_p99_ms"),
                column("until it ends", "dht_ms"),
            ],
        },
    ]
}

fn float(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

/// Draws a picture.
///
/// # Errors
/// Where the file cannot be written.
pub fn draw(picture: &Picture, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.svg", picture.file));
    let wrong = |error: &dyn std::fmt::Display| anyhow::anyhow!("`{}` was not drawn: {error}", path.display());
    let root = SVGBackend::new(&path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| wrong(&error))?;
    let points = || picture.lines.iter().flat_map(|line| &line.points);
    let (left, right) = bounds(points().map(|point| point.0));
    let (low, high) = bounds(points().map(|point| point.1));
    let mut chart = ChartBuilder::on(&root)
        .caption(picture.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((left..right).log_scale(), (low / 1.5..high * 3.0).log_scale())
        .map_err(|error| wrong(&error))?;
    chart
        .configure_mesh()
        .x_desc("nodes")
        .y_desc(picture.height)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(RGBColor(238, 238, 238))
        .bold_line_style(RGBColor(214, 214, 214))
        .draw()
        .map_err(|error| wrong(&error))?;
    for (line, colour) in picture.lines.iter().zip(COLOURS) {
        let drawn = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(drawn)
            .map_err(|error| wrong(&error))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()
        .map_err(|error| wrong(&error))?;
    root.present().map_err(|error| wrong(&error))
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low < high { (low, high) } else { (1.0, 10.0) }
}
