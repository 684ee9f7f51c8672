//! The rules of the repository, as tests: a rule that nobody holds drifts.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may end them")]

use std::path::{Path, PathBuf};

/// A longer file holds more than one component.
const MOST_LINES: usize = 600;

/// The stages, and what each may name besides itself and the shared words.
/// Folders and files under `agent/src` that stand in neither list (the binary,
/// what puts the stages together) may name all.
const STAGES: &[(&str, &[&str])] = &[
    // A source decodes what it reads, hands it to collect and tells its state.
    ("source", &["decode", "collect", "supervise"]),
    ("supervise", &["source", "collect"]),
    ("decode", &[]),
    ("collect", &["buffer"]),
    // Stores the dead letters and checkpoints that collect hands over.
    ("buffer", &["collect"]),
    // Makes records of what stands in a batch.
    ("encode", &["buffer"]),
    ("forward", &["encode", "buffer", "collect"]),
    // Only looks at what the stages have counted; none of them knows it.
    ("status", &["source", "supervise", "buffer", "forward"]),
];

/// Words that all stages share. `config` is made of every stage's own
/// configuration, and so names the stages; the others do not.
const SHARED: &[&str] = &["event", "raw", "flow", "units", "clock", "pulse", "delays", "config"];

/// Folders of the repository that may hold Rust code of ours.
const FOLDERS: &[&str] = &["agent", "demo", "loader", "tests", "benches"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                gather(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every Rust file: its path in the repository and its text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        gather(&root().join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 10, "the tests look into the wrong folder");
    let named = files.into_iter().map(|path| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, std::fs::read_to_string(path).unwrap())
    });
    named.collect()
}

/// Every line that holds one of these words.
fn lines_with(words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (index, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    found
}

fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long_to_be_one_component() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    none(&long, "split what is longer than 600 lines");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat()];
    none(&lines_with(&words), "do it, or open an issue");
}

#[test]
fn every_exception_is_signed() {
    let words = [["#[", "allow("].concat(), ["#![", "allow("].concat()];
    none(&lines_with(&words), "write #[expect(…, reason = \"…\")]");
}

#[test]
fn every_module_opens_with_why() {
    let silent: Vec<String> = sources()
        .into_iter()
        // A file of tests belongs to the module that it tests.
        .filter(|(name, _)| name.contains("/src/") && !name.contains("tests"))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    none(&silent, "begin with //! and what the module is for");
}

/// The tests that a text names: paths whose last word is a sentence.
fn tests_named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let last = quoted.filter_map(|quote| quote.rsplit("::").next());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    last.filter(|name| name.matches('_').count() > 1 && name.chars().all(plain)).collect()
}

#[test]
fn every_rule_of_safety_has_a_row_and_every_test_in_it_exists() {
    let read = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    let (rules, table) = (read("safety.md"), read("safety-tests.md"));
    let numbers = rules.lines().filter_map(|line| line.split_once(". ")?.0.parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.collect();
    assert_eq!(numbers.first(), Some(&1), "the rules are written in another way");
    let silent = numbers.iter().filter(|number| !table.contains(&format!("\n| {number}: ")));
    let silent: Vec<String> = silent.map(|number| format!("rule {number}")).collect();
    none(&silent, "docs/safety-tests.md says for each rule which test holds it");
    let code: String = sources().into_iter().map(|(_, text)| text).collect();
    let named = tests_named(&table);
    assert!(named.len() > 40, "the tests are named in another way");
    let gone = named.into_iter().filter(|name| !code.contains(&format!("fn {name}(")));
    let gone: Vec<String> = gone.map(str::to_owned).collect();
    none(&gone, "docs/safety-tests.md names tests that are there");
}

#[test]
fn every_corpus_is_that_of_a_target() {
    let code: String = sources().into_iter().map(|(_, text)| text).collect();
    let corpora = std::fs::read_dir(root().join("agent/fuzz")).unwrap();
    let names = corpora.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let lost: Vec<String> =
        names.filter(|name| !code.contains(&format!("check(\"{name}\""))).collect();
    none(&lost, "nothing reads these folders of agent/fuzz");
}

/// The modules of this crate that a text names in code, with their lines.
/// What stands behind `mod tests` may name anything.
fn used(text: &str) -> Vec<(usize, String)> {
    let word = |text: &str| {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text.get(..end).unwrap_or_default().to_owned()
    };
    let mut used = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("mod tests {") {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (at, found) in code.match_indices("crate::") {
            let rest = code.get(at + found.len()..).unwrap_or_default();
            match rest.strip_prefix('{') {
                Some(list) => used.extend(list.split(',').map(|part| (index + 1, word(part)))),
                None => used.push((index + 1, word(rest))),
            }
        }
    }
    used.retain(|(_, module)| !module.is_empty());
    used
}

#[test]
fn each_stage_knows_only_its_neighbours() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let Some(path) = name.strip_prefix("agent/src/") else { continue };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        let allowed = match STAGES.iter().find(|(stage, _)| *stage == module) {
            Some((_, allowed)) => *allowed,
            None if SHARED.contains(&module) && module != "config" => &[],
            None => continue,
        };
        if path.contains("tests") {
            continue;
        }
        for (line, used) in used(&text) {
            let is_stage = STAGES.iter().any(|(stage, _)| *stage == used);
            if is_stage && used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name}:{line}: `{module}` names `{used}`"));
            }
        }
    }
    none(&wrong, "a stage knows itself, the shared words and its neighbours");
}

#[test]
fn what_a_text_names_is_found() {
    let text = "use crate::{buffer::Reader, event};\n// crate::no\nfn f(x: crate::flow::Id) {}\n\
                mod tests {\nuse crate::source;\n";
    let expected = [(1, "buffer"), (1, "event"), (3, "flow")];
    assert_eq!(used(text), expected.map(|(line, module)| (line, module.to_owned())));
}
