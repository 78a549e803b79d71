// SPDX-License-Identifier: Apache-2.0
//! Just enough SVG for plots. A plot brings its own ground, and other colours for those who read dark pages, so that it is
//! legible on any page.

use std::fmt::Write as _;

/// Size of every plot.
pub(crate) const WIDTH: f64 = 860.0;

const STYLE: &str = "\
text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1c2330}.title{font-size:16px;font-weight:600}.small{font-size:11.5px;fill:#566072}\
.ground{fill:#fcfcfd;stroke:#d5dae3}.grid{stroke:#e3e7ee}.axis{stroke:#7b8698}.bar{stroke:#c03030;stroke-dasharray:6 4;stroke-width:1.6}\
.bartext{fill:#c03030;font-size:12px}.whisker{stroke:#1c2330;stroke-width:1.6}\
";
/// Colours by class: light, dark.
const COLOURS: [[&str; 2]; 7] = [
    ["#1f6fd6", "#6fb0ff"],
    ["#d9730d", "#ffa657"],
    ["#2e8f57", "#5fd193"],
    ["#8a4fc7", "#c69bff"],
    ["#8c6a14", "#e3bf5c"],
    ["#c2407a", "#ff8bbb"],
    ["#3c7f94", "#7fd0e6"],
];

/// A plot as it is drawn.
pub(crate) struct Svg {
    body: String,
    height: f64,
    title: String,
}

/// Where a text stands as to its point.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(crate) fn new(title: &str, height: f64) -> Self {
        let mut svg = Self { body: String::new(), height, title: escaped(title) };
        svg.text([20.0, 28.0], Anchor::Start, "title", title);
        svg
    }

    pub(crate) fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
            escaped(text)
        ));
    }

    pub(crate) fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str) {
        self.push(&format!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#));
    }

    pub(crate) fn rect(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: usize) {
        let class = colour % COLOURS.len();
        self.push(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="f{class}"/>"#
        ));
    }

    /// A line through points, with a mark at each.
    pub(crate) fn curve(&mut self, points: &[[f64; 2]], colour: usize) {
        let class = colour % COLOURS.len();
        let path: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        self.push(&format!(r#"<polyline points="{}" class="s{class}"/>"#, path.join(" ")));
        for [x, y] in points {
            self.push(&format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.6" class="f{class}"/>"#));
        }
    }

    /// The file's text.
    pub(crate) fn finish(self) -> String {
        let (mut light, mut dark) = (String::new(), String::new());
        for (at, [day, night]) in COLOURS.iter().enumerate() {
            for (sheet, colour) in [(&mut light, day), (&mut dark, night)] {
                let _ = write!(sheet, ".f{at}{{fill:{colour}}}.s{at}{{stroke:{colour};fill:none;stroke-width:2.4}}");
            }
        }
        let Self { body, height, title } = self;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{title}">
<style>{STYLE}{light}@media(prefers-color-scheme:dark){{text{{fill:#e4e8f0}}.small{{fill:#a9b3c5}}.ground{{fill:#161b24;stroke:#39424f}}.grid{{stroke:#2b3340}}.axis{{stroke:#8b96a8}}.bar{{stroke:#ff7b72}}.bartext{{fill:#ff7b72}}.whisker{{stroke:#e4e8f0}}{dark}}}</style>
<rect x="0.5" y="0.5" width="{}" height="{}" rx="6" class="ground"/>
{body}</svg>
"#,
            WIDTH - 1.0,
            height - 1.0
        )
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_markup_is_escaped() {
        let mut svg = Svg::new("a < b", 100.0);
        svg.text([1.0, 2.0], Anchor::End, "small", "\"x\" & y");
        let text = svg.finish();
        assert!(text.contains("a &lt; b") && text.contains("&quot;x&quot; &amp; y"), "{text}");
    }
}
