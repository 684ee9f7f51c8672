//! Damage at random places.

use std::sync::LazyLock;

use super::plant::*;
use super::*;
use crate::buffer::failure;
use crate::buffer::usage::Usage;

/// A file to damage, made once: what its database and its -wal hold.
struct Image {
    database: Vec<u8>,
    wal: Vec<u8>,
    places: Vec<(String, BTreeSet<u32>)>,
    epochs: BTreeSet<u64>,
}

impl Image {
    fn take(plant: &Plant) -> Self {
        let cut = plant.cut();
        let path = cut.path().join("buffer.db");
        Self {
            database: fs::read(&path).unwrap(),
            wal: fs::read(schema::beside(&path, "-wal")).unwrap(),
            places: places(&path),
            epochs: plant.file.as_ref().unwrap().epochs().iter().map(|e| e.epoch.0).collect(),
        }
    }
}

/// All of it stands in the database.
static AT_REST: LazyLock<Image> = LazyLock::new(|| {
    let mut plant = Plant::new(PLANT);
    plant.step(Step::Checkpoint);
    Image::take(&plant)
});

/// After a power cut: the newest pages stand in the -wal.
static CUT: LazyLock<Image> = LazyLock::new(|| Image::take(&Plant::new(PLANT)));

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Harm {
    Flip { place: f64, bit: u8 },
    Zero { page: f64 },
    Garbage { page: f64, byte: u8 },
    Truncate { place: f64 },
    Swap { a: f64, b: f64 },
}

fn harm() -> impl Strategy<Value = Harm> {
    let part = || 0.0..1.0_f64;
    prop_oneof![
        (part(), 0..8_u8).prop_map(|(place, bit)| Harm::Flip { place, bit }),
        // The header and the catalogue, which a large file would hardly ever hit.
        (0.0..0.02_f64, 0..8_u8).prop_map(|(place, bit)| Harm::Flip { place, bit }),
        part().prop_map(|page| Harm::Zero { page }),
        (part(), any::<u8>()).prop_map(|(page, byte)| Harm::Garbage { page, byte }),
        part().prop_map(|place| Harm::Truncate { place }),
        (part(), part()).prop_map(|(a, b)| Harm::Swap { a, b }),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a small file"
)]
fn harmed(bytes: &mut Vec<u8>, harm: &Harm) -> BTreeSet<u32> {
    let place = |part: f64| ((bytes.len() as f64 * part) as usize).min(bytes.len() - 1);
    let page = |place: usize| place / PAGE * PAGE..(place / PAGE * PAGE + PAGE).min(bytes.len());
    let mut touched = BTreeSet::new();
    let number = |place: usize| u32::try_from(place / PAGE + 1).unwrap();
    match *harm {
        Harm::Flip { place: part, bit } => {
            let at = place(part);
            bytes[at] ^= 1 << bit;
            touched.insert(number(at));
        }
        Harm::Zero { page: part } => {
            let at = place(part);
            let range = page(at);
            bytes[range].fill(0);
            touched.insert(number(at));
        }
        Harm::Garbage { page: part, byte } => {
            let at = place(part);
            let range = page(at);
            bytes[range].fill(byte);
            touched.insert(number(at));
        }
        Harm::Truncate { place: part } => {
            let at = place(part);
            touched.extend(number(at)..=number(bytes.len()));
            bytes.truncate(at);
        }
        Harm::Swap { a, b } => {
            let (a, b) = (place(a), place(b));
            let (left, right) = (bytes[page(a)].to_vec(), bytes[page(b)].to_vec());
            let (a, b) = (page(a), page(b));
            if left.len() == right.len() {
                touched.extend([number(a.start), number(b.start)]);
                bytes[a].copy_from_slice(&right);
                bytes[b].copy_from_slice(&left);
            }
        }
    }
    touched
}

/// For each batch the pages that it stands in, as `SQLite`'s own `dbstat` has
/// them: by nothing of ours.
pub(super) fn places(path: &Path) -> Vec<(String, BTreeSet<u32>)> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT path, pageno, ncell, pagetype FROM dbstat WHERE name = 'batch' ORDER BY path",
        )
        .unwrap();
    let all: Vec<(String, u32, u32, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut found = Vec::new();
    for (leaf, page, cells, _) in all.iter().filter(|(.., kind)| kind == "leaf") {
        for cell in 0..*cells {
            let long = format!("{leaf}{cell:03x}+");
            let rest = all.iter().filter(|(path, ..)| path.starts_with(&long));
            found.push(rest.map(|(_, page, ..)| *page).chain([*page]).collect());
        }
    }
    let mut statement = connection
        .prepare(
            "SELECT concat_ws('|', 'batch', id, flow, first_seq, count, raw, oldest, hex(cursors), hex(data))
             FROM batch ORDER BY id",
        )
        .unwrap();
    let rows: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), found.len());
    rows.into_iter().zip(found).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_file_opens_and_keeps_what_stands_in_whole_pages(
        harms in prop::collection::vec(harm(), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buffer.db");
        let mut bytes = AT_REST.database.clone();
        let mut touched = BTreeSet::new();
        for harm in &harms {
            if !bytes.is_empty() {
                touched.extend(harmed(&mut bytes, harm));
            }
        }
        fs::write(&path, bytes).unwrap();
        let opened = File::open(&path, "gw1");
        // Two of a header's bits make a newer program's file of it.
        if let Err(OpenError::Newer { .. }) = opened {
            return Ok(());
        }
        let mut file = opened.unwrap();
        let running = file.epochs().last().unwrap().epoch.0;
        prop_assert!(!AT_REST.epochs.contains(&running), "an epoch came twice");
        if let Err(cause) = file.commit(&Changes::default(), Timestamp(1)) {
            prop_assert!(failure::is_damage(&cause), "{cause}");
        }
        let salvaged = !damage::all_aside(&path).is_empty();
        drop(file);
        // Damage that nobody has met yet is met by who reads there, and here by nobody.
        if salvaged {
            let after = batches(&path);
            let connection = Connection::open(&path).unwrap();
            let saved = Usage::load(&connection).unwrap();
            connection.execute_batch("DELETE FROM state WHERE key = 'usage'").unwrap();
            prop_assert_eq!(saved, Usage::load(&connection).unwrap());
            drop(connection);
            for (row, pages) in &AT_REST.places {
                let whole = pages.is_disjoint(&touched);
                prop_assert!(!whole || after.contains(row), "lost: {row:.60}");
            }
        }
        drop(open(&path));
        if salvaged {
            prop_assert_eq!(damage::all_aside(&path).len(), 1, "nothing is wrong any more");
        }
    }

    #[test]
    fn a_file_with_a_damaged_wal_opens(
        of_wal in prop::collection::vec(harm(), 0..3),
        of_file in prop::collection::vec(harm(), 0..2),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buffer.db");
        for (part, whole, harms) in [("-wal", &CUT.wal, of_wal), ("", &CUT.database, of_file)] {
            let mut bytes = whole.clone();
            for harm in &harms {
                if !bytes.is_empty() {
                    harmed(&mut bytes, harm);
                }
            }
            fs::write(schema::beside(&path, part), bytes).unwrap();
        }
        match File::open(&path, "gw1") {
            Ok(_) | Err(OpenError::Newer { .. }) => {}
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}
