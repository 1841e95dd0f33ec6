//! The pipeline's figures of docs/performance.tsv, as tables and as a plot.

#![allow(dead_code, reason = "the bench writes, a test reads")]

use std::fmt::Write as _;

/// Where tables begin and end in docs/performance.md.
pub(crate) const MARKS: [&str; 2] = ["<!-- figures: begin -->\n", "<!-- figures: end -->\n"];

/// One figure: nanoseconds a frame, or a flow, or a load.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    /// `hit`, `reply`, `new-flow`, `miss`, `expiry`, `L`, `baseline-hit`, `baseline-reply`.
    pub(crate) workload: String,
    /// Of the frames on the wire; of *L*, of the memory.
    pub(crate) size: String,
    /// `v4` or `v6`.
    pub(crate) family: String,
    pub(crate) flows: u32,
    /// The middle one of the rounds.
    pub(crate) ns: f64,
    /// The least and the most of the rounds.
    pub(crate) spread: (f64, f64),
}

impl Row {
    /// The name that states the workload.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.workload, self.size, self.family, self.flows)
    }

    fn line(&self) -> String {
        let Self { workload, size, family, flows, ns, spread: (low, high) } = self;
        format!("{workload}\t{size}\t{family}\t{flows}\t{ns:.1}\t{low:.1}\t{high:.1}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [workload, size, family, flows, ns, low, high] = columns[..] else { return None };
        Some(Self {
            workload: workload.into(),
            size: size.into(),
            family: family.into(),
            flows: flows.parse().ok()?,
            ns: ns.parse().ok()?,
            spread: (low.parse().ok()?, high.parse().ok()?),
        })
    }
}

/// What was measured where, and the figures.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Results {
    /// A line for each thing that matters: machine, kernel, commit, date.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Results {
    pub(crate) fn text(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("# {note}\n"));
        let head = "# workload\tsize\tfamily\tflows\tns\tleast\tmost\n".to_string();
        notes.chain([head]).chain(self.rows.iter().map(Row::line)).collect()
    }

    /// # Panics
    /// Where a line is none of a results file.
    pub(crate) fn parse(text: &str) -> Self {
        let mut results = Self { notes: vec![], rows: vec![] };
        for line in text.lines() {
            match line.strip_prefix("# ") {
                Some(head) if head.starts_with("workload\t") => {}
                Some(note) => results.notes.push(note.into()),
                None => results.rows.push(Row::parse(line).unwrap_or_else(|| panic!("no figure: {line}"))),
            }
        }
        results
    }

    fn flows(&self, family: &str) -> Vec<u32> {
        let mut flows: Vec<u32> = self.rows.iter().filter(|row| row.family == family).map(|row| row.flows).collect();
        flows.sort_unstable();
        flows.dedup();
        flows
    }

    fn find(&self, workload: &str, is_mix: bool, family: &str, flows: u32) -> Option<&Row> {
        let is_it = |row: &&Row| {
            let same_size = workload == "L" || (row.size == "IMIX") == is_mix;
            row.workload == workload && same_size && row.family == family && row.flows == flows
        };
        self.rows.iter().find(is_it)
    }

    /// The tables of docs/performance.md.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            let _ = writeln!(text, "{note}  ");
        }
        for (family, title) in [("v4", "IPv4"), ("v6", "IPv6")] {
            let baseline = family == "v4";
            let columns = [
                ("hit", false, "hit"),
                ("reply", false, "reply"),
                ("new-flow", false, "new flow"),
                ("miss", false, "miss"),
                ("expiry", false, "expiry"),
                ("hit", true, "hit, IMIX"),
                ("reply", true, "reply, IMIX"),
                ("baseline-hit", false, "baseline's hit"),
                ("baseline-reply", false, "baseline's reply"),
            ];
            let columns = &columns[..if baseline { columns.len() } else { columns.len() - 2 }];
            let _ = write!(text, "\n{title}:\n\n| flows | tables | *L* |");
            columns.iter().for_each(|(.., title)| text += &format!(" {title} |"));
            let _ = writeln!(text, "\n|{}", " --- |".repeat(columns.len() + 3));
            for flows in self.flows(family) {
                let latency = self.find("L", false, family, flows);
                let (memory, latency) =
                    latency.map_or(("–", "–".into()), |row| (&*row.size, format!("{:.0}", row.ns)));
                let _ = write!(text, "| {} | {memory} | {latency} |", grouped(flows));
                for (workload, is_mix, _) in columns {
                    let cell = self.find(workload, *is_mix, family, flows).map_or("–".into(), |row| {
                        let (low, high) = row.spread;
                        format!("{:.0} ({low:.0}–{high:.0})", row.ns)
                    });
                    let _ = write!(text, " {cell} |");
                }
                text.push('\n');
            }
        }
        text
    }

    /// Nanoseconds against flows, a panel for each family.
    pub(crate) fn plot(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
        );
        let drawn = |row: &&Row| LINES.iter().any(|(workload, ..)| row.workload == *workload) && row.size != "IMIX";
        let most = self.rows.iter().filter(drawn).map(|row| row.ns).fold(100.0, f64::max);
        let step = [50.0, 100.0, 200.0, 500.0, 1000.0].into_iter().find(|step| most / step <= 8.0).unwrap_or(2000.0);
        let top = (most / step).ceil() * step;
        for (index, (family, title)) in [("v4", "IPv4"), ("v6", "IPv6")].into_iter().enumerate() {
            let left = MARGIN + index as f64 * (PANEL + MARGIN);
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"20\" font-size=\"14\">{title}: nanoseconds, by flows</text>");
            self.panel(&mut svg, family, left, (step, top));
        }
        for (index, (_, title, colour, dashes)) in LINES.iter().enumerate() {
            let (x, y) = (MARGIN + index as f64 * 130.0, HEIGHT - 14.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\" \
                 stroke-dasharray=\"{dashes}\"/><text x=\"{}\" y=\"{}\">{title}</text>",
                x + 24.0,
                x + 30.0,
                y + 4.0
            );
        }
        svg + "</svg>\n"
    }

    fn panel(&self, svg: &mut String, family: &str, left: f64, (step, top): (f64, f64)) {
        let bottom = HEIGHT - 60.0;
        let height = bottom - 36.0;
        let x = |flows: u32| left + f64::from(flows.max(1)).log10() / 7.0 * PANEL;
        let y = |ns: f64| bottom - ns / top * height;
        for line in 0..=(top / step) as u32 {
            let ns = f64::from(line) * step;
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{0:.1}\" x2=\"{1}\" y2=\"{0:.1}\" stroke=\"#dddddd\"/><text x=\"{2}\" \
                 y=\"{3:.1}\" text-anchor=\"end\">{ns}</text>",
                y(ns),
                left + PANEL,
                left - 6.0,
                y(ns) + 4.0
            );
        }
        for flows in [1, 1_000, 100_000, 1_000_000, 10_000_000] {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(flows),
                bottom + 18.0,
                short(flows)
            );
        }
        for (workload, _, colour, dashes) in LINES {
            let figures = self.flows(family).into_iter().filter_map(|flows| self.find(workload, false, family, flows));
            let points: Vec<(f64, f64)> = figures.map(|row| (x(row.flows), y(row.ns))).collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
                 stroke-dasharray=\"{dashes}\"/>",
                path.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
        }
    }
}

const PANEL: f64 = 370.0;
const MARGIN: f64 = 56.0;
const WIDTH: f64 = 2.0 * PANEL + 3.0 * MARGIN;
const HEIGHT: f64 = 420.0;

/// What the plot shows: workload, title, colour, dashes.
const LINES: [(&str, &str, &str, &str); 6] = [
    ("hit", "hit", "#0072b2", "none"),
    ("reply", "reply", "#009e73", "none"),
    ("new-flow", "new flow", "#d55e00", "none"),
    ("miss", "miss", "#56b4e9", "none"),
    ("expiry", "expiry", "#cc79a7", "none"),
    ("L", "L, one random load", "#555555", "6 4"),
];

/// The document with these tables between its marks.
///
/// # Panics
/// Where a mark is missing.
pub(crate) fn with_tables(document: &str, tables: &str) -> String {
    let (before, rest) = document.split_once(MARKS[0]).expect("the first mark");
    let (_, after) = rest.split_once(MARKS[1]).expect("the second mark");
    format!("{before}{}\n{tables}\n{}{after}", MARKS[0], MARKS[1])
}

fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(" ")
}

/// The same in a name: `1k-flows`.
pub(crate) fn short(number: u32) -> String {
    match number {
        1_000_000.. => format!("{}M", number / 1_000_000),
        1_000.. => format!("{}k", number / 1_000),
        _ => number.to_string(),
    }
}
