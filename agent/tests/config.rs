//! What stands in `configs/` is what the agent takes.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may end them")]

use std::collections::BTreeMap;
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

/// The path of every key that a text holds, as `config::key_paths` has them,
/// and what stands there if it is one value.
fn written(text: &str) -> BTreeMap<String, String> {
    let mut paths = BTreeMap::new();
    gather_table("", DeTable::parse(text).unwrap().get_ref(), &mut paths);
    paths
}

fn gather_table(path: &str, table: &DeTable<'_>, paths: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = key.get_ref();
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        gather(&path, value.get_ref(), paths);
        let value = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            _ => String::new(),
        };
        paths.insert(path, value);
    }
}

fn gather(path: &str, value: &DeValue<'_>, paths: &mut BTreeMap<String, String>) {
    match value {
        DeValue::Table(table) => gather_table(path, table, paths),
        DeValue::Array(items) => {
            for item in items {
                gather(&format!("{path}[]"), item.get_ref(), paths);
            }
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
fn every_key_that_is_commented_out_is_taken() {
    for (name, text) in files() {
        let text = uncommented(&text);
        let Err(problems) = config::load_str(&text, &name, std::iter::empty()) else { continue };
        // Examples of two ways to the same end exclude each other; that is a
        // rule's word, not that of the schema.
        let wrong = problems.0.iter().map(ToString::to_string).filter(|problem| {
            ["unknown ", "expected ", "missing ", "out of range", "is not a number"]
                .iter()
                .any(|word| problem.contains(word))
        });
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

/// Secrets have three keys, one of which is used; the file's head shows all.
const WAYS_TO_A_SECRET: [&str; 3] = [".env", ".file", ".credential"];

#[test]
fn every_key_of_the_code_is_explained() {
    let in_gateway = written(&uncommented(&gateway()));
    let mut explained = in_gateway.clone();
    explained.extend(files().iter().flat_map(|(_, text)| written(&uncommented(text))));
    let missing: Vec<String> = config::key_paths(&config::schema())
        .into_iter()
        .filter(|path| {
            // What a source has stands in the example of its type.
            let known = if path.starts_with("source") { &explained } else { &in_gateway };
            !known.contains_key(path) && !WAYS_TO_A_SECRET.iter().any(|way| path.ends_with(way))
        })
        .filter(|path| path != "source")
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "explain these keys in configs/");
    for way in WAYS_TO_A_SECRET {
        assert!(gateway().contains(&format!("{{ {} = ", &way[1..])), "{way}");
    }
    assert!(gateway().contains("# [[source]]"));
}

#[test]
fn each_default_that_is_shown_is_the_default_of_the_code() {
    for (name, text) in files() {
        let loaded = config::load_str(&text, &name, std::iter::empty()).unwrap();
        let mut defaults = BTreeMap::new();
        flatten("", &serde_json::to_value(loaded.config).unwrap(), &mut defaults);
        for (path, shown) in written(&uncommented(&text)) {
            // A key without a default shows an example.
            if let Some(default) = defaults.get(&path) {
                assert_eq!(shown, *default, "{name}: {path}");
            }
        }
    }
}

/// The single values below the sections; those in lists are several.
fn flatten(path: &str, value: &serde_json::Value, values: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, values);
            }
        }
        serde_json::Value::Array(items) => {
            if let [only] = items.as_slice() {
                flatten(&format!("{path}[]"), only, values);
            }
        }
        serde_json::Value::Null => {}
        serde_json::Value::String(text) => {
            values.insert(path.to_owned(), text.clone());
        }
        other => {
            values.insert(path.to_owned(), other.to_string());
        }
    }
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
        for item in items {
            find_silent(item, path, silent);
        }
    }
    for (key, inner) in schema.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        // The only key of a variant is explained as the variant.
        let variant = inner.as_object().is_some_and(|keys| keys.len() == 1)
            && schema.get("description").is_some();
        if key == "properties" && !variant {
            for (name, property) in inner.as_object().unwrap() {
                if property.get("const").is_none() && property.get("description").is_none() {
                    silent.push(format!("{path}/{name}"));
                }
                // One may be called `properties` itself.
                find_silent(property, &format!("{path}/{name}"), silent);
            }
            continue;
        }
        find_silent(inner, &path, silent);
    }
}
