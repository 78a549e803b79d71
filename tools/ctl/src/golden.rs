// SPDX-License-Identifier: Apache-2.0
//! Tests against committed text; `BLESS=1` writes it anew.

/// Compares, or writes.
pub(crate) fn compare(path: &str, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == text, "{path} differs; BLESS=1 writes it anew. Rendered:\n{text}");
}
