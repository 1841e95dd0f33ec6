//! `docs/configuration.md`, written from the description of the fields.

use std::fmt::Write;

use super::fields::{Absent, SECTIONS, Section};

const HEAD: &str = "\
# The configuration file

This page is written from the code that reads the file (`appliance/src/config/fields.rs`); a test compares the two.

`weirgate run --config FILE` and `weirgate check --config FILE` read one TOML file. `check` touches nothing of the host.
Both report every error of the file, one sentence each:

```text
weirgate.toml:14:13: service[0].node_port: 70000 is not a port; use 1 to 65535, such as 30080
```

The parts are: file, line, column, field, the value, what is wrong with it, and what would work. Warnings begin with
`warning:` and do not stop anything. Unknown tables and fields are errors, so a typing mistake never becomes a silent
default.

| exit code | of `weirgate check` and `weirgate run` |
| --- | --- |
| 0 | the configuration is valid (`check`), or the gateway ran and was stopped in order (`run`) |
| 1 | the configuration is valid, but the host did not let the gateway start or continue |
| 2 | the configuration or the command line is invalid |

";

/// The page `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    for section in SECTIONS {
        section_reference(&mut page, section);
    }
    page.push_str("## A sample with every field\n\n```toml\n");
    page.push_str(&sample());
    page.push_str("```\n");
    page
}

fn section_reference(page: &mut String, section: &Section) {
    let brackets = if section.repeated { ("[[", "]]") } else { ("[", "]") };
    let presence = match (section.required, section.repeated) {
        (true, _) => "Required.",
        (false, true) => "May be repeated.",
        (false, false) => "Optional.",
    };
    let _ = writeln!(page, "## `{}{}{}`\n\n{} {presence}\n", brackets.0, section.name, brackets.1, section.meaning);
    page.push_str("| field | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for field in section.fields {
        let default = match field.absent {
            Absent::Error => "required".to_owned(),
            Absent::ErrorIf(case) => format!("required where {case}"),
            Absent::Default(value) => value.to_owned(),
        };
        let list = if field.list { "list of: " } else { "" };
        let _ = writeln!(page, "| `{}` | {list}{} | {default} | {} |", field.name, field.kind.title(), field.meaning);
    }
    page.push('\n');
}

/// A file with every field at its example.
#[must_use]
pub(crate) fn sample() -> String {
    let mut sample = String::new();
    for section in SECTIONS {
        let (open, close) = if section.repeated { ("[[", "]]") } else { ("[", "]") };
        let _ = writeln!(sample, "{open}{}{close}", section.name);
        for field in section.fields {
            let _ = writeln!(sample, "{} = {}", field.name, field.example);
        }
        if section.name != SECTIONS[SECTIONS.len() - 1].name {
            sample.push('\n');
        }
    }
    sample
}
