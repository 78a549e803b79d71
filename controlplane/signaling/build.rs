// SPDX-License-Identifier: Apache-2.0
//! Lists the files of `controlplane/web` for the binary: each is embedded, none is read at run time.
//!
//! It must never take in what is not for browsers: tests, type checkers' settings, hidden files, other folders.

use std::fmt::Write;
use std::path::Path;

/// Extensions of files that browsers load, and their content types.
const TYPES: [(&str, &str); 8] = [
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("ico", "image/x-icon"),
    ("woff2", "font/woff2"),
    ("webmanifest", "application/manifest+json"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../web").canonicalize()?;
    println!("cargo::rerun-if-changed={}", root.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&root)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        let is_page = !name.starts_with('.') && !stem.ends_with(".test") && path.is_file();
        let known = TYPES.iter().find(|(known, _)| *known == extension);
        if let Some((_, content_type)) = known.filter(|_| is_page) {
            found.push((name.to_owned(), *content_type, path.clone()));
        }
    }
    found.sort();
    let mut code = String::from("&[\n");
    for (name, content_type, path) in found {
        writeln!(
            code,
            "    Asset {{ path: {:?}, content_type: {content_type:?}, body: include_bytes!({path:?}) }},",
            format!("/{name}")
        )?;
    }
    code.push(']');
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("assets.rs"), code)?;
    Ok(())
}
