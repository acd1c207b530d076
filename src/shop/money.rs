//! Money: integers in the currency's minor unit, summed with checks, never rounded.

use iso_currency::Currency;

/// Whether `code` is a currency of ISO 4217, in upper case.
#[must_use]
pub fn is_currency(code: &str) -> bool {
    Currency::from_code(code).is_some()
}

/// The sum of quantity × unit price over all lines; `None` if it, or a part of it, leaves int64.
#[must_use]
pub fn total(lines: impl IntoIterator<Item = (i64, i64)>) -> Option<i64> {
    lines.into_iter().try_fold(0_i64, |sum, (quantity, price)| sum.checked_add(quantity.checked_mul(price)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_currency, total};

    #[test]
    fn a_currency_is_an_upper_case_code_of_iso_4217() {
        for code in ["EUR", "USD", "JPY", "KWD"] {
            assert!(is_currency(code), "{code}");
        }
        for code in ["eur", "Eur", "EURO", "EU", "", "ABC", " EUR", "978", "ÉUR"] {
            assert!(!is_currency(code), "{code}");
        }
    }

    #[test]
    fn a_total_may_reach_the_end_of_int64_and_not_pass_it() {
        assert_eq!(total([(1, i64::MAX)]), Some(i64::MAX));
        assert_eq!(total([(1, i64::MAX), (1, 1)]), None);
        assert_eq!(total([(2, i64::MAX / 2 + 1)]), None);
        assert_eq!(total([]), Some(0));
    }

    proptest! {
        #[test]
        fn a_total_is_the_exact_sum_or_none(lines in prop::collection::vec((1..=1_i64 << 40, 0..=1_i64 << 40), 0..5)) {
            let exact: i128 = lines.iter().map(|(quantity, price)| i128::from(*quantity) * i128::from(*price)).sum();
            prop_assert_eq!(total(lines).map(i128::from), (exact <= i128::from(i64::MAX)).then_some(exact));
        }

        #[test]
        fn small_totals_are_never_lost(lines in prop::collection::vec((1..1000_i64, 0..1_000_000_i64), 0..100)) {
            let exact: i64 = lines.iter().map(|(quantity, price)| quantity * price).sum();
            prop_assert_eq!(total(lines), Some(exact));
        }
    }
}
