//! A map of `SunSpec`: where which of a device's models lies.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `SunS`.
const MARKER: [u16; 2] = [0x5375, 0x6E53];

/// What stands behind the last model.
const END: [u16; 2] = [0xFFFF, 0];

/// `sunspec` of a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Map {
    /// Holding register at which it begins.
    #[serde(default = "default_base")]
    pub(super) base: u16,
    /// Number and length of each model; its registers read as 0 where no signal lies.
    models: Vec<(u16, u16)>,
}

const fn default_base() -> u16 {
    40_000
}

impl Map {
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Option<String> {
        let lengths = self.models.iter().map(|(_, length)| u32::from(*length) + 2);
        let end = u32::from(self.base) + 4 + lengths.sum::<u32>();
        (end > 0x1_0000).then(|| "its models end behind address 65535".to_owned())
    }

    pub(super) fn words(&self) -> BTreeMap<u16, u16> {
        let models = self.models.iter().flat_map(|(number, length)| {
            let body = std::iter::repeat_n(0, usize::from(*length));
            [*number, *length].into_iter().chain(body)
        });
        (self.base..=u16::MAX).zip(MARKER.into_iter().chain(models).chain(END)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_begins_where_the_one_before_ends() {
        let mut map = Map { base: 50_000, models: vec![(1, 66), (103, 50)] };
        let words = map.words();
        let heads = [50_000, 50_001, 50_002, 50_003, 50_004, 50_070, 50_071, 50_122, 50_123];
        let expected = [0x5375, 0x6E53, 1, 66, 0, 103, 50, 0xFFFF, 0];
        assert_eq!(heads.map(|address| words.get(&address).copied()), expected.map(Some));
        assert_eq!((words.len(), map.check()), (124, None));
        map.base = 65_500;
        assert!(map.check().is_some());
    }
}
