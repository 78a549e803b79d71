// SPDX-License-Identifier: Apache-2.0
//! Reading Rust text without a parser: what is code, what is comment, where the tests begin. Must never drop or add a
//! newline, so that line numbers in the results are those of the file.

/// The text with every comment and every string literal replaced by spaces.
pub(crate) fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let ident_before = out.chars().next_back().is_some_and(is_ident);
        match literal_len(rest, ident_before) {
            Some(len) => {
                let (literal, after) = rest.split_at(len);
                out.extend(literal.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = after;
            }
            None => {
                out.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

/// The length of the comment, string or character literal that `rest` begins with.
fn literal_len(rest: &str, ident_before: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_len(rest));
    }
    if rest.starts_with('"') {
        return Some(1 + quoted_len(rest.get(1..)?, '"'));
    }
    if rest.starts_with('\'') {
        return char_len(rest);
    }
    if ident_before {
        return None;
    }
    let prefix = ["br", "cr", "r", "b", "c"].into_iter().find(|p| {
        let after = rest.strip_prefix(p).unwrap_or_default().trim_start_matches('#');
        after.starts_with('"')
    })?;
    let after = rest.get(prefix.len()..)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    if prefix.contains('r') {
        let close = format!("\"{}", "#".repeat(hashes));
        let body = after.get(hashes + 1..)?;
        return Some(prefix.len() + hashes + 1 + body.find(&close).map_or(body.len(), |at| at + close.len()));
    }
    (hashes == 0).then(|| prefix.len() + 1 + quoted_len(after.get(1..).unwrap_or_default(), '"'))
}

/// The length of a quoted body with its closing quote, after the opening one.
fn quoted_len(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// The length of `'x'` or `'\n'`; `None` for a lifetime.
fn char_len(rest: &str) -> Option<usize> {
    let body = rest.get(1..)?;
    let mut chars = body.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        return Some(1 + quoted_len(body, '\''));
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(1 + at + 1)
}

/// The length of a block comment, which may hold others.
fn block_comment_len(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|t| !t.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The code with every `#[cfg(test)]` module replaced by empty lines.
pub(crate) fn without_test_modules(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    for (line, is_test) in code.lines().zip(test_lines(code)) {
        if !is_test {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// For each line of `code`, whether it belongs to a `#[cfg(test)]` module. Reads rustfmt's layout: the attribute and the
/// closing brace of such a module stand at the same column.
pub(crate) fn test_lines(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut mask = vec![false; lines.len()];
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let len = if is_test_attribute(line.trim()) { test_module_len(lines.get(at..).unwrap_or_default()) } else { 0 };
        mask.iter_mut().skip(at).take(len).for_each(|is_test| *is_test = true);
        at += len.max(1);
    }
    mask
}

/// How many lines the test module takes that begins with the attribute in the first line; 0 when it is no module.
fn test_module_len(lines: &[&str]) -> usize {
    let indent = lines.first().map_or(0, |l| l.len() - l.trim_start().len());
    let Some(head) = lines.iter().skip(1).position(|l| !is_attribute_line(l.trim())).map(|at| at + 1) else { return 0 };
    let Some(item) = lines.get(head).map(|l| l.trim()) else { return 0 };
    let is_module = item.starts_with("mod ") || (item.starts_with("pub") && item.contains(" mod "));
    if !is_module {
        return 0;
    }
    if item.ends_with(';') || item.ends_with('}') {
        return head + 1;
    }
    let closes = |l: &&str| l.trim_end().len() == indent + 1 && l.trim() == "}";
    lines.iter().skip(head).position(closes).map_or(lines.len(), |at| head + at + 1)
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test,") || line.starts_with("#[cfg(any(test,")
}

fn is_attribute_line(line: &str) -> bool {
    line.starts_with("#[") || line.starts_with("//") || line.is_empty()
}

/// Every place where `word` stands alone in `code`, as a byte offset.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code.get(..*at).and_then(|s| s.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(is_ident) && !after.is_some_and(is_ident)
    })
}

/// The line of a byte offset, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

pub(crate) fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let code = code_only("let a = \"unsafe\"; // unsafe\n/* unsafe /* nested */ unsafe */ b();\n");
        assert!(!code.contains("unsafe"));
        assert!(code.contains("let a =") && code.contains("b();"));
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn raw_strings_end_at_their_own_quote() {
        let code = code_only("x(r#\"a \" unsafe\"#, br\"unsafe\\\", b\"unsafe\\\"\", c\"unsafe\"); unsafe");
        assert_eq!(words(&code, "unsafe").count(), 1);
    }

    #[test]
    fn lifetimes_are_not_character_literals() {
        let code = code_only("fn f<'a>(x: &'a str) -> char { if x == \"\" { '\"' } else { '\\'' } } unsafe");
        assert_eq!(words(&code, "unsafe").count(), 1);
        assert!(code.contains("fn f<'a>(x: &'a str)"));
    }

    #[test]
    fn escapes_do_not_end_a_string() {
        assert!(!code_only(r#"f("a\"unsafe\\"); g()"#).contains("unsafe"));
        assert!(code_only(r#"f("a\"unsafe\\"); g()"#).contains("g()"));
    }

    #[test]
    fn words_stand_alone() {
        let at: Vec<usize> = words("unsafe_code unsafe notunsafe unsafe{", "unsafe").collect();
        assert_eq!(at, vec![12, 29]);
    }

    #[test]
    fn test_modules_are_cut_out_and_line_numbers_stay() {
        let text = "a\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n    fn t() {\n    }\n}\nb\n#[cfg(test)]\nmod t;\nc\n";
        let cut = without_test_modules(text);
        assert_eq!(cut.lines().count(), text.lines().count());
        assert_eq!(cut.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_test_attribute_on_something_else_hides_nothing() {
        let text = "#[cfg(test)]\nuse x::y;\nfn production() {}\n";
        assert!(without_test_modules(text).contains("production"));
    }
}
