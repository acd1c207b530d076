//! A set of numbers, small where they lie close together: a bit each, in blocks that are only there if one is set.

use std::collections::BTreeMap;

/// Words of one block.
const WORDS: usize = 64;
/// Numbers of one block.
const WIDTH: i64 = 64 * 64;

/// A set of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(BTreeMap<i64, Box<[u64; WORDS]>>);

impl Bits {
    /// Adds a number. Whether it is new.
    pub(super) fn add(&mut self, number: i64) -> bool {
        let (block, word, bit) = place(number);
        let words = self.0.entry(block).or_insert_with(|| Box::new([0; WORDS]));
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }

    /// Whether a number is in it.
    pub(super) fn has(&self, number: i64) -> bool {
        let (block, word, bit) = place(number);
        self.0.get(&block).is_some_and(|words| words[word] & bit != 0)
    }

    /// The first number from `first` to `last` that is not in it.
    pub(super) fn first_missing(&self, first: i64, last: i64) -> Option<i64> {
        let mut number = first;
        while number <= last {
            if !self.0.contains_key(&number.div_euclid(WIDTH)) || !self.has(number) {
                return Some(number);
            }
            number += 1;
        }
        None
    }
}

fn place(number: i64) -> (i64, usize, u64) {
    let within = usize::try_from(number.rem_euclid(WIDTH)).unwrap_or_default();
    (number.div_euclid(WIDTH), within / 64, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn the_first_number_that_is_missing_is_found() {
        let mut bits = Bits::default();
        assert!((1..=10_000).all(|number| bits.add(number)));
        assert!(!bits.add(7) && bits.has(10_000) && !bits.has(0) && !bits.has(-1));
        assert_eq!(bits.first_missing(1, 10_000), None);
        assert_eq!(bits.first_missing(1, i64::MAX), Some(10_001));
        assert_eq!(bits.first_missing(-5, 3), Some(-5));
    }
}
