//! Splits PTX text into tokens with positions.

use super::error::{LoadError, LoadErrorKind};

/// A place in the text: line and column from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name: registers, labels, opcodes, variables.
    Ident(&'a str),
    /// A word after a dot, without the dot: directives, modifiers, types, components.
    Dot(&'a str),
    /// An integer literal; `true` with the suffix `U`.
    Int(u64, bool),
    /// `0f…`: a 32-bit pattern.
    F32(u32),
    /// `0d…` or a decimal floating-point literal.
    F64(f64),
    /// A quoted string without its quotes.
    Str(&'a str),
    /// Any other single character.
    Punct(u8),
    /// The end of the text.
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Ident(s) => write!(f, "`{s}`"),
            Token::Dot(s) => write!(f, "`.{s}`"),
            Token::Int(v, _) => write!(f, "`{v}`"),
            Token::F32(v) => write!(f, "`0f{v:08X}`"),
            Token::F64(v) => write!(f, "`{v}`"),
            Token::Str(s) => write!(f, "\"{s}\""),
            Token::Punct(c) => write!(f, "`{}`", *c as char),
            Token::End => write!(f, "the end of the text"),
        }
    }
}

/// Makes a syntax error at a place.
pub(super) fn syntax(name: &str, at: Pos, message: impl Into<String>) -> LoadError {
    LoadError {
        name: name.to_owned(),
        line: at.line,
        column: at.column,
        kind: LoadErrorKind::Syntax,
        message: message.into(),
    }
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c == b'$'
}

/// Tokens of `text` with their places; the last is [`Token::End`].
///
/// # Errors
/// On an unterminated comment or string, a malformed number, or a character outside PTX.
pub fn tokenize<'a>(text: &'a str, name: &str) -> Result<Vec<(Token<'a>, Pos)>, LoadError> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(bytes.len() / 4);
    let (mut at, mut line, mut line_start) = (0usize, 1u32, 0usize);
    while at < bytes.len() {
        let c = bytes[at];
        let pos = Pos {
            line,
            column: (at - line_start + 1) as u32,
        };
        let start = at;
        match c {
            b'\n' => {
                line += 1;
                at += 1;
                line_start = at;
            }
            b' ' | b'\t' | b'\r' | 0x0b | 0x0c => at += 1,
            0 if bytes[at..].iter().all(|b| *b == 0) => break,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at += 2;
                loop {
                    match bytes.get(at) {
                        None => return Err(syntax(name, pos, "this comment has no end")),
                        Some(b'*') if bytes.get(at + 1) == Some(&b'/') => break,
                        Some(b'\n') => {
                            line += 1;
                            line_start = at + 1;
                        }
                        _ => {}
                    }
                    at += 1;
                }
                at += 2;
            }
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                if bytes.get(at) != Some(&b'"') {
                    return Err(syntax(
                        name,
                        pos,
                        "this string has no closing quote on its line",
                    ));
                }
                let Some(content) = text.get(start + 1..at) else {
                    return Err(syntax(name, pos, "this string is not valid text"));
                };
                tokens.push((Token::Str(content), pos));
                at += 1;
            }
            b'.' if fraction_end(bytes, at).is_some() => {
                let end = fraction_end(bytes, at).unwrap_or(at + 1);
                let value = text[at..end]
                    .parse()
                    .map_err(|_| syntax(name, pos, "this number is malformed or too large"))?;
                tokens.push((Token::F64(value), pos));
                at = end;
            }
            b'.' if bytes.get(at + 1).is_some_and(|c| is_word(*c)) => {
                at += 1;
                loop {
                    while bytes.get(at).is_some_and(|c| is_word(*c)) {
                        at += 1;
                    }
                    if bytes[at..].starts_with(b"::")
                        && bytes.get(at + 2).is_some_and(|c| is_word(*c))
                    {
                        at += 2;
                    } else {
                        break;
                    }
                }
                tokens.push((Token::Dot(&text[start + 1..at]), pos));
            }
            b'0'..=b'9' => {
                let (token, end) = number(text, at)
                    .ok_or_else(|| syntax(name, pos, "this number is malformed or too large"))?;
                at = end;
                tokens.push((token, pos));
            }
            b'%' | b'_' | b'$' | b'a'..=b'z' | b'A'..=b'Z' => {
                at += 1;
                while bytes.get(at).is_some_and(|c| is_word(*c)) {
                    at += 1;
                }
                tokens.push((Token::Ident(&text[start..at]), pos));
            }
            b'{' | b'}' | b'(' | b')' | b'[' | b']' | b'<' | b'>' | b',' | b';' | b':' | b'='
            | b'+' | b'-' | b'!' | b'@' | b'|' | b'*' | b'/' | b'&' | b'^' | b'~' | b'?' => {
                at += 1;
                tokens.push((Token::Punct(c), pos));
            }
            _ => {
                let shown = text
                    .get(at..)
                    .and_then(|t| t.chars().next())
                    .unwrap_or('\u{fffd}');
                return Err(syntax(
                    name,
                    pos,
                    format!("the character {shown:?} has no meaning in PTX"),
                ));
            }
        }
    }
    let column = (at.min(bytes.len()) - line_start.min(at) + 1) as u32;
    tokens.push((Token::End, Pos { line, column }));
    Ok(tokens)
}

/// The end of a number that starts with its point: `.5` or `.25e-3`, but not `.2d`, which is a modifier.
fn fraction_end(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = |from: usize| {
        from + bytes
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .count()
    };
    let mut end = digits(at + 1);
    if end == at + 1 {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        let exponent = end + 1 + usize::from(sign);
        end = digits(exponent);
        (end > exponent).then_some(())?;
    }
    (!bytes.get(end).is_some_and(|c| is_word(*c))).then_some(end)
}

/// The number that starts at `at`, and where it ends.
fn number(text: &str, at: usize) -> Option<(Token<'_>, usize)> {
    let bytes = text.as_bytes();
    let digits = |from: usize, ok: fn(&u8) -> bool| {
        bytes[from..].iter().take_while(|c| ok(c)).count() + from
    };
    let second = bytes.get(at + 1).copied().unwrap_or(0);
    let hex: fn(&u8) -> bool = u8::is_ascii_hexdigit;
    let with_suffix = |token: u64, end: usize| {
        let unsigned = bytes.get(end) == Some(&b'U');
        let end = end + usize::from(unsigned);
        (!bytes.get(end).is_some_and(|c| is_word(*c))).then_some((Token::Int(token, unsigned), end))
    };
    if bytes[at] == b'0' {
        match second {
            b'f' | b'F' => {
                let end = digits(at + 2, hex);
                return (end == at + 10).then(|| {
                    u32::from_str_radix(&text[at + 2..end], 16)
                        .ok()
                        .map(|v| (Token::F32(v), end))
                })?;
            }
            b'd' | b'D' => {
                let end = digits(at + 2, hex);
                return (end == at + 18).then(|| {
                    u64::from_str_radix(&text[at + 2..end], 16)
                        .ok()
                        .map(|v| (Token::F64(f64::from_bits(v)), end))
                })?;
            }
            b'x' | b'X' => {
                let end = digits(at + 2, hex);
                return with_suffix(u64::from_str_radix(&text[at + 2..end], 16).ok()?, end);
            }
            b'b' | b'B' => {
                let end = digits(at + 2, |c| matches!(c, b'0' | b'1'));
                return with_suffix(u64::from_str_radix(&text[at + 2..end], 2).ok()?, end);
            }
            _ => {}
        }
    }
    let mut end = digits(at, u8::is_ascii_digit);
    let fraction = bytes.get(end) == Some(&b'.')
        && !bytes.get(end + 1).is_some_and(|c| c.is_ascii_alphabetic());
    let exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
    if fraction || exponent {
        if fraction {
            end = digits(end + 1, u8::is_ascii_digit);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            end += 1;
            if matches!(bytes.get(end), Some(b'+' | b'-')) {
                end += 1;
            }
            end = digits(end, u8::is_ascii_digit);
        }
        return text[at..end].parse().ok().map(|v| (Token::F64(v), end));
    }
    let octal = bytes[at] == b'0' && end > at + 1;
    with_suffix(
        u64::from_str_radix(&text[at..end], if octal { 8 } else { 10 }).ok()?,
        end,
    )
}
