//! The pages of a damaged file, of any bytes (`crate::fuzz`).

use super::PAGE;
use super::cells::{cells, kind, rightmost, values};
use crate::fuzz::check;

#[test]
fn pages() {
    check("salvage-pages", |bytes| {
        let mut page = [0; PAGE];
        for (place, byte) in page.iter_mut().zip(bytes) {
            *place = *byte;
        }
        rightmost(&page);
        let rows = kind(&page).into_iter().flat_map(|kind| cells(&page, kind));
        for cell in rows.flatten() {
            assert!(cell.local.len() <= cell.length);
            drop(values(cell.local));
        }
    });
}
