//! The manual pages and the shells' completions, made from the commands themselves.
//!
//! A test makes them: the agent on a gateway carries nothing for it, and none of them
//! can be older than its command. They lie in `target/pages`, where the packages take
//! them from (scripts/package.sh).

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::Cli;

fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let folder = target.join("pages");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The command and all below it, by the names of their pages.
fn names(command: &Command, name: &str) -> Vec<String> {
    let below = command.get_subcommands();
    let below = below.flat_map(|sub| names(sub, &format!("{name}-{}", sub.get_name())));
    std::iter::once(name.to_owned()).chain(below).collect()
}

#[test]
fn every_command_has_a_page_that_names_its_options() {
    let (folder, command) = (folder(), Cli::command());
    clap_mangen::generate_to(command.clone(), &folder).unwrap();
    let names = names(&command, "tidegate");
    assert!(names.contains(&"tidegate-buffer-stats".to_owned()), "{names:?}");
    for name in names {
        let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME"), "{name}");
        assert!(
            name == "tidegate" || name == "tidegate-schema" || page.contains("config"),
            "{name}"
        );
    }
}

#[test]
fn every_shell_completes_every_command() {
    let folder = folder();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let file = clap_complete::generate_to(shell, &mut Cli::command(), "tidegate", &folder);
        let text = std::fs::read_to_string(file.unwrap()).unwrap();
        for word in ["run", "check", "schema", "tap", "requeue", "salvage", "drain", "older-than"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
}
