//! A saved cursor under any bytes (`crate::fuzz`).

use super::cursor::Place;
use crate::fuzz::check;

#[test]
fn cursors() {
    check("sql-cursors", |bytes| {
        for definition in [7, 9] {
            if let Ok((place, database)) = Place::load(bytes, definition) {
                let saved = place.save(definition, database);
                let (again, database) = Place::load(&saved, definition).unwrap();
                assert_eq!(again.save(definition, database), saved);
            }
        }
    });
}
