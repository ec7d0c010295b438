//! Names of samples, made of the paths of their files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

/// The id of each path: what follows `root`, with `/` between components, without its extension unless another path
/// differs in nothing else. Bytes that are not UTF-8 are written as `%XX`.
pub(super) fn ids_below(root: &Path, paths: &[&Path]) -> Vec<String> {
    let below = |path: &Path| {
        let inner = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<String> = inner
            .components()
            .map(|part| text_of(part.as_os_str()))
            .collect();
        parts.join("/")
    };
    let bare: Vec<String> = paths
        .iter()
        .map(|path| below(&path.with_extension("")))
        .collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for id in &bare {
        *uses.entry(id).or_default() += 1;
    }
    bare.iter()
        .zip(paths)
        .map(|(id, path)| {
            if uses[id.as_str()] > 1 {
                below(path)
            } else {
                id.clone()
            }
        })
        .collect()
}

fn text_of(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        for byte in chunk.invalid() {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_the_extension_keep_it() {
        let paths = ["/s/a/1.png", "/s/a/1.bmp", "/s/a/2.png"].map(Path::new);
        assert_eq!(
            ids_below(Path::new("/s"), &paths),
            ["a/1.png", "a/1.bmp", "a/2"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let paths =
            [&b"/s/x\xff.png"[..], b"/s/x\xfe.png"].map(|p| Path::new(OsStr::from_bytes(p)));
        assert_eq!(ids_below(Path::new("/s"), &paths), ["x%FF", "x%FE"]);
    }
}
