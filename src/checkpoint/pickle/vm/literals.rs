//! Python's ways to write integers and texts.

use crate::checkpoint::pickle::PickleNode;

/// An integer of any length from little-endian two's complement.
pub(super) fn integer(bytes: &[u8]) -> PickleNode {
    let negative = bytes.last().is_some_and(|&b| b >= 0x80);
    let filler = if negative { 0xff } else { 0 };
    // Redundant sign bytes do not make a number long.
    let mut significant = bytes.len();
    while significant > 8
        && bytes[significant - 1] == filler
        && (bytes[significant - 2] >= 0x80) == negative
    {
        significant -= 1;
    }
    if significant > 8 {
        return PickleNode::BigInt(bytes[..significant].into());
    }
    let mut value = [filler; 8];
    value[..significant].copy_from_slice(&bytes[..significant]);
    PickleNode::Int(i64::from_le_bytes(value))
}

/// The text of a Python 2 string literal such as `'a\n'`.
pub(super) fn unquote(line: &str) -> Option<String> {
    let line = line.trim();
    let quote = line.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = line[1..].strip_suffix(quote)?;
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next()? {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                text.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
            }
            other => text.push(other),
        }
    }
    Some(text)
}

/// The text of a raw-unicode-escape line: only `\uXXXX` and `\UXXXXXXXX` are special.
pub(super) fn unescape_unicode(line: &str) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\\u").into_iter().chain(rest.find("\\U")).min() {
        text.push_str(&rest[..at]);
        let digits = if rest[at..].starts_with("\\u") { 4 } else { 8 };
        let code = u32::from_str_radix(rest.get(at + 2..at + 2 + digits)?, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &rest[at + 2 + digits..];
    }
    text.push_str(rest);
    Some(text)
}
