//! HTML of the figures: one file, which loads nothing and runs nothing.

use std::fmt::Write as _;

use super::figures::{Figures, Section, Table, Tile};

const STYLE: &str = include_str!("page.css");

/// Text of strangers as text: no markup, and nothing that turns the direction of what follows.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
            other if other.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

/// The page. Nothing may be loaded or run by it, whatever got into it.
pub(super) fn render(figures: &Figures) -> String {
    let title = escape(&figures.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}: infernet report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    head(&mut html, figures);
    for section in figures.sections.iter().filter(|section| section.no_data.is_none()) {
        self::section(&mut html, section);
    }
    missing(&mut html, figures);
    html.push_str("</div>\n<footer>\n");
    for note in &figures.notes {
        let _never = writeln!(html, "<p>{}</p>", escape(note));
    }
    html.push_str("</footer>\n</main>\n</body>\n</html>\n");
    html
}

/// A title in which names stand in backticks.
fn title(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => escape(part),
            _ => format!("<b>{}</b>", escape(part)),
        })
        .collect()
}

fn head(html: &mut String, figures: &Figures) {
    let title = title(&figures.title);
    let _never = write!(
        html,
        "<header>\n<p class=\"brand\">infernet</p>\n<h1>{title}</h1>\n<dl class=\"facts\">\n"
    );
    for (name, value) in &figures.facts {
        let _never = writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    html.push_str("</dl>\n</header>\n");
    if !figures.warnings.is_empty() {
        html.push_str("<aside role=\"note\">\n<p>Not all could be read:</p>\n<ul>\n");
        for warning in &figures.warnings {
            let _never = writeln!(html, "<li>{}</li>", escape(warning));
        }
        html.push_str("</ul>\n</aside>\n");
    }
    html.push_str("<ul class=\"tiles\">\n");
    for Tile { name, value, aside } in &figures.tiles {
        let (value, aside) = (escape(value), escape(aside));
        let _never = writeln!(
            html,
            "<li><span class=\"what\">{name}</span><strong>{value}</strong><span class=\"aside\">{aside}</span></li>"
        );
    }
    html.push_str("</ul>\n<nav aria-label=\"Sections\">\n");
    for section in &figures.sections {
        let class = if section.no_data.is_some() {
            " class=\"empty\""
        } else {
            ""
        };
        let _never = writeln!(html, "<a href=\"#{}\"{class}>{}</a>", section.id, section.name);
    }
    html.push_str("</nav>\n<div class=\"sections\">\n");
}

fn section(html: &mut String, section: &Section) {
    let wide = if section.is_wide { " class=\"wide\"" } else { "" };
    let (id, name, about) = (section.id, section.name, escape(&section.about));
    let _never = write!(
        html,
        "<section id=\"{id}\"{wide} aria-labelledby=\"{id}-name\">\n<h2 id=\"{id}-name\">{name}</h2>\n\
         <p class=\"about\">{about}</p>\n"
    );
    if section.legend.len() > 1 {
        html.push_str("<ul class=\"legend\">\n");
        for (class, name) in &section.legend {
            let _never = writeln!(html, "<li><i class=\"{class}\"></i>{name}</li>");
        }
        html.push_str("</ul>\n");
    }
    if let Some(svg) = &section.svg {
        let _never = writeln!(html, "<figure>{svg}</figure>");
    }
    for note in &section.notes {
        let _never = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    table(html, &section.table, name);
    html.push_str("</section>\n");
}

/// What could not be drawn, and why, in one place.
fn missing(html: &mut String, figures: &Figures) {
    let missing = figures
        .sections
        .iter()
        .filter_map(|section| Some((section, section.no_data?)));
    let mut missing = missing.peekable();
    if missing.peek().is_none() {
        return;
    }
    html.push_str(
        "<section class=\"wide\" aria-labelledby=\"missing\">\n<h2 id=\"missing\">No data</h2>\n<dl class=\"none\">\n",
    );
    for (Section { id, name, .. }, why) in missing {
        let _never = writeln!(html, "<div id=\"{id}\"><dt>{name}</dt><dd>No data: {why}.</dd></div>");
    }
    html.push_str("</dl>\n</section>\n");
}

fn table(html: &mut String, table: &Table, name: &str) {
    if table.rows.is_empty() {
        return;
    }
    let _never = write!(
        html,
        "<details><summary>Table<span class=\"unseen\"> of {name}</span></summary>\n<div class=\"scroll\" \
         tabindex=\"0\" role=\"region\" aria-label=\"{name}, as a table\"><table>\n<thead><tr>"
    );
    for (column, is_number) in &table.columns {
        let class = if *is_number { " class=\"number\"" } else { "" };
        let _never = write!(html, "<th scope=\"col\"{class}>{column}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (cell, (_, is_number)) in row.iter().zip(&table.columns) {
            let class = if *is_number { " class=\"number\"" } else { "" };
            let _never = write!(html, "<td{class}>{}</td>", escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div></details>\n");
}
