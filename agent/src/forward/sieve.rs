//! Finds the records that a broker refuses alone (SAFETY 8).
//!
//! Brokers refuse whole requests, so a refusal says only that something in the
//! request is wrong, or that the request as such was too large. The sieve
//! halves until a request holds one record. What passes is never tried again.

use std::ops::Range;

#[derive(Debug)]
pub(super) struct Sieve {
    /// Ranges not tried yet; the next one is last.
    open: Vec<Range<usize>>,
    refused: Vec<usize>,
    largest: usize,
}

impl Sieve {
    pub(super) fn new(count: usize) -> Self {
        // A plain vector of ranges, not of the numbers in one.
        let mut open = Vec::new();
        if count > 0 {
            open.push(0..count);
        }
        Self { open, refused: Vec::new(), largest: count.max(1) }
    }

    /// The next records to try in one request.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.open.pop()
    }

    /// `tried` was refused; true when it is a single record, alone to blame.
    pub(super) fn refuse(&mut self, tried: Range<usize>) -> bool {
        if tried.len() <= 1 {
            self.refused.push(tried.start);
            return true;
        }
        let middle = tried.start + tried.len() / 2;
        self.largest = self.largest.min(tried.len().div_ceil(2));
        self.open.push(middle..tried.end);
        self.open.push(tried.start..middle);
        false
    }

    /// Tries these again, after something about them was changed.
    pub(super) fn again(&mut self, range: Range<usize>) {
        self.refused.retain(|record| !range.contains(record));
        self.open.push(range);
    }

    /// What is refused alone.
    pub(super) fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// The largest number of records in one request that no refusal was met
    /// with.
    pub(super) const fn largest(&self) -> usize {
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sift(count: usize, refuses: impl Fn(&Range<usize>) -> bool) -> (Vec<usize>, usize, usize) {
        let mut sieve = Sieve::new(count);
        let mut tries = 0;
        while let Some(range) = sieve.next() {
            tries += 1;
            if refuses(&range) {
                sieve.refuse(range);
            }
        }
        (sieve.refused().to_vec(), sieve.largest(), tries)
    }

    #[test]
    fn one_bad_record_among_a_thousand_is_found_alone() {
        let (refused, _, tries) = sift(1_000, |range| range.contains(&617));
        assert_eq!(refused, [617]);
        assert!(tries <= 21, "{tries}");
    }

    #[test]
    fn requests_that_are_too_large_as_such_blame_no_record() {
        let (refused, largest, _) = sift(1_000, |range| range.len() > 100);
        assert_eq!(refused, Vec::<usize>::new());
        assert_eq!(largest, 63);
    }

    #[test]
    fn every_bad_record_is_found_in_order() {
        let (refused, largest, _) = sift(8, |range| range.contains(&0) || range.contains(&7));
        assert_eq!(refused, [0, 7]);
        assert_eq!(largest, 1);
    }
}
