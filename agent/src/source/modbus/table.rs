//! The four tables of a device, and the numbers that manuals give their entries.
//!
//! A request names a table by its function and an entry by an address from 0.
//! Manuals number entries from 1 and put a digit for the table in front: 40001
//! is holding 0, and 400001 is the same with room for all 65,536 addresses
//! (Modicon Modbus Protocol Reference Guide PI-MBUS-300, "Data Addresses in
//! Modbus Messages"; Modbus application protocol 1.1b3, 4.4).

use serde::{Deserialize, Serialize};

/// Which of the four address spaces of a device.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Single bits, read by function 1.
    Coil,
    /// Single bits, read by function 2.
    Discrete,
    /// Registers, read by function 4.
    Input,
    /// Registers, read by function 3.
    Holding,
}

/// First and last number of each range. The digit of coils is 0, with which no
/// number in TOML begins: those beyond the 9,999th have no number here, and 10001
/// is the first discrete input.
const NUMBERS: [(u32, u32, Table); 7] = [
    (1, 9_999, Table::Coil),
    (10_001, 19_999, Table::Discrete),
    (30_001, 39_999, Table::Input),
    (40_001, 49_999, Table::Holding),
    (100_001, 165_536, Table::Discrete),
    (300_001, 365_536, Table::Input),
    (400_001, 465_536, Table::Holding),
];

impl Table {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        }
    }

    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The function that reads it (Modbus Application Protocol 1.1b3, 6.1 to 6.4).
    pub(super) const fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }

    /// Table and address of what a manual numbers so, if it can.
    pub(super) fn numbered(number: u32) -> Option<(Self, u16)> {
        let (first, _, table) =
            NUMBERS.iter().find(|(first, last, _)| (first..=last).contains(&&number))?;
        Some((*table, u16::try_from(number.checked_sub(*first)?).ok()?))
    }

    /// The number that a manual gives this address: five digits where they do.
    /// Coils beyond the 9,999th have none.
    pub(super) fn number(self, address: u16) -> Option<u32> {
        let own = NUMBERS.iter().filter(|(_, _, table)| *table == self);
        own.map(|(first, last, _)| (first.saturating_add(address.into()), *last))
            .find(|(number, last)| number <= last)
            .map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_and_the_last_number_of_each_range_are_its_ends() {
        for (number, table, address) in [
            (1, Table::Coil, 0),
            (9_999, Table::Coil, 9_998),
            (10_001, Table::Discrete, 0),
            (19_999, Table::Discrete, 9_998),
            (30_001, Table::Input, 0),
            (39_999, Table::Input, 9_998),
            (40_001, Table::Holding, 0),
            (40_108, Table::Holding, 107),
            (49_999, Table::Holding, 9_998),
            (100_001, Table::Discrete, 0),
            (165_536, Table::Discrete, 65_535),
            (300_001, Table::Input, 0),
            (365_536, Table::Input, 65_535),
            (400_001, Table::Holding, 0),
            (465_536, Table::Holding, 65_535),
        ] {
            assert_eq!(Table::numbered(number), Some((table, address)), "{number}");
        }
    }

    #[test]
    fn what_lies_between_the_ranges_is_no_number_of_a_manual() {
        for number in [0, 10_000, 20_001, 30_000, 40_000, 50_000, 100_000, 165_537, 465_537] {
            assert_eq!(Table::numbered(number), None, "{number}");
        }
        assert_eq!(Table::numbered(u32::MAX), None);
        assert_eq!(Table::Coil.number(9_999), None);
    }

    proptest! {
        #[test]
        fn the_number_of_an_address_leads_back_to_it(
            table in prop::sample::select(&[Table::Discrete, Table::Input, Table::Holding][..]),
            address in any::<u16>(),
        ) {
            let number = table.number(address).unwrap();
            prop_assert_eq!(Table::numbered(number), Some((table, address)));
        }

        #[test]
        fn any_number_is_a_place_or_none(number in any::<u32>()) {
            if let Some((table, address)) = Table::numbered(number) {
                let digits = number.to_string();
                let table_digit = match table {
                    Table::Coil => "0",
                    Table::Discrete => "1",
                    Table::Input => "3",
                    Table::Holding => "4",
                };
                let entry = digits.strip_prefix(table_digit).unwrap_or(&digits);
                prop_assert_eq!(entry.parse(), Ok(u32::from(address) + 1));
            }
        }
    }
}
