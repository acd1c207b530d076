//! The known key that an unknown one was probably meant to be.

/// The nearest of `known`, if it is near enough that a slip of the finger explains the difference.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the key's length wrong is no slip any more.
    let near_enough = (wrong.len() / 3).clamp(1, 4);
    let leaf = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let mut best: Option<(usize, &str)> = None;
    for key in known {
        // The right leaf in the wrong section counts as one slip.
        let distance = if leaf(key) == leaf(wrong) { 1 } else { distance(wrong, key) };
        if distance <= near_enough && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, key));
        }
    }
    best.map(|(_, key)| key)
}

/// Levenshtein's distance: characters to insert, delete or replace.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_nonsense_finds_none() {
        let known = ["kafka.brokers", "kafka.group_id", "batch.wait"];
        let nearest = |wrong| nearest(wrong, known.into_iter());
        assert_eq!(nearest("kafka.brokres"), Some("kafka.brokers"));
        assert_eq!(nearest("kafka.groupid"), Some("kafka.group_id"));
        assert_eq!(nearest("kafka.wait"), Some("batch.wait"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
