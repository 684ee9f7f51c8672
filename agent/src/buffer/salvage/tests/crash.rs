//! The salvage itself is cut off, at each of its steps.

use super::*;

/// A file that is damaged, with all that belongs to it, and what it holds.
fn damaged() -> (tempfile::TempDir, PathBuf, BTreeSet<String>) {
    let plant = Plant::new(PLANT);
    let cut = plant.cut();
    let path = cut.path().join("buffer.db");
    overwrite(&path, 0, &[0; 16]);
    overwrite(&schema::beside(&path, "-wal"), 0, &[0; 4]);
    (cut, path, batches(&plant.path()))
}

fn check(path: &Path, aside: &Path, expected: &BTreeSet<String>) {
    let file = open(path);
    assert_eq!(file.loss().unwrap().set_aside, aside);
    drop(file);
    assert_eq!(batches(path), *expected);
    assert_eq!(damage::all_aside(path), [aside]);
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let left: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("salvag"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

fn note(path: &Path, aside: &Path) {
    let name = aside.file_name().unwrap().to_str().unwrap();
    fs::write(schema::beside(path, ".salvaging"), format!("{name}\nmalformed\n")).unwrap();
}

#[test]
fn after_each_step_the_next_start_goes_on() {
    for step in 1..=6 {
        let (_cut, path, expected) = damaged();
        let aside = schema::beside(&path, ".damaged-20260101T000000Z");
        note(&path, &aside);
        if step >= 2 {
            fs::rename(&path, &aside).unwrap();
        }
        if step >= 3 {
            fs::rename(schema::beside(&path, "-wal"), schema::beside(&aside, "-wal")).unwrap();
        }
        if step == 4 {
            // Half of the new file.
            fs::write(schema::beside(&path, ".salvage"), b"SQLite format 3\0half").unwrap();
            fs::write(schema::beside(&path, ".salvage-journal"), b"half").unwrap();
        }
        if step >= 5 {
            let new = schema::beside(&path, ".salvage");
            salvage(&aside, &new, "gw1", "malformed").unwrap();
            if step == 6 {
                fs::rename(&new, &path).unwrap();
            }
        }
        check(&path, &aside, &expected);
    }
}

#[test]
fn a_note_that_was_not_finished_is_no_reason_to_do_anything() {
    let plant = Plant::new(PLANT);
    let cut = plant.cut();
    let path = cut.path().join("buffer.db");
    fs::write(schema::beside(&path, ".salvaging-new"), b"buffer.db.dam").unwrap();
    assert_eq!(open(&path).loss(), None);
    assert_eq!(batches(&path), batches(&plant.path()));
}

#[test]
fn a_salvage_that_is_asked_for_is_made_once() {
    let plant = Plant::new(PLANT);
    let cut = plant.cut();
    let path = cut.path().join("buffer.db");
    damage::ask(&path, "seen while running");
    let file = open(&path);
    assert_eq!(file.loss().unwrap().cause, "seen while running");
    drop(file);
    assert_eq!(open(&path).loss(), None);
    assert_eq!(batches(&path), batches(&plant.path()));
}

#[test]
fn a_few_damaged_files_are_kept_and_no_more_than_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.db");
    let name = |n: u8| schema::beside(&path, &format!(".damaged-2026010{n}T000000Z"));
    for n in 1..=5 {
        fs::write(name(n), [0; 1_000]).unwrap();
        fs::write(schema::beside(&name(n), "-wal"), [0; 1_000]).unwrap();
    }
    fs::write(schema::beside(&path, ".damaged-by me"), b"mine").unwrap();
    damage::prune(&path, u64::MAX);
    assert_eq!(damage::all_aside(&path), [name(3), name(4), name(5)]);
    damage::prune(&path, 4_500);
    assert_eq!(damage::all_aside(&path), [name(4), name(5)]);
    damage::prune(&path, 1);
    assert_eq!(damage::all_aside(&path), [name(5)]);
    assert!(!schema::beside(&name(1), "-wal").try_exists().unwrap());
    assert!(schema::beside(&path, ".damaged-by me").try_exists().unwrap());
}

#[test]
fn a_link_in_the_place_of_the_note_is_replaced_and_its_target_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join("buffer.db"), folder.path().join("victim"));
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, schema::beside(&path, ".salvaging-new")).unwrap();
    damage::ask(&path, "malformed");
    let note = fs::read_to_string(schema::beside(&path, ".salvaging")).unwrap();
    assert_eq!((&*note, &*fs::read_to_string(&victim).unwrap()), ("\nmalformed\n", "precious"));
}
