// SPDX-License-Identifier: Apache-2.0
//! Bencoding (BEP 3), which rtpengine's ng protocol is written in. It must never recurse deeper than a reply can mean.

use std::collections::BTreeMap;

/// A value. Integers are not needed on the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Bytes.
    Text(Vec<u8>),
    /// A whole number.
    Number(i64),
    /// A list.
    List(Vec<Self>),
    /// A dictionary, in order of its keys.
    Map(BTreeMap<String, Self>),
}

/// Lists in lists at most.
const DEPTH: usize = 32;

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(texts: &[&str]) -> Self {
        Self::List(texts.iter().map(|text| Self::text(text)).collect())
    }

    /// The text under a key of a dictionary.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Map(map) => match map.get(key)? {
                Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
                Self::Number(_) | Self::List(_) | Self::Map(_) => None,
            },
            Self::Text(_) | Self::Number(_) | Self::List(_) => None,
        }
    }

    /// Appends the encoded value.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(bytes) => write_bytes(bytes, out),
            Self::Number(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.write(out));
                out.push(b'e');
            }
            Self::Map(map) => {
                out.push(b'd');
                for (key, value) in map {
                    write_bytes(key.as_bytes(), out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }

    /// Reads a value; `None` if it is damaged.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        read(bytes, DEPTH).map(|(value, _)| value)
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

/// A value and what is behind it.
fn read(bytes: &[u8], depth: usize) -> Option<(Value, &[u8])> {
    let depth = depth.checked_sub(1)?;
    let (&first, mut rest) = bytes.split_first()?;
    match first {
        b'i' => {
            let (digits, rest) = until(rest, b'e')?;
            Some((Value::Number(digits.parse().ok()?), rest))
        }
        b'l' => {
            let mut values = Vec::new();
            while *rest.first()? != b'e' {
                let (value, more) = read(rest, depth)?;
                values.push(value);
                rest = more;
            }
            Some((Value::List(values), rest.get(1..)?))
        }
        b'd' => {
            let mut map = BTreeMap::new();
            while *rest.first()? != b'e' {
                let (key, more) = read_bytes(rest)?;
                let (value, more) = read(more, depth)?;
                map.insert(String::from_utf8_lossy(key).into_owned(), value);
                rest = more;
            }
            Some((Value::Map(map), rest.get(1..)?))
        }
        _ => read_bytes(bytes).map(|(text, rest)| (Value::Text(text.to_vec()), rest)),
    }
}

fn read_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = until(bytes, b':')?;
    rest.split_at_checked(len.parse().ok()?)
}

fn until(bytes: &[u8], end: u8) -> Option<(&str, &[u8])> {
    let at = bytes.iter().position(|byte| *byte == end)?;
    Some((std::str::from_utf8(bytes.get(..at)?).ok()?, bytes.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_as_it_was_written() {
        let map = BTreeMap::from([
            ("command".to_owned(), Value::text("ping")),
            ("flags".to_owned(), Value::texts(&["a", "b:c"])),
            ("n".to_owned(), Value::Number(-7)),
        ]);
        let value = Value::Map(map);
        let mut out = Vec::new();
        value.write(&mut out);
        assert_eq!(out, b"d7:command4:ping5:flagsl1:a3:b:ce1:ni-7ee");
        assert_eq!(Value::read(&out), Some(value.clone()));
        assert_eq!(value.get("command"), Some("ping"));
        assert!((0..out.len()).all(|len| Value::read(&out[..len]).is_none()), "cut anywhere");
        assert!(Value::read(&vec![b'l'; 100_000]).is_none(), "deeper than anything meant");
    }
}
