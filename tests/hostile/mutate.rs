//! Mutations of bytes: what has broken parsers before, and noise.

use crate::dice::Dice;

/// Texts that stand for a value in JSON, and rarely fit.
const VALUES: &[&str] = &[
    "1e400",
    "-1e400",
    "1e-400",
    "-0",
    "0.1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "123456789012345678901234567890123456789012345678901234567890",
    "0000001",
    "NaN",
    "Infinity",
    "null",
    "true",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\u202e\"",
    "[]",
    "{}",
    "[[[[[[]]]]]]",
    "{\"a\":{\"a\":{\"a\":1}}}",
    "{\"a\":1,\"a\":2}",
];

/// Pieces that stand anywhere.
const PIECES: &[&[u8]] = &[
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\0",
    b"\r\n",
    b"\\u0000",
    b"//",
    b",",
    b"\"",
    b"{",
    b"}",
    b"\xf4\x90\x80\x80",
    b"\x1b[2J",
];

/// Changes bytes a few times.
pub fn bytes(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(4) {
        once(dice, bytes);
    }
}

fn once(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() + 1);
    let upto = (at + dice.below(24)).min(bytes.len());
    match dice.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = u8::try_from(dice.below(256)).expect("a byte"),
        2 => {
            bytes.drain(at..upto);
        }
        3 => {
            let copy = bytes[at..upto].to_vec();
            let to = dice.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        4 => bytes.truncate(at),
        5 => {
            let piece = PIECES[dice.below(PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        6 => nest(dice, bytes, at),
        _ => value(dice, bytes),
    }
}

/// Deep nesting: a parser that recurses must have a bound.
fn nest(dice: &mut Dice, bytes: &mut Vec<u8>, at: usize) {
    let depth = if dice.one_in(50) { 100_000 } else { 1 << dice.below(9) };
    let (open, close) = if dice.one_in(2) { (&b"["[..], &b"]"[..]) } else { (&b"{\"a\":"[..], &b"}"[..]) };
    let mut nested = open.repeat(depth);
    nested.push(b'1');
    if !dice.one_in(3) {
        nested.extend(close.repeat(depth));
    }
    bytes.splice(at..at, nested);
}

/// Puts another value behind a colon.
fn value(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let colons: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at).collect();
    if colons.is_empty() {
        return;
    }
    let at = colons[dice.below(colons.len())] + 1;
    let end = bytes[at..].iter().position(|byte| b",}]".contains(byte)).map_or(bytes.len(), |length| at + length);
    bytes.splice(at..end, VALUES[dice.below(VALUES.len())].bytes());
}
