//! What stands in `configs/` is what the agent takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidegate::config;
use toml::de::{DeTable, DeValue};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// Name and text of every file in `configs/`.
fn files() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(configs()).unwrap();
    let mut files: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn gateway() -> String {
    std::fs::read_to_string(configs().join("gateway.toml")).unwrap()
}

/// The file of somebody who takes the comment sign off every key and header.
fn uncommented(text: &str) -> String {
    let written = |line: &str| {
        let code = line.strip_prefix("# ")?;
        let key = code.split(" = ").next()?;
        let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"".contains(c));
        let header = code.starts_with('[') && code.ends_with(']') && !code.contains(' ');
        (header || (bare && code.contains(" = "))).then(|| code.to_owned())
    };
    let lines = text.lines().map(|line| written(line).unwrap_or_else(|| line.to_owned()));
    // A source's header alone only shows where sources go.
    lines.collect::<Vec<_>>().join("\n").replace("[[source]]\n\n", "")
}

/// The path of every key that a text holds, as `config::key_paths` has them.
fn written(text: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    gather_table("", DeTable::parse(text).unwrap().get_ref(), &mut paths);
    paths
}

fn gather_table(path: &str, table: &DeTable<'_>, paths: &mut BTreeSet<String>) {
    for (key, value) in table {
        let key = key.get_ref();
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        gather(&path, value.get_ref(), paths);
        paths.insert(path);
    }
}

fn gather(path: &str, value: &DeValue<'_>, paths: &mut BTreeSet<String>) {
    match value {
        DeValue::Table(table) => gather_table(path, table, paths),
        DeValue::Array(items) => {
            items.iter().for_each(|item| gather(&format!("{path}[]"), item.get_ref(), paths));
        }
        _ => {}
    }
}

#[test]
fn every_example_is_loaded_without_a_word() {
    for (name, text) in files() {
        match config::load_str(&text, &name, std::iter::empty()) {
            Ok(loaded) => assert_eq!(loaded.warnings, [], "{name}"),
            Err(problems) => panic!("{problems}"),
        }
    }
}

#[test]
fn every_key_that_is_commented_out_is_known() {
    for (name, text) in files() {
        let problems = config::load_str(&uncommented(&text), &name, std::iter::empty());
        if let Err(problems) = problems {
            panic!("{problems}");
        }
    }
}

#[test]
fn every_key_of_the_code_is_explained() {
    let in_gateway = written(&uncommented(&gateway()));
    let anywhere: BTreeSet<String> =
        files().iter().flat_map(|(_, text)| written(&uncommented(text))).collect();
    let missing: Vec<String> = config::key_paths(&config::schema())
        .into_iter()
        // What a source has stands in the example of its type.
        .filter(|path| {
            let known = if path.starts_with("source") { &anywhere } else { &in_gateway };
            !known.contains(path)
        })
        .filter(|path| path != "source" || !gateway().contains("# [[source]]"))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "explain these keys in configs/");
}

#[test]
fn each_default_that_is_shown_is_the_default_of_the_code() {
    let load = |text: &str| {
        let loaded = config::load_str(text, "gateway.toml", std::iter::empty());
        let mut config = loaded.unwrap().config;
        // These are examples: there is no default of a name.
        config.gateway.labels.clear();
        config.streams.clear();
        serde_json::to_value(config).unwrap()
    };
    assert_eq!(load(&uncommented(&gateway())), load(&gateway()));
}

#[test]
fn the_schema_is_one_that_editors_take() {
    let schema = config::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Tidegate's configuration");
    assert_eq!(schema["additionalProperties"], false);
    let labels = &schema["$defs"]["Gateway"]["properties"]["labels"];
    assert_eq!(labels["type"], "object");
    assert_eq!(labels["additionalProperties"]["type"], "string");
}

#[test]
fn every_key_is_explained_to_editors() {
    let mut silent = Vec::new();
    find_silent(&config::schema(), "", &mut silent);
    assert_eq!(silent, Vec::<String>::new(), "give these keys a doc comment");
}

/// Keys without a description; a tag's is that of its variant.
fn find_silent(schema: &serde_json::Value, path: &str, silent: &mut Vec<String>) {
    if let Some(items) = schema.as_array() {
        items.iter().for_each(|item| find_silent(item, path, silent));
    }
    for (key, inner) in schema.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        if key == "properties" {
            for (name, property) in inner.as_object().unwrap() {
                if property.get("const").is_none() && property.get("description").is_none() {
                    silent.push(format!("{path}/{name}"));
                }
            }
        }
        find_silent(inner, &path, silent);
    }
}
