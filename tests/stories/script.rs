//! Reads stories. A story is steps and tables; a table has a line of names, then a line a record.

use std::collections::BTreeMap;

/// One story.
#[derive(Debug)]
pub struct Story {
    pub line: usize,
    pub title: String,
    pub steps: Vec<(usize, Step)>,
}

/// One step of a story.
#[derive(Debug)]
pub enum Step {
    /// `limits: name value, …`
    Limits(Vec<(String, String)>),
    /// A table of records.
    Records(Vec<Told>),
    /// `wait: 6 minutes`
    Wait(i64),
    /// `order: <action> <topic> <entity, or offset>`
    Order {
        action: String,
        topic: String,
        about: String,
    },
    /// `again: <topic> <offset>`: the broker delivers from there once more.
    Again {
        topic: String,
        offset: i64,
    },
    /// `repair`: the handler's bug is mended.
    Repair,
    /// `restart`: all lanes are claimed anew.
    Restart,
    Forget,
    /// `resume`: halted lanes go on.
    Resume,
    /// `expect:` and what must be.
    Expect(Vec<(usize, String)>),
}

/// One record of a table: its cells by name.
#[derive(Debug)]
pub struct Told {
    pub line: usize,
    pub cells: BTreeMap<String, String>,
}

/// Reads a file of stories.
pub fn parse(text: &str) -> Result<Vec<Story>, String> {
    let mut stories: Vec<Story> = Vec::new();
    let mut names: Option<Vec<String>> = None;
    for (at, line) in text.lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("story:") {
            stories.push(Story { line: number, title: title.trim().to_owned(), steps: Vec::new() });
            names = None;
            continue;
        }
        let story = stories.last_mut().ok_or_else(|| format!("line {number}: stands before the first story"))?;
        let wrong = |what: &str| format!("line {number}: {what}: {line}");
        if line.starts_with('|') {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            match &names {
                None => {
                    names = Some(cells);
                    story.steps.push((number, Step::Records(Vec::new())));
                }
                Some(names) if names.len() == cells.len() => {
                    let cells = names.iter().cloned().zip(cells).filter(|(_, cell)| !cell.is_empty()).collect();
                    match story.steps.last_mut() {
                        Some((_, Step::Records(records))) => records.push(Told { line: number, cells }),
                        _ => return Err(wrong("a record outside of a table")),
                    }
                }
                Some(_) => return Err(wrong("as many cells as names are expected")),
            }
            continue;
        }
        if let Some(expected) = line.strip_prefix("- ") {
            match story.steps.last_mut() {
                Some((_, Step::Expect(lines))) => lines.push((number, expected.to_owned())),
                _ => return Err(wrong("stands outside of `expect:`")),
            }
            continue;
        }
        names = None;
        story.steps.push((number, step(line).ok_or_else(|| wrong("is no step"))?));
    }
    Ok(stories)
}

fn step(line: &str) -> Option<Step> {
    let (word, rest) = line.split_once(':').unwrap_or((line, ""));
    let mut words = rest.split_whitespace();
    Some(match word {
        "limits" => {
            let pair =
                |part: &str| part.trim().split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
            Step::Limits(rest.split(',').map(pair).collect::<Option<_>>()?)
        }
        "wait" => {
            let count: i64 = words.next()?.parse().ok()?;
            Step::Wait(count * if words.next()?.starts_with("hour") { 60 } else { 1 } * super::lane_world::MINUTE)
        }
        "order" => {
            let (action, topic) = (words.next()?.to_owned(), words.next()?.to_owned());
            Step::Order { action, topic, about: words.next().unwrap_or_default().to_owned() }
        }
        "again" => Step::Again { topic: words.next()?.to_owned(), offset: words.next()?.parse().ok()? },
        "repair" => Step::Repair,
        "restart" => Step::Restart,
        "forget" => Step::Forget,
        "resume" => Step::Resume,
        "expect" => Step::Expect(Vec::new()),
        _ => return None,
    })
}
